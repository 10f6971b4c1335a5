"""FleetTrainingJob: one fleet, one learner, one shared policy."""

from enum import StrEnum
from types import MappingProxyType

from pydantic import Field
from pydantic.config import JsonDict

from fleet_contract import names
from fleet_contract.names import Kind
from fleet_contract.resources.base import (
    Column,
    Duration,
    FreeForm,
    Model,
    Name,
    Quantity,
    Resource,
    Spec,
    Status,
    cel,
)
from fleet_contract.resources.rollout import Rollout, RolloutStatus, VersionRef

_NEW_RUN: JsonDict = {"x-fleet-change": "new run"}
_IMMUTABLE: JsonDict = {"x-fleet-change": "immutable"}


class Environment(Spec):
    """The world a task lives in."""

    name: str = Field(
        default="metaworld",
        max_length=63,
        description="Adapter, as registered under the entry point fleetloop.environments.",
    )
    task: str = Field(
        default="", max_length=128, description="The adapter's name for the task; default: name."
    )


class Task(Spec):
    """One skill of the shared policy."""

    name: Name = Field(description="Name of the task, unique in the job.")
    instruction: str = Field(
        default="", max_length=512, description="What a person would tell the robot to do."
    )
    weight: float = Field(
        default=1.0,
        ge=0,
        description="Share of training and of robot time, relative to the others.",
    )
    environment: Environment = Field(
        default=Environment(), description="The world in which simulated robots do it."
    )


class AlgorithmSpec(Spec):
    """How experience becomes a better policy."""

    name: str = Field(
        default="hg-dagger",
        max_length=63,
        description="Algorithm, as registered under the entry point fleetloop.algorithms.",
    )
    parameters: FreeForm = Field(
        default={}, description="The algorithm's own parameters; it refuses those it does not know."
    )


class InitialPolicy(Spec):
    """Where the weights come from."""

    uri: str = Field(
        default="", max_length=1024, description="A bundle to start from; empty: from scratch."
    )


class PolicySpec(Spec):
    """The network."""

    architecture: str = Field(default="flow", max_length=63, description="Registered architecture.")
    parameters: FreeForm = Field(default={}, description="The architecture's own parameters.")
    initial: InitialPolicy = Field(default=InitialPolicy(), description="Where weights come from.")


class Dataset(Spec):
    """Demonstrations from before the fleet ran."""

    uri: str = Field(
        min_length=1,
        max_length=1024,
        description="Folder of episode files: an fsspec URL, or a folder of the job's own store.",
    )


class Offline(Spec):
    """The supervised stage, before the first version is published."""

    datasets: list[Dataset] = Field(
        default=[], max_length=64, description="Data the offline side of the sampler draws from."
    )
    steps: int = Field(
        default=2000, ge=0, description="Updates on these data alone before robots get a policy."
    )


class Sampler(Spec):
    """SOP's adaptive mix of online and offline data (arXiv 2601.03044)."""

    alpha: float = Field(
        default=2.0, ge=1, le=100, description="Sharpness of the loss-driven online weight."
    )
    window: int = Field(
        default=200, ge=1, le=100_000, description="Updates over which losses are averaged."
    )
    min_online: float = Field(default=0.2, ge=0, le=1, description="Least online share of a task.")
    max_online: float = Field(default=0.8, ge=0, le=1, description="Greatest online share.")
    rules = (
        cel("self.minOnline <= self.maxOnline", "minOnline must not be greater than maxOnline"),
    )


class Resources(Spec):
    """Requests and limits, as in any container."""

    requests: dict[str, Quantity] = Field(
        default={}, max_length=16, description="What the scheduler sets aside."
    )
    limits: dict[str, Quantity] = Field(
        default={}, max_length=16, description="What the container may use at most."
    )


class Checkpoint(Spec):
    """How often the learner saves itself."""

    interval: Duration = Field(default="30s", description="Time between two checkpoints.")
    keep: int = Field(default=2, ge=1, le=100, description="Checkpoints kept.")


