"""Every metric of Fleetloop, and the one program that serves it: a scrape counts nothing twice.

A robot is never scraped: it may be behind NAT. It tells its figures in its heartbeats, as the
learner does of its run, and the operator serves them. What does not fit into a heartbeat, such as
histograms, the learner serves itself, as the clerk does. One entry a family: hence the length.
"""

from dataclasses import dataclass
from enum import StrEnum

from fleet_contract.errors import RejectCode
from fleet_contract.messages import LearnerStage, Outcome, RobotState
from fleet_contract.names import Gate, Traffic

LATENCY = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
"""Seconds; the papers' figures (an episode sampleable, a policy applied) lie in the middle."""


class Kind(StrEnum):
    """How a family behaves over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Server(StrEnum):
    """Whose endpoint."""

    OPERATOR = "operator"
    LEARNER = "learner"
    CLERK = "clerk"


class Letting(StrEnum):
    """What a clerk answers a robot that asks to be let into the store."""

    GRANTED = "granted"
    REFUSED = "refused"
    """It asked for what no robot of the job may."""
    TOO_OFTEN = "too-often"
    UNAVAILABLE = "unavailable"
    """The store does not answer, or the learner at work is older than grants."""


@dataclass(frozen=True)
class Family:
    """One metric family."""

    name: str
    """As in PromQL; of a histogram without ``_bucket``, ``_sum`` and ``_count``."""
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, in its unit; only a histogram has them."""
    server: Server = Server.OPERATOR

    @property
    def kind(self) -> Kind:
        if self.buckets:
            return Kind.HISTOGRAM
        return Kind.COUNTER if self.name.endswith("_total") else Kind.GAUGE

    @property
    def head(self) -> tuple[str, str, tuple[str, ...]]:
        """What a client library asks first: name, help, labels."""
        return self.name, self.help, self.labels


LABELS = {
    "namespace": "The job's namespace.",
    "job": "The FleetTrainingJob.",
    "robot": "The RobotActor.",
    "task": "A task of the job's spec.",
    "gate": f"Of `spec.rollout.gates`: {', '.join(Gate)}.",
    "outcome": f"Of an episode: {', '.join(Outcome)}. Of a rollout: Promoted, RolledBack or "
    "Superseded. Of a gate: Passed, Failed or Skipped.",
    "condition": "One that is True of the job, by its type; its `reason` is beside it.",
    "phase": "Of a rollout, as `status.rollout.phase` of the job names it.",
    "verdict": "`success` or `failure` of the policy by itself; neutral episodes have none.",
    "cause": "Of a takeover: `scheduled` by the human's plan, or `needed` by the policy.",
    "control": "Who acted: `policy` or `human`.",
    "state": f"Of a robot: {', '.join(RobotState)}. Of a record: `stored` in the broker, `settled` "
    "by a receipt, `rejected` by one, `evicted` for want of room, `lost` before the spool.",
    "direction": "`sent` or `received`, as the one sees it whose figure it is.",
    "kind": f"Of bytes: {', '.join(Traffic)}; policies count as `policy` where they travel "
    "whole, else as `delta`. Of a reconcile: the object's kind.",
    "role": "Of a version: `announced` last by the learner, `candidate` on trial, `stable`.",
    "stage": f"Of a learner: {', '.join(LearnerStage)}. Of a version's way: "
    "`announced`, `assigned`, `fetched`, `applied`.",
    "since": "Where the time begins: at the `step` itself or at the `episode`'s end.",
    "result": "Of a record: `admitted`, `repeated`, `evicted`. Of a reconcile: `ok`, `error`. "
    "Of a request: `ok`, `absent` (gone, or there already), `refused`, `unreachable`. "
    f"Of a robot that asks to be let into the store: {', '.join(f'`{one}`' for one in Letting)}.",
    "reason": f"Why a record was rejected: {', '.join(RejectCode)}. Of a condition: its own.",
    "side": "Of the replay: `offline` (demonstrations) or `online`.",
    "verb": "`get`, `list`, `create`, `apply` or `delete`; at the store `get` or `create`.",
    "resource": "The plural in the Kubernetes API; `/status` where only that was written.",
    "version": "Of the program.",
    "certificate": "`made`: it lies in Secret `fleetloop-nats-tls`, whoever made it. `shown`: NATS "
    "shows it.",
}
"""What each label says."""

