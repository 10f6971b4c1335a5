"""How a version reaches the fleet: what people ask for and what the operator reports."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.messages import Digest
from fleet_contract.resources.analysis import Analysis
from fleet_contract.resources.base import Duration, Model, Spec, cel
from fleet_contract.resources.gates import Gates, GateStatus
from fleet_contract.resources.schedule import (
    Approval,
    OnDeadline,
    PostPromotion,
    Selector,
    Window,
)


class RolloutMode(StrEnum):
    """Who decides that a version goes on."""

    AUTO = "Auto"
    MANUAL = "Manual"
    PINNED = "Pinned"


class Strategy(StrEnum):
    """Everyone at once, or in checked stages."""

    BROADCAST = "Broadcast"
    STAGED = "Staged"


class Step(Spec):
    """One stage: exactly these robots run the candidate, until there is this much evidence."""

    robots: int | None = Field(
        default=None, ge=1, le=100_000, description="How many robots run the candidate."
    )
    percent: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Share of the robots that may run it, rounded up; it follows the fleet.",
    )
    selector: Selector = Field(
        default=Selector(),
        description="Which robots the stage is chosen from; the others run the stable version. "
        "Without one: the whole fleet.",
    )
    min_episodes: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Judged episodes of the candidate cohort before the stage may pass.",
    )
    soak: Duration = Field(
        default="0s",
        description="Least time in the stage, whatever the episodes say; a pause does not count.",
    )
    deadline: Duration | None = Field(
        default=None,
        description="Time after which a stage that has not passed ends as onDeadline says; a "
        "pause does not count, nor does spec.suspend while no robot is at work.",
    )
    on_deadline: OnDeadline = Field(
        default=OnDeadline.FREEZE,
        description="Freeze keeps the robots as they are until somebody requests skip, resume or "
        "abort; RollBack takes the version back.",
    )
    rules = (
        cel(
            "has(self.robots) != has(self.percent)",
            "a step takes exactly one of robots and percent",
        ),
    )


class Rollout(Spec):
    """The rollout intent; Git owns it, the operator never writes it."""

    mode: RolloutMode = Field(
        default=RolloutMode.AUTO,
        description="Auto follows the learner, Manual waits for a promote request, "
        "Pinned holds pinnedVersion.",
    )
    pinned_version: int | None = Field(
        default=None, ge=1, description="Sequence every robot runs while mode is Pinned."
    )
    strategy: Strategy = Field(
        default=Strategy.STAGED,
        description="Broadcast gives each version to all robots at once; Staged goes by steps.",
    )
    steps: list[Step] = Field(
        default=[Step(robots=1)],
        min_length=1,
        max_length=16,
        description="The stages of a Staged rollout; after the last one comes the whole fleet.",
    )
    analysis: Analysis = Field(
        default=Analysis(), description="What a candidate must show in every stage."
    )
    gates: Gates = Field(
        default=Gates(),
        description="Checks before the first stage, or before the whole fleet where there is none.",
    )
    approval: Approval = Field(
        default=Approval.NEVER,
        description="Whether a version waits for the request approve before a robot runs it: "
        "Never, First (the job's first version) or Always.",
    )
    windows: list[Window] = Field(
        default=[],
        max_length=16,
        description="When stages may begin and versions be promoted: while any of these is open. "
        "Taking back is always allowed. Without one: at any time.",
    )
    post_promotion: PostPromotion = Field(
        default=PostPromotion(),
        description="The watch after a promotion, by the same analysis; a bad verdict returns the "
        "fleet to the version before.",
    )
    paused: bool = Field(
        default=False, description="Freeze the fleet: nobody takes a new version up."
    )
    rules = (
        cel(
            "self.mode != 'Pinned' || has(self.pinnedVersion)",
            "mode Pinned needs pinnedVersion, the sequence to hold",
        ),
    )


class RolloutPhase(StrEnum):
    """Where the job's current rollout stands."""

    IDLE = "Idle"
    WAITING = "Waiting"
    GATED = "Gated"
    STAGED = "Staged"
    FROZEN = "Frozen"
    WATCHING = "Watching"
    PAUSED = "Paused"


class VersionRef(Model):
    """A published version, as status tells of it."""

    name: str = Field(description="Name of the PolicyVersion.")
    sequence: int = Field(description="Sequence number the learner gave it.")
    digest: Digest = Field(description="Digest of its manifest.")
    uri: str = Field(description="Key of its manifest in the job's object store.")


class RolloutStatus(Model):
    """The rollout in progress; enough to go on from after the operator's death."""

    phase: RolloutPhase = Field(
        default=RolloutPhase.IDLE,
        description="Idle; Waiting: a version is there that may not begin yet; Gated: it is at its "
        "gates, and no robot runs it; Staged: robots try it; Frozen: its stage cannot go on by "
        "itself; Watching: it was promoted and is under watch; Paused.",
    )
    reason: str = Field(
        default="", max_length=64, description="What is awaited, in one CamelCase word."
    )
    candidate: VersionRef | None = Field(
        default=None, description="The version under trial, if any."
    )
    gates: list[GateStatus] = Field(
        default=[],
        max_length=8,
        description="Where the candidate stands with its gates; one not begun yet is not listed.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    last_gate_run: int = Field(
        default=0, description="Number of the last run of a gate, of whatever version."
    )
    step: int = Field(default=0, description="Index of the current step, from 0.")
    robots: list[str] = Field(
        default=[], max_length=100_000, description="Robots that run the candidate."
    )
    started_at: str | None = Field(
        default=None, description="When the current step began, in RFC 3339."
    )
    events_from: int = Field(
        default=0, description="Events stream sequence from which outcomes count for this step."
    )
    trial_from: int = Field(
        default=0,
        description="Events stream sequence at which the trial began: the analysis judges all of "
        "it, and holds against it what the stable version did before.",
    )
    episodes: int = Field(default=0, description="Judged episodes of the candidate so far.")
    successes: int = Field(default=0, description="Autonomous successes among them.")
    message: str = Field(
        default="", description="What is awaited and what to do, or the last decision: a sentence."
    )
    opens_at: str | None = Field(
        default=None, description="When the next window opens, in RFC 3339, if one is awaited."
    )
    approved: bool = Field(default=False, description="Whether somebody approved the candidate.")
    confirmed: bool = Field(
        default=False,
        description="Whether somebody asked, in mode Manual, that the candidate go on when it may.",
    )
    frozen: bool = Field(
        default=False, description="Whether the current stage ran into its deadline."
    )
    watching: bool = Field(
        default=False, description="Whether the stable version is under watch after its promotion."
    )
    paused: bool = Field(
        default=False, description="Whether a request paused the fleet; spec.rollout.paused is not."
    )
    paused_at: str | None = Field(
        default=None,
        description="Since when the clocks of stage, watch and gates stand, in RFC 3339: the fleet "
        "is paused, or the job suspended and no robot at work.",
    )
    answer: str = Field(default="", description="What became of the last request, in one sentence.")
