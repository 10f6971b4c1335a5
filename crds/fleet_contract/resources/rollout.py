"""How a version reaches the fleet: what people ask for and what the operator reports."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.messages import Digest
from fleet_contract.resources.base import Duration, Model, Spec, cel


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
    """One stage: this many robots, until this much evidence."""

    robots: int | None = Field(
        default=None, ge=1, le=100_000, description="How many robots run the candidate."
    )
    percent: int | None = Field(
        default=None, ge=1, le=100, description="Share of the fleet that runs it, rounded up."
    )
    min_episodes: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Judged episodes of the candidate cohort before the stage may pass.",
    )
    soak: Duration = Field(
        default="0s", description="Least time in the stage, whatever the episodes say."
    )
    rules = (
        cel(
            "has(self.robots) != has(self.percent)",
            "a step takes exactly one of robots and percent",
        ),
    )


class Analysis(Spec):
    """When a candidate is good enough; judged on autonomous success."""

    min_success_rate: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Autonomous success rate below which a candidate is taken back, from 0 to 1.",
    )
    max_guard_trips: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Guard trips of the candidate cohort tolerated before it is taken back.",
    )


class Gates(Spec):
    """Checks before a candidate touches a robot (reserved; nothing reads them yet)."""

    simulation: bool = Field(default=False, description="Run the candidate in simulation first.")
    shadow: bool = Field(default=False, description="Let the candidate compute without acting.")


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
    gates: Gates = Field(default=Gates(), description="Checks before the first stage.")
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
    STAGED = "Staged"
    PAUSED = "Paused"


class VersionRef(Model):
    """A published version, as status tells of it."""

    name: str = Field(description="Name of the PolicyVersion.")
    sequence: int = Field(description="Sequence number the learner gave it.")
    digest: Digest = Field(description="Digest of its manifest.")
    uri: str = Field(description="Key of its manifest in the job's object store.")


class RolloutStatus(Model):
    """The rollout in progress; enough to go on from after the operator's death."""

    phase: RolloutPhase = Field(default=RolloutPhase.IDLE, description="Idle, Staged or Paused.")
    candidate: VersionRef | None = Field(
        default=None, description="The version under trial, if any."
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
    episodes: int = Field(default=0, description="Judged episodes of the candidate so far.")
    successes: int = Field(default=0, description="Autonomous successes among them.")
    message: str = Field(default="", description="The last decision, in one sentence.")