JOB = ("namespace", "job")
ROBOT = (*JOB, "robot")

# --- The operator, of itself ---------------------------------------------------------------

OPERATOR_BUILD = Family("fleet_operator_build_info", "", "Always 1.", ("version",))
RECONCILES = Family(
    "fleet_operator_reconciles_total",
    "reconciles",
    "Looks at one object, by its kind and how they ended.",
    ("kind", "result"),
)
RECONCILE_SECONDS = Family(
    "fleet_operator_reconcile_seconds",
    "seconds",
    "How long a reconcile took.",
    ("kind",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUE_DEPTH = Family("fleet_operator_queue_depth", "objects", "Due or being worked on now.")
OPERATOR_BROKER_REFUSALS = Family(
    "fleet_operator_broker_refusals_total",
    "refusals",
    "What NATS did not let the operator say or hear: its identity may not, or is another's.",
)
API_REQUESTS = Family(
    "fleet_operator_api_requests_total",
    "requests",
    "Asked of the API server; its watches are not among them.",
    ("verb", "resource", "result"),
)
LAST_EVENT = Family(
    "fleet_operator_last_event_timestamp_seconds",
    "Unix seconds",
    "When the last watch event came from the API server.",
)
DEAD_WATCHES = Family(
    "fleet_operator_dead_watches",
    "kinds",
    "Kinds of objects whose watch brings less than a list shows; the probe fails while any is.",
)

CERTIFICATE_BEGIN = Family(
    "fleet_operator_certificate_begin_timestamp_seconds",
    "Unix seconds",
    "From when a certificate of NATS is good; absent where the operator sees to none.",
    ("certificate",),
)
CERTIFICATE_END = Family(
    "fleet_operator_certificate_end_timestamp_seconds",
    "Unix seconds",
    "Until when.",
    ("certificate",),
)

# --- A job, as its status says -------------------------------------------------------------

JOB_CONDITION = Family(
    "fleet_job_condition",
    "",
    "1 for each condition that is True; others are absent.",
    (*JOB, "condition", "reason"),
)
ROLLOUT_PHASE = Family(
    "fleet_rollout_phase", "", "1 for where the rollout stands.", (*JOB, "phase")
)
ROLLOUT_STEP = Family("fleet_rollout_step", "", "Index of its step, from 0.", JOB)
ROLLOUT_STEP_START = Family(
    "fleet_rollout_step_start_timestamp_seconds",
    "Unix seconds",
    "When that step began; absent while none is under way.",
    JOB,
)
ROLLOUT_ROBOTS = Family("fleet_rollout_robots", "robots", "Robots that try the candidate.", JOB)
ROLLOUT_EPISODES = Family(
    "fleet_rollout_judged_episodes",
    "episodes",
    "The candidate's so far, by autonomous success.",
    (*JOB, "verdict"),
)

# --- A job's versions ----------------------------------------------------------------------

POLICY_SEQUENCE = Family(
    "fleet_policy_sequence",
    "",
    "Number of the version in this role; absent while none is.",
    (*JOB, "role"),
)
ROLLOUTS = Family(
    "fleet_policy_rollouts_total",
    "versions",
    "Versions whose rollout ended, by its outcome.",
    (*JOB, "outcome"),
)
GATES = Family(
    "fleet_policy_gates_total",
    "gates",
    "Gates that versions passed, were refused by or skipped.",
    (*JOB, "gate", "outcome"),
)
POLICY_LATENCY = Family(
    "fleet_policy_latency_seconds",
    "seconds",
    "From the making of a version to its first episode on a robot that ran an older one.",
    JOB,
    buckets=LATENCY,
)
POLICY_STAGE = Family(
    "fleet_policy_stage_seconds",
    "seconds",
    "The parts of that way: until announced, assigned, then on each robot fetched and applied.",
    (*JOB, "stage"),
    buckets=LATENCY,
)

# --- A job's learner, as it tells in its heartbeat -----------------------------------------

LEARNER_CONNECTED = Family(
    "fleet_learner_connected",
    "",
    "1 while its heartbeats come, else 0 and the rest of what it tells is absent.",
    JOB,
)
LEARNER_LAST_SEEN = Family(
    "fleet_learner_last_seen_timestamp_seconds",
    "Unix seconds",
    "When its last heartbeat came.",
    JOB,
)
LEARNER_STAGE = Family("fleet_learner_stage", "", "1 for where the run stands.", (*JOB, "stage"))
LEARNER_EPOCH = Family("fleet_learner_epoch", "", "Grows with each start of a learner.", JOB)
LEARNER_STEPS = Family(
    "fleet_learner_steps_total",
    "updates",
    "Updates of the policy over all runs; a restored checkpoint sets it back.",
    JOB,
)
LEARNER_STEP_RATE = Family(
    "fleet_learner_steps_per_second", "updates/second", "Updates in the last second.", JOB
)
LEARNER_PUBLISHED = Family(
    "fleet_learner_published_sequence", "", "Number of the last version it published.", JOB
)
LEARNER_LOSS = Family(
    "fleet_learner_loss",
    "",
    "The sampler's mean loss of a task, of demonstrations and of what robots lived through.",
    (*JOB, "task", "side"),
)
JOURNAL_POSITION = Family(
    "fleet_learner_journal_position", "segments", "Where the next segment of the journal goes.", JOB
)

# --- Robots, as they tell in their heartbeats; counted since the agent's start -------------

ROBOT_CONNECTED = Family(
    "fleet_robot_connected",
    "",
    "1 while its heartbeats come, else 0 and the rest of what it tells is absent.",
    ROBOT,
)
ROBOT_LAST_SEEN = Family(
    "fleet_robot_last_seen_timestamp_seconds",
    "Unix seconds",
    "When its last heartbeat came; absent if none ever did.",
    ROBOT,
)
ROBOT_SUSPENDED = Family(
    "fleet_robot_suspended", "", "1 while it is out of work on purpose, its job included.", ROBOT
)
ROBOT_ASSIGNED = Family(
    "fleet_robot_assigned_sequence",
    "",
    "Number of the version it should run; absent while the fleet is paused.",
    ROBOT,
)
ROBOT_STATE = Family("fleet_robot_state", "", "1 for what it is doing.", (*ROBOT, "state"))
ROBOT_POLICY = Family("fleet_robot_policy_sequence", "", "Number of the version it runs.", ROBOT)
ROBOT_EPISODES = Family(
    "fleet_robot_episodes_total",
    "episodes",
    "Episodes by task and outcome.",
    (*ROBOT, "task", "outcome"),
)
ROBOT_JUDGED = Family(
    "fleet_robot_judged_episodes_total",
    "episodes",
    "Episodes that count for a rollout, by autonomous success.",
    (*ROBOT, "task", "verdict"),
)
ROBOT_INTERVENTIONS = Family(
    "fleet_robot_interventions_total",
    "takeovers",
    "Times that a human took over.",
    (*ROBOT, "task", "cause"),
)
ROBOT_STEPS = Family(
    "fleet_robot_steps_total",
    "control steps",
    "Steps of ended episodes, by who acted.",
    (*ROBOT, "task", "control"),
)
ROBOT_RATE = Family(
    "fleet_robot_control_rate_hertz",
    "hertz",
    "Control steps per second of wall time in the last episode.",
    ROBOT,
)
GUARD_TRIPS = Family(
    "fleet_robot_guard_trips_total", "trips", "Actions and chunks that the guard held back.", ROBOT
)
FALLBACKS = Family(
    "fleet_robot_fallbacks_total",
    "versions",
    "Versions that it stopped by itself: by the guard, or because they ended its program.",
    ROBOT,
)
ROBOT_PROBATION = Family("fleet_robot_probation", "", "1 while its version is on probation.", ROBOT)
ROBOT_GOOD = Family(
    "fleet_robot_good_policy_sequence",
    "",
    "Number of its last-known-good version; absent while it has none.",
    ROBOT,
)
ROBOT_REFUSALS = Family(
    "fleet_robot_refusals_total",
    "refusals",
    "Assignments and policies that it did not take, or stopped by itself.",
    ROBOT,
)
ROBOT_SPOOL = Family("fleet_robot_spool_records", "records", "Records that wait on disk.", ROBOT)
ROBOT_SPOOL_FREE = Family(
    "fleet_robot_spool_free_ratio",
    "",
    "Share of its spool's limits that is left, or that its disk has room for: 0 to 1.",
    ROBOT,
)
ROBOT_UNRECEIPTED = Family(
    "fleet_robot_unreceipted_records",
    "records",
    "Of these, in the broker and without a receipt.",
    ROBOT,
)
ROBOT_RECORDS = Family(
    "fleet_robot_records_total",
    "records",
    "Experience records by what became of them.",
    (*ROBOT, "state"),
)
ROBOT_BYTES = Family(
    "fleet_robot_bytes_total",
    "bytes",
    "Message and object bytes over NATS and the store, without protocol headers.",
    (*ROBOT, "direction", "kind"),
)

# --- The learner's own endpoint ------------------------------------------------------------

LEARNER_BUILD = Family(
    "fleet_learner_build_info", "", "Always 1.", (*JOB, "version"), server=Server.LEARNER
)
EXPERIENCE_LATENCY = Family(
    "fleet_experience_latency_seconds",
    "seconds",
    "Until experience can be sampled; of the steps, every eighth is measured.",
    (*JOB, "since"),
    buckets=LATENCY,
    server=Server.LEARNER,
)
LEARNER_EPISODES = Family(
    "fleet_learner_episodes_total",
    "episodes",
    "Episodes made sampleable in this run.",
    (*JOB, "task", "outcome"),
    server=Server.LEARNER,
)
LEARNER_RECORDS = Family(
    "fleet_learner_records_total",
    "records",
    "Records taken from the broker and not rejected.",
    (*JOB, "result"),
    server=Server.LEARNER,
)
LEARNER_REJECTED = Family(
    "fleet_learner_rejected_records_total",
    "records",
    "Records receipted as bad and kept in quarantine.",
    (*JOB, "reason"),
    server=Server.LEARNER,
)
LEARNER_BROKER_REFUSALS = Family(
    "fleet_learner_broker_refusals_total",
    "refusals",
    "What NATS did not let the learner say or hear: its identity may not, or is another's.",
    JOB,
    server=Server.LEARNER,
)
JOURNAL_SEGMENTS = Family(
    "fleet_learner_journal_segments",
    "segments",
    "Segments that a restart would read.",
    JOB,
    server=Server.LEARNER,
)
COLLECTED = Family(
    "fleet_learner_collected_objects_total",
    "objects",
    "Objects removed from the store: what the replay had dropped for good, and what belonged to "
    "versions that nobody may still want.",
    (*JOB, "kind"),
    server=Server.LEARNER,
)
DATA_WAIT = Family(
    "fleet_learner_data_wait_seconds_total",
    "seconds",
    "Time in which training waited for data.",
    JOB,
    server=Server.LEARNER,
)
REPLAY_FRAMES = Family(
    "fleet_replay_frames",
    "control steps",
    "Steps that can be drawn.",
    (*JOB, "task", "side"),
    server=Server.LEARNER,
)
REPLAY_LOADS = Family(
    "fleet_replay_loads_total",
    "episodes",
    "Episodes fetched again because a drawn step was not in memory.",
    JOB,
    server=Server.LEARNER,
)
LEARNER_BYTES = Family(
    "fleet_learner_bytes_total",
    "bytes",
    "As above; its journal and checkpoints are not among them.",
    (*JOB, "direction", "kind"),
    server=Server.LEARNER,
)

# --- The clerk's endpoint ------------------------------------------------------------------

GRANTS = Family(
    "fleet_clerk_grants_total",
    "requests",
    "Requests to the store that robots asked for, and whether they were let.",
    (*JOB, "verb", "result"),
    server=Server.CLERK,
)
GRANT_SECONDS = Family(
    "fleet_clerk_grant_seconds",
    "seconds",
    "From a robot's asking to the clerk's answer.",
    JOB,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    server=Server.CLERK,
)

FAMILIES = tuple(value for value in tuple(globals().values()) if isinstance(value, Family))
"""All of them, in the order of this page."""
