"""FleetTrainingJob: one fleet, one learner, one shared policy."""

from enum import StrEnum
from types import MappingProxyType

from pydantic import Field
from pydantic.config import JsonDict

from fleet_contract import names
from fleet_contract.names import Kind
from fleet_contract.resources.base import (
    Column,
    Resource,
    Spec,
    cel,
)
from fleet_contract.resources.experience import Experience
from fleet_contract.resources.fleet import Robots
from fleet_contract.resources.job_status import FleetTrainingJobStatus
from fleet_contract.resources.learning import (
    AlgorithmSpec,
    Learner,
    Offline,
    PolicySpec,
    Publish,
    Sampler,
    Task,
)
from fleet_contract.resources.rollout import Rollout

_NEW_RUN: JsonDict = {"x-fleet-change": "new run"}
_IMMUTABLE: JsonDict = {"x-fleet-change": "immutable"}


class Nats(Spec):
    """The message plane."""

    url: str = Field(
        default="",
        max_length=512,
        description="NATS servers, separated by commas; empty: the operator's default.",
    )


class SecretReference(Spec):
    """A Secret in the job's namespace."""

    name: str = Field(
        default="",
        max_length=253,
        pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$",
        description="Name of the Secret; empty: the operator's default.",
    )


class Storage(Spec):
    """The object store."""

    url: str = Field(
        default="", max_length=1024, description="fsspec URL; empty: the operator's default."
    )
    secret_ref: SecretReference = Field(
        default=SecretReference(),
        description="A Secret of the job's namespace whose keys become environment variables of "
        "learner, gates and clerk; for s3:// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
        "AWS_ENDPOINT_URL and AWS_REGION. While it is missing, the pods wait for it. Simulated "
        "robots get them too, unless the store is s3://: there the clerk lets them in.",
        json_schema_extra=_NEW_RUN,
    )


class Transport(Spec):
    """How data and policies travel."""

    nats: Nats = Field(default=Nats(), description="The message plane.")
    storage: Storage = Field(default=Storage(), description="The object store.")
    experience: Experience = Field(
        default=Experience(),
        description="When robots send what they live through.",
        json_schema_extra=_NEW_RUN,
    )


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

    versions: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="PolicyVersions kept, and their files in the store; what is at work stays.",
    )


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
        description="Whether PolicyVersions go with their job (Delete) or stay (Retain): those "
        "that are made while it says so, so name it before the first.",
    )
    rules = (
        cel("self.policy == oldSelf.policy", "policy is immutable: apply a new job for a new one"),
        cel(
            "self.transport.nats == oldSelf.transport.nats"
            " && self.transport.storage.url == oldSelf.transport.storage.url",
            "transport is immutable, but for its Secret and experience: apply a new job",
        ),
        cel("self.tasks.exists(t, t.weight > 0.0)", "at least one task needs a weight above 0"),
        cel(
            "!has(self.rollout.gates.simulation) || self.rollout.gates.simulation.tasks.all("
            "one, self.tasks.exists(t, t.name == one))",
            "each must be the name of one of the job's tasks",
            ".rollout.gates.simulation.tasks",
        ),
    )


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
        Column("Goal", ".spec.goal.successRate", "number", priority=1),
        Column("Stage", ".status.learner.stage", priority=1),
        Column("Step", ".status.learner.step", "integer", priority=1),
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
