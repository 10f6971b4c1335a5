"""What robots and learner tell of themselves: events and heartbeats."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fleet_contract.messages.envelope import Message, Wire
from fleet_contract.messages.experience import Outcome
from fleet_contract.messages.policy import AssignmentRole, PolicyRef


class EventKind(StrEnum):
    """What a robot reports at once."""

    OUTCOME = "outcome"
    GUARD = "guard"
    REFUSAL = "refusal"
    SWAP = "swap"
    SHADOW = "shadow"
    """Of a policy that computed beside the one that acted; ``shadow`` has the figures."""


class Trip(StrEnum):
    """What the guard finds wrong with a policy's answer."""

    FAILED = "failed"
    """It raised instead of answering."""
    SHAPE = "shape"
    NOT_FINITE = "not-finite"
    BOUNDS = "bounds"
    RATE = "rate"
    LATE = "late"
    """It had not answered when its action was due."""


Measured = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Shadowed(Wire):
    """What a policy that computed beside the acting one would have done in one episode.

    Disagreement is the mean absolute difference of two policies' actions, in halves of each
    action's range: 0 is the same action, 2 the opposite end of it.
    """

    acted: PolicyRef
    """The policy that drove, with which it is compared."""
    chunks: int = Field(default=0, ge=0)
    """Chunks compared: both policies answered to the same observation."""
    skipped: int = Field(default=0, ge=0)
    """Chunks for which it was not asked, or whose answer came after the episode's end."""
    disagreement: Measured | None = None
    """Mean over the chunks compared; absent where none was."""
    most: Measured | None = None
    """Of the chunk with the greatest."""
    trips: dict[str, int] = {}
    """Actions and chunks the guard would not have let pass, by ``Trip``."""
    human_frames: int = Field(default=0, ge=0)
    """Frames in which it was compared with a person instead; they are in no other figure."""
    human_disagreement: Measured | None = None
    """Mean of its first action to that person's."""


class Event(Message):
    """Robot → operator, through the events stream; folded by episode id, so twice counts once."""

    kind: EventKind
    robot: str
    robot_uid: str
    job_uid: str
    episode_id: str = ""
    policy: PolicyRef | None = None
    assignment_epoch: int = 0
    role: AssignmentRole = AssignmentRole.LIVE
    task: str = ""
    outcome: Outcome | None = None
    judged: bool | None = None
    """Autonomous success for the rollout: true, false, or absent when the episode is neutral."""
    human_frames: int = 0
    frames: int = 0
    duration: float = 0.0
    """Seconds of policy execution, resets excluded."""
    latency: float | None = None
    """Seconds the episode's slowest inference took; absent where the policy inferred nothing."""
    detail: str = ""
    shadow: Shadowed | None = None
    """Of kind ``shadow``; ``policy`` is then the one that computed, ``latency`` its slowest."""
    at: float
    """Unix seconds, for people; never for order."""


class RobotState(StrEnum):
    """What a robot is doing."""

    STARTING = "starting"
    WAITING_FOR_POLICY = "waiting-for-policy"
    RUNNING = "running"
    HUMAN_CONTROL = "human-control"
    RESETTING = "resetting"
    PAUSED = "paused"
    DRAINING = "draining"


class TaskTally(Wire):
    """A robot's episodes of one task, since the agent's start."""

    outcomes: dict[str, int] = {}
    """Episodes by ``Outcome``."""
    successes: int = 0
    """Judged episodes that count as autonomous success."""
    failures: int = 0
    """Judged episodes that do not."""
    scheduled: int = 0
    """Takeovers that were due."""
    needed: int = 0
    """Takeovers that the policy caused."""
    policy_steps: int = 0
    human_steps: int = 0


class Uptake(Wire):
    """How a robot came from an older version to this one, in seconds."""

    sequence: int
    fetch: float
    """From hearing of it to the checked policy in memory; the robot's own clock."""
    wait: float
    """From there to its first episode; the robot's own clock."""
    total: float
    """From its making to its first episode; the learner's and the robot's clocks."""


class Fallback(Wire):
    """A version that a robot stopped by itself."""

    policy: PolicyRef
    why: str
    """A clause that says what drives now."""


class Heartbeat(Message):
    """Robot → operator over core NATS, jittered; counters since the agent's start."""

    robot: str
    robot_uid: str
    job_uid: str
    state: RobotState
    task: str = ""
    active: PolicyRef | None = None
    pending: PolicyRef | None = None
    assignment_epoch: int = 0
    episodes: int = 0
    successes: int = 0
    interventions: int = 0
    spool_depth: int = 0
    spool_free: float | None = None
    """Share of the spool's limits that is left, or that its disk has room for; 0 to 1."""
    unreceipted: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    policy_latency: float | None = None
    """Seconds from the last applied version's announcement to its first episode."""
    control_hz: float = 0.0
    """Achieved control rate, in steps per second of wall time."""
    tasks: dict[str, TaskTally] = {}
    guard_trips: int = 0
    refusals: int = 0
    """Documents and policies not taken."""
    records: dict[str, int] = {}
    """Experience records by what became of them: stored, settled, rejected, evicted, lost."""
    sent: dict[str, int] = {}
    """Bytes by ``Traffic``."""
    received: dict[str, int] = {}
    """Bytes by ``Traffic``."""
    uptake: Uptake | None = None
    """Of the last newer version taken up."""
    spool_fault: str = ""
    """Why the last episode could not be kept; empty when it was."""
    policy_fault: str = ""
    """Why the assigned policy cannot be fetched yet; empty when nothing is in the way."""
    document_fault: str = ""
    """Why the last assignment document was not believed; empty after one that was."""
    good: PolicyRef | None = None
    """The last-known-good version, to which it goes back by itself."""
    probation: bool = False
    """The active version has yet to become that."""
    fallback: Fallback | None = None
    """The last version it stopped by itself, over restarts."""
    fallbacks: int = 0
    """How often it did that."""
    at: float


class LearnerStage(StrEnum):
    """Where a training run stands."""

    STARTING = "starting"
    OFFLINE = "offline"
    ONLINE = "online"
    WAITING_FOR_DATA = "waiting-for-data"
    STOPPING = "stopping"


class TaskTraining(Wire):
    """The sampler's view of one task."""

    loss_online: float | None = None
    loss_offline: float | None = None
    online_weight: float | None = None
    episodes: int = 0


class LearnerHeartbeat(Message):
    """Learner → operator and onlookers, once a second over core NATS."""

    job_uid: str
    epoch: int
    stage: LearnerStage
    step: int
    goal_step: int = 0
    """Updates after which the offline stage ends; 0 without one."""
    steps_per_second: float = 0.0
    data_wait: float = 0.0
    """Share of the last interval spent waiting for data, 0 to 1."""
    episodes: int = 0
    frames: int = 0
    rejected: int = 0
    published: int = 0
    journal_position: int = 0
    bytes_received: int = 0
    bytes_published: int = 0
    experience_latency: float | None = None
    """Median seconds from an episode's end to sampleable, over the last interval."""
    tasks: dict[str, TaskTraining] = {}
    undemonstrated: list[str] = []
    """Tasks of which its datasets show nothing that it can draw, while they show others."""
    fault: str = ""
    """Why it waits for its store, in a sentence for the job's owner; empty when it does not."""
    at: float
