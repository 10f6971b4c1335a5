"""RobotActor: who a robot is and what it is doing."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fleet_contract import names
from fleet_contract.names import Kind
from fleet_contract.resources.base import Column, Name, Resource, Spec, Status, cel
from fleet_contract.resources.rollout import VersionRef

Group = Annotated[str, Field(pattern=names.NAME_PATTERN, max_length=63)]


class RobotMode(StrEnum):
    """Whether the operator runs the robot as a pod or it runs by itself."""

    SIMULATED = "Simulated"
    EXTERNAL = "External"


class Link(StrEnum):
    """What the robot's network costs."""

    NORMAL = "Normal"
    METERED = "Metered"


class Guard(Spec):
    """What a robot's guard allows a policy, on its way to the motors."""

    inference_periods: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="Control periods within which a policy must have answered while the robot "
        "moves; from then on it holds its last action, and that is a trip. A policy that thinks "
        "for longer than a period needs more. A simulator waits for its robot, which is not timed.",
    )
    max_step: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Most that an action may differ from the one before, as a share of its range; "
        "unset: by any amount.",
    )
    trips_per_episode: int = Field(
        default=3, ge=1, le=10_000, description="Trips with which an episode is aborted."
    )
    trips_per_policy: int = Field(
        default=6,
        ge=1,
        le=100_000,
        description="Trips with which the version that drives is taken back.",
    )


class RobotActorSpec(Spec):
    """Who the robot is."""

    job: Name = Field(
        description="Name of the FleetTrainingJob this robot works for, in the same namespace.",
        json_schema_extra={"x-fleet-change": "immutable"},
    )
    mode: RobotMode = Field(
        default=RobotMode.EXTERNAL,
        description="Simulated robots get a pod from the operator; External ones connect "
        "by themselves.",
        json_schema_extra={"x-fleet-change": "immutable"},
    )
    site: str = Field(default="", max_length=63, description="Where it stands; a label for steps.")
    groups: list[Group] = Field(
        default=[], max_length=16, description="Groups it belongs to; labels for steps."
    )
    pin: int | None = Field(
        default=None, ge=1, description="Sequence this robot runs, whatever the rollout says."
    )
    suspend: bool = Field(
        default=False, description="Take the robot out of work; a simulated one loses its pod."
    )
    link: Link = Field(
        default=Link.NORMAL,
        description="Metered: once it has a policy, it takes newer ones as deltas only and waits "
        "for one that it can take so; Normal: it takes whichever is fewer bytes.",
    )
    control_hz: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Control steps per second of this robot's time; unset: "
        "spec.robots.simulated.controlHz of its job, which is what its policy learns at.",
    )
    guard: Guard = Field(default=Guard(), description="What its guard allows a policy.")
    seed: int = Field(
        default=0, ge=0, description="Seed of a simulated robot's world and its scripted human."
    )
    rules = (
        cel("self.job == oldSelf.job", "job is immutable: delete the robot and enroll it anew"),
        cel("self.mode == oldSelf.mode", "mode is immutable: delete the robot and enroll it anew"),
    )


class RobotActorStatus(Status):
    """What the robot last said; written when its meaning changes, not at each heartbeat."""

    phase: str = Field(default="", max_length=32, description="One word for people.")
    active: VersionRef | None = Field(
        default=None, description="The version it runs; beyond 75 robots told in turn."
    )
    pending: VersionRef | None = Field(
        default=None, description="The version it holds ready for its next episode."
    )
    last_seen: str | None = Field(
        default=None,
        description="About when its last heartbeat came, in RFC 3339; an old one is no sign of "
        "silence, which condition Connected tells.",
    )
    episodes: int = Field(default=0, description="Episodes since the agent started.")
    success_rate: str = Field(
        default="", max_length=8, description="Share of its recent judged episodes that succeeded."
    )
    intervention_rate: str = Field(
        default="", max_length=8, description="Share of its recent episodes with a takeover."
    )
    spool_depth: int = Field(default=0, description="Records that wait on its disk.")
    last_known_good: VersionRef | None = Field(
        default=None, description="The version to which it goes back by itself."
    )
    guard_trips: int = Field(
        default=0, description="Actions and chunks its guard held back since the agent started."
    )
    template_hash: str = Field(
        default="", max_length=64, description="Hash of the pod template it runs."
    )


class RobotActor(Resource):
    """One robot of a fleet."""

    kind_name = Kind.ROBOT_ACTOR
    summary = "A robot: the job it works for, how it connects, and what it is doing now."
    columns = (
        Column("Job", ".spec.job"),
        Column("Mode", ".spec.mode"),
        Column("Phase", ".status.phase"),
        Column("Policy", ".status.active.sequence", "integer"),
        Column("Success", ".status.successRate"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )
    selectable = (".spec.job",)

    spec: RobotActorSpec = Field(description="Who the robot is.")
    status: RobotActorStatus = Field(
        default=RobotActorStatus(), description="What the operator knows of it."
    )