class Learner(Spec):
    """The learner's pod and pace."""

    image: str = Field(
        default="fleetloop-learner:latest", max_length=512, description="Container image."
    )
    replicas: int = Field(default=1, ge=1, le=1, description="Ranks of the learner; one, for now.")
    batch_size: int = Field(default=256, ge=1, le=65_536, description="Chunks in one update.")
    updates_per_episode: float = Field(
        default=0,
        ge=0,
        description="Most updates per online episode, so that a fast learner does not overfit "
        "what slow robots bring; 0: no limit.",
    )
    resources: Resources = Field(default=Resources(), description="Requests and limits.")
    pod_overrides: FreeForm = Field(
        default={}, description="Merged into the pod's spec: node selectors, tolerations, volumes."
    )
    checkpoint: Checkpoint = Field(default=Checkpoint(), description="How often it saves itself.")


class Publish(Spec):
    """When a new version leaves the learner; SOP publishes every 25 updates."""

    every_steps: int = Field(default=25, ge=1, description="Updates between two versions.")
    min_interval: Duration = Field(default="5s", description="Least time between two versions.")


class Interventions(Spec):
    """When the scripted human of a simulated robot takes over."""

    scheduled: float = Field(
        default=0.5, ge=0, le=1, description="Share of episodes with one takeover at a random step."
    )
    stall_steps: int = Field(
        default=25,
        ge=0,
        le=100_000,
        description="Steps without progress before the human steps in; 0: never.",
    )


class Simulated(Spec):
    """Robots the operator makes by itself."""

    replicas: int = Field(default=0, ge=0, le=10_000, description="How many simulated robots.")
    image: str = Field(
        default="fleetloop-robot:latest", max_length=512, description="Container image."
    )
    control_hz: float = Field(
        default=20.0, gt=0, le=10_000, description="Control steps per second of robot time."
    )
    time_scale: float = Field(
        default=1.0, gt=0, le=1000, description="Robot seconds per wall-clock second."
    )
    interventions: Interventions = Field(
        default=Interventions(), description="When the scripted human takes over."
    )
    resources: Resources = Field(default=Resources(), description="Requests and limits.")
    pod_overrides: FreeForm = Field(
        default={}, description="Merged into the pod's spec: node selectors, tolerations, volumes."
    )


class Robots(Spec):
    """The fleet, as far as the job makes it."""

    simulated: Simulated = Field(
        default=Simulated(), description="Simulated robots; real ones are RobotActors of their own."
    )


class Nats(Spec):
    """The message plane."""

    url: str = Field(
        default="", max_length=512, description="NATS server; empty: the operator's default."
    )


class Storage(Spec):
    """The object store."""

    url: str = Field(
        default="", max_length=1024, description="fsspec URL; empty: the operator's default."
    )


class Transport(Spec):
    """How data and policies travel."""

    nats: Nats = Field(default=Nats(), description="The message plane.")
    storage: Storage = Field(default=Storage(), description="The object store.")


class Goal(Spec):
    """When the job is done; without a goal it goes on."""

    success_rate: float | None = Field(
        default=None, ge=0, le=1, description="Autonomous success every task must reach."
    )
    min_episodes: int = Field(
        default=20, ge=1, le=100_000, description="Latest judged episodes a task is measured on."
    )


class History(Spec):
    """What is kept."""

    versions: int = Field(default=10, ge=1, le=1000, description="PolicyVersions kept.")


class DeletionPolicy(StrEnum):
    """What becomes of PolicyVersions when their job is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class FleetTrainingJobSpec(Spec):
    """What to learn, on which fleet, and how versions reach it."""

    tasks: list[Task] = Field(
        min_length=1,
        max_length=64,
        description="The skills one shared policy learns.",
        json_schema_extra=_NEW_RUN
        | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    algorithm: AlgorithmSpec = Field(
        default=AlgorithmSpec(),
        description="How experience becomes a better policy.",
        json_schema_extra=_NEW_RUN,
    )
    policy: PolicySpec = Field(
        default=PolicySpec(), description="The network.", json_schema_extra=_IMMUTABLE
    )
    offline: Offline = Field(
        default=Offline(), description="The supervised stage.", json_schema_extra=_NEW_RUN
    )
    sampler: Sampler = Field(
        default=Sampler(),
        description="The mix of online and offline data.",
        json_schema_extra=_NEW_RUN,
    )
    learner: Learner = Field(
        default=Learner(), description="The learner's pod and pace.", json_schema_extra=_NEW_RUN
    )
    publish: Publish = Field(
        default=Publish(), description="When a version leaves.", json_schema_extra=_NEW_RUN
    )
    robots: Robots = Field(default=Robots(), description="The fleet the job makes by itself.")
    rollout: Rollout = Field(default=Rollout(), description="How versions reach the fleet.")
    transport: Transport = Field(
        default=Transport(), description="How data travel.", json_schema_extra=_IMMUTABLE
    )
    goal: Goal = Field(default=Goal(), description="When the job is done.")
    suspend: bool = Field(default=False, description="Stop the learner and the simulated robots.")
    history: History = Field(default=History(), description="What is kept.")
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.DELETE,
        description="Whether PolicyVersions go with their job (Delete) or stay (Retain).",
    )
    rules = (
        cel("self.policy == oldSelf.policy", "policy is immutable: apply a new job for a new one"),
        cel("self.transport == oldSelf.transport", "transport is immutable: apply a new job"),
        cel("self.tasks.exists(t, t.weight > 0.0)", "at least one task needs a weight above 0"),
    )


class RobotsStatus(Model):
    """The fleet in numbers."""

    desired: int = Field(default=0, description="RobotActors of this job that are not suspended.")
    connected: int = Field(default=0, description="Of these, how many were heard of lately.")
    synced: int = Field(default=0, description="Of these, how many run what they are assigned.")


class LearnerStatus(Model):
    """The learner's current run."""

    run: int = Field(default=0, description="Number of the run; each is a batch/v1 Job.")
    spec_hash: str = Field(default="", max_length=64, description="What the run was made from.")
    stage: str = Field(default="", max_length=32, description="What the learner is doing.")
    step: int = Field(default=0, description="Updates so far, about.")
    epoch: int = Field(default=0, description="Epoch of the learner last heard of.")


class TaskStatus(Model):
    """How one task fares, over its latest judged episodes."""

    name: str = Field(max_length=63, description="The task.")
    episodes: int = Field(default=0, description="Judged episodes it is measured on.")
    success_rate: str = Field(default="", max_length=8, description="Autonomous success rate.")


class AssignmentStatus(Model):
    """The last assignment document, so that its epoch survives a lost broker."""

    term: int = Field(default=0, description="The operator's term.")
    generation: int = Field(default=0, description="Raised by people to recover a lost stream.")
    epoch: int = Field(default=0, description="Grows with every document.")
    content_hash: str = Field(default="", max_length=64, description="What the document says.")


class FleetTrainingJobStatus(Status):
    """Where the job stands."""

    phase: str = Field(default="", max_length=32, description="One word for people.")
    replicas: int = Field(default=0, description="Simulated robots there are; for kubectl scale.")
    selector: str = Field(
        default="", max_length=256, description="Label selector of their pods; for kubectl scale."
    )
    robots: RobotsStatus = Field(default=RobotsStatus(), description="The fleet in numbers.")
    learner: LearnerStatus = Field(default=LearnerStatus(), description="The current run.")
    stable: VersionRef | None = Field(default=None, description="The version the fleet runs.")
    rollout: RolloutStatus = Field(default=RolloutStatus(), description="The rollout in progress.")
    rolled_back: list[int] = Field(
        default=[], max_length=1000, description="Sequences taken back; never assigned again."
    )
    last_sequence: int = Field(default=0, description="Newest sequence ever made a candidate.")
    assignment: AssignmentStatus = Field(
        default=AssignmentStatus(), description="The last assignment document."
    )
    tasks: list[TaskStatus] = Field(
        default=[],
        max_length=64,
        description="How each task fares.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    success_rate: str = Field(
        default="", max_length=8, description="Mean autonomous success over the tasks."
    )
    episodes: int = Field(default=0, description="Episodes the fleet has reported, about.")


class FleetTrainingJob(Resource):
    """One fleet, one learner, one shared policy."""

    kind_name = Kind.TRAINING_JOB
    summary = "A policy under post-training: its tasks, its learner, its fleet and its rollout."
    columns = (
        Column("Phase", ".status.phase"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Policy", ".status.stable.sequence", "integer"),
        Column("Candidate", ".status.rollout.candidate.sequence", "integer"),
        Column("Robots", ".status.robots.connected", "integer"),
        Column("Success", ".status.successRate"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )
    name_max = names.JOB_NAME_MAX
    scale = MappingProxyType(
        {
            "specReplicasPath": ".spec.robots.simulated.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    )

    spec: FleetTrainingJobSpec = Field(description="What to learn, on which fleet, and how.")
    status: FleetTrainingJobStatus = Field(
        default=FleetTrainingJobStatus(), description="Where the job stands."
    )
