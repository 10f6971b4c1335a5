"""Every name two rooms share, spelled once: kinds, labels, reasons, subjects, streams, objects.

Kubernetes names of jobs and robots are DNS labels of at most ``NAME_MAX`` characters, so they
stand in a NATS subject as one token: a robot called ``a.b`` could otherwise use ``a``'s rights.
"""

import re
import zlib
from enum import StrEnum

# --- Kubernetes ---------------------------------------------------------------------------

GROUP = "fleetloop.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "fleet"
NAME_MAX = 40
JOB_NAME_MAX = 30  # so that "<job>-sim-<index>" is still a robot's name
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

FIELD_MANAGER = "fleetloop"
KOPF_PREFIX = f"kopf.{GROUP}"


class Kind(StrEnum):
    """The three resources people write or read."""

    TRAINING_JOB = "FleetTrainingJob"
    ROBOT_ACTOR = "RobotActor"
    POLICY_VERSION = "PolicyVersion"


PLURALS = {
    Kind.TRAINING_JOB: "fleettrainingjobs",
    Kind.ROBOT_ACTOR: "robotactors",
    Kind.POLICY_VERSION: "policyversions",
}
SHORT_NAMES = {Kind.TRAINING_JOB: "ftj", Kind.ROBOT_ACTOR: "ract", Kind.POLICY_VERSION: "polv"}


class Label(StrEnum):
    """Labels and annotations on our objects and their children."""

    JOB = f"{GROUP}/job"
    ROBOT = f"{GROUP}/robot"
    ROLE = f"{GROUP}/role"
    RUN = f"{GROUP}/run"
    SEQUENCE = f"{GROUP}/sequence"
    SIMULATED = f"{GROUP}/simulated"
    TEMPLATE_HASH = f"{GROUP}/template-hash"
    REFUSAL = f"{GROUP}/refusal"
    REQUEST = f"{GROUP}/request"
    FREEZE = f"{GROUP}/freeze"
    PUBLIC_KEY = f"{GROUP}/public-key"
    SIGNS_SINCE = f"{GROUP}/signs-since"
    CREDENTIALS = f"{GROUP}/credentials"
    MANAGED_BY = "app.kubernetes.io/managed-by"
    KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


class Role(StrEnum):
    """Values of ``Label.ROLE``."""

    LEARNER = "learner"
    ROBOT = "robot"
    GATE = "gate"
    CLERK = "clerk"


class Signatory(StrEnum):
    """Who signs; also the name of the file that holds a role's public keys."""

    LEARNER = "learner"
    OPERATOR = "operator"


class Identity(StrEnum):
    """Who one can be to the broker."""

    OPERATOR = "operator"
    LEARNER = "learner"
    ROBOT = "robot"
    GATE = "gate"
    CLERK = "clerk"
    READER = "reader"


class Gate(StrEnum):
    """What a candidate passes before a robot runs it, in this order."""

    SIMULATION = "simulation"
    SHADOW = "shadow"


class Verb(StrEnum):
    """What a person may ask of a rollout, by ``Label.REQUEST``: ``<verb>@<version>#<nonce>``."""

    PROMOTE = "promote"
    ABORT = "abort"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    SKIP = "skip"
    APPROVE = "approve"
    ROLLBACK = "rollback"


class ConditionType(StrEnum):
    """Condition types; ``RECONCILING`` and ``STALLED`` are present only while true (kstatus)."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    LEARNER_READY = "LearnerReady"
    STREAMS_READY = "StreamsReady"
    DATA_FLOWING = "DataFlowing"
    FLEET_DEGRADED = "FleetDegraded"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    CONNECTED = "Connected"
    POLICY_SYNCED = "PolicySynced"
    STORAGE_FAILING = "StorageFailing"
    SPOOL_FAILING = "SpoolFailing"
    VERIFIED = "Verified"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"


class Reason(StrEnum):
    """Condition and Event reasons."""

    READY = "Ready"
    STREAMS_READY = "StreamsReady"
    STREAMS_FAILED = "StreamsFailed"
    LEARNER_RUNNING = "LearnerRunning"
    LEARNER_PENDING = "LearnerPending"
    LEARNER_FAILED = "LearnerFailed"
    LEARNER_REFUSED = "LearnerRefused"
    LEARNER_CRASHING = "LearnerCrashing"
    STORAGE_FAILED = "StorageFailed"
    EPISODES_ARRIVING = "EpisodesArriving"
    NO_EPISODES = "NoEpisodes"
    ROBOTS_MISSING = "RobotsMissing"
    ROBOTS_FAILED = "RobotsFailed"
    FLEET_HEALTHY = "FleetHealthy"
    SUSPENDED = "Suspended"
    GOAL_REACHED = "GoalReached"
    JOB_NOT_FOUND = "JobNotFound"
    POD_PENDING = "PodPending"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    ROBOT_REFUSED = "RobotRefused"
    ROBOT_CRASHING = "RobotCrashing"
    SPOOL_FAILED = "SpoolFailed"
    HEARTBEAT_RECEIVED = "HeartbeatReceived"
    HEARTBEAT_MISSING = "HeartbeatMissing"
    ON_ASSIGNED_VERSION = "OnAssignedVersion"
    AWAITING_EPISODE_END = "AwaitingEpisodeEnd"
    NOT_ASSIGNED = "NotAssigned"
    POLICY_REFUSED = "PolicyRefused"
    POLICY_UNREACHABLE = "PolicyUnreachable"
    DOCUMENT_UNTRUSTED = "DocumentUntrusted"
    SIGNED = "Signed"
    FELL_BACK = "FellBack"
    SAFE_STOP = "SafeStop"
    ANNOUNCED = "Announced"
    FIRST_VERSION = "FirstVersion"
    BROADCAST = "Broadcast"
    CANARY_STARTED = "CanaryStarted"
    CANARY_PASSED = "CanaryPassed"
    SUCCESS_BELOW_THRESHOLD = "SuccessBelowThreshold"
    GUARD_TRIPPED = "GuardTripped"
    WORSE_THAN_STABLE = "WorseThanStable"
    TOO_MANY_INTERVENTIONS = "TooManyInterventions"
    INFERENCE_TOO_SLOW = "InferenceTooSlow"
    CYCLE_TOO_LONG = "CycleTooLong"
    TELEMETRY_MISSING = "TelemetryMissing"
    SUPERSEDED = "Superseded"
    PINNED = "Pinned"
    ABORTED = "Aborted"
    APPROVED = "Approved"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    RETRIED = "Retried"
    STAGE_SKIPPED = "StageSkipped"
    ROLLED_BACK_BY_REQUEST = "RolledBackByRequest"
    REQUEST_REFUSED = "RequestRefused"
    AWAITING_APPROVAL = "AwaitingApproval"
    AWAITING_PROMOTION = "AwaitingPromotion"
    AWAITING_EPISODES = "AwaitingEpisodes"
    NO_ROBOT_CONNECTED = "NoRobotConnected"
    OUTSIDE_WINDOW = "OutsideWindow"
    WINDOW_INVALID = "WindowInvalid"
    FLEET_FROZEN = "FleetFrozen"
    PIN_UNKNOWN = "PinUnknown"
    DEADLINE_PASSED = "DeadlinePassed"
    GATE_STARTED = "GateStarted"
    GATE_RUNNING = "GateRunning"
    GATE_BLOCKED = "GateBlocked"
    GATE_PASSED = "GatePassed"
    GATE_FAILED = "GateFailed"
    GATE_SKIPPED = "GateSkipped"
    WATCH_STARTED = "WatchStarted"
    WATCH_PASSED = "WatchPassed"
    APPLY_REFUSED = "ApplyRefused"
    NAME_TAKEN = "NameTaken"


STALLED_REASONS = frozenset(
    {
        *(Reason.APPLY_REFUSED, Reason.STREAMS_FAILED, Reason.STORAGE_FAILED),
        *(Reason.LEARNER_FAILED, Reason.LEARNER_REFUSED, Reason.LEARNER_CRASHING),
        *(Reason.IMAGE_PULL_FAILED, Reason.ROBOTS_FAILED, Reason.JOB_NOT_FOUND),
        *(Reason.WINDOW_INVALID, Reason.GATE_BLOCKED, Reason.NAME_TAKEN),
        *(Reason.ROBOT_REFUSED, Reason.ROBOT_CRASHING, Reason.SPOOL_FAILED, Reason.POLICY_REFUSED),
        Reason.DOCUMENT_UNTRUSTED,
        Reason.SAFE_STOP,
    }
)
"""Why an object may be Stalled; docs/troubleshooting.md says of each what to do."""


class Env(StrEnum):
    """Environment variables through which a pod, ours or one we start, learns what it must."""

    NAMESPACE = "FLEET_NAMESPACE"
    JOB = "FLEET_JOB"
    JOB_UID = "FLEET_JOB_UID"
    ROBOT = "FLEET_ROBOT"
    ROBOT_UID = "FLEET_ROBOT_UID"
    NATS_URL = "FLEET_NATS_URL"
    STORAGE_URL = "FLEET_STORAGE_URL"
    STORAGE_SECRET = "FLEET_STORAGE_SECRET"  # noqa: S105 - a name
    STORAGE_GRANTS = "FLEET_STORAGE_GRANTS"
    LEARNER_IMAGE = "FLEET_LEARNER_IMAGE"
    ROBOT_IMAGE = "FLEET_ROBOT_IMAGE"
    SPEC = "FLEET_SPEC"
    SPOOL_DIR = "FLEET_SPOOL_DIR"
    BIND_ADDRESS = "FLEET_BIND_ADDRESS"
    METRICS_PORT = "FLEET_METRICS_PORT"
    RESYNC_SECONDS = "FLEET_RESYNC_SECONDS"
    LAST_WORDS = "FLEET_LAST_WORDS"
    LOG_FORMAT = "FLEET_LOG_FORMAT"
    LOG_LEVEL = "FLEET_LOG_LEVEL"
    TRUST_DIR = "FLEET_TRUST_DIR"
    UNSIGNED = "FLEET_UNSIGNED"
    KEY_FILE = "FLEET_KEY_FILE"
    NATS_ACCOUNTS = "FLEET_NATS_ACCOUNTS"
    NATS_CREDENTIALS = "FLEET_NATS_CREDENTIALS"
    NATS_TLS = "FLEET_NATS_TLS"
    NATS_NAMES = "FLEET_NATS_NAMES"
    NATS_CA = "FLEET_NATS_CA"
    OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # OpenTelemetry's own
    OTLP_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    COMPLETION_INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes sets it in the pods of an Indexed Job


OPERATOR_KEY = "fleetloop-operator-key"
LEARNER_KEY = "fleetloop-learner-key"
"""Secrets of a namespace; their one entry is ``KEY``."""
KEY = "key"
TRUST = "fleetloop-trust"
"""The ConfigMap of a namespace that holds the public keys, by role."""

NATS_KEYS = "fleetloop-nats-keys"
"""The Secret of a namespace from which identities at the broker are minted."""
NATS_ROOT = ("root", "system")
"""Entries of it that a broker trusts; who brings a broker of its own to many namespaces gives them
to each, else the operator makes them."""
NATS_USERS = "fleetloop-nats-users"
"""The Secret that holds them: a credentials file an entry. Robots' lie in ``NATS_ROBOTS``."""
NATS_ROBOTS = tuple(f"{NATS_USERS}-{number:02}" for number in range(32))
"""Secrets among which robots are spread by their names: each has room for some 1,000. RBAC can
name these; a Secret for each robot it could not, and who writes those might write any other."""
NATS_SERVER = "fleetloop-nats-server"
"""The ConfigMap by which a broker of the namespace's own takes them."""

NATS_TLS = "fleetloop-nats-tls"
"""The Secret with the certificate of a broker of the namespace's own, as ``kubernetes.io/tls``."""
NATS_AUTHORITY = "fleetloop-nats-authority"
"""The Secret with the keys that sign it: the present one's and the next one's."""
NATS_CA = "fleetloop-nats-ca"
"""The ConfigMap with those whose signature on a broker's certificate is taken; nothing secret."""
CA = "ca.crt"
"""Its one entry."""

READER = "reader"
"""What whoever only looks on is called there."""


def user(role: Identity, whose: str) -> str:
    """The entry of one who was minted: a robot by its name, learner and gate by their job's."""
    return f"{role}.{whose}"


def users(entry: str) -> str:
    """The Secret in which an entry lies."""
    if not entry.startswith(f"{Identity.ROBOT}."):
        return NATS_USERS
    return NATS_ROBOTS[zlib.crc32(entry.encode()) % len(NATS_ROBOTS)]


def learner_job(job: str, run: int) -> str:
    """Name of the batch/v1 Job of one learner run; a Job's template is immutable."""
    return f"{job}-learner-{run}"


def gate_job(job: str, run: int) -> str:
    """Name of the batch/v1 Job of one run of a gate."""
    return f"{job}-gate-{run}"


def clerk_job(job: str) -> str:
    """Name of the batch/v1 Job that lets a job's robots into the object store."""
    return f"{job}-clerk"


def simulated_robot(job: str, index: int) -> str:
    """Name of the RobotActor the operator makes for one simulated replica."""
    return f"{job}-sim-{index}"


def robot_pod(robot: str) -> str:
    """One fixed name per robot: its uniqueness in the API fences a second copy."""
    return f"{robot}-robot"


def policy_version(job: str, sequence: int) -> str:
    """Name of the PolicyVersion of one published sequence."""
    return f"{job}-v{sequence}"


# --- NATS ---------------------------------------------------------------------------------


class Channel(StrEnum):
    """The last token of a robot's subject."""

    EXPERIENCE = "exp"
    EVENT = "evt"
    HEARTBEAT = "hb"
    RECEIPT = "receipt"
    ASK = "ask"
    GRANT = "grant"


class Traffic(StrEnum):
    """What bytes are for."""

    EXPERIENCE = "experience"
    POLICY = "policy"
    DELTA = "delta"
    TELEMETRY = "telemetry"
    CONTROL = "control"


_TRAFFIC = {
    Channel.EXPERIENCE.value: Traffic.EXPERIENCE,
    Channel.EVENT.value: Traffic.TELEMETRY,
    Channel.HEARTBEAT.value: Traffic.TELEMETRY,
}


def traffic(subject: str) -> Traffic:
    """What a message on this subject is for; receipts and documents are control."""
    return _TRAFFIC.get(subject.rsplit(".", 1)[-1], Traffic.CONTROL)


def robot_subject(namespace: str, robot: str, job: str, channel: Channel) -> str:
    """Robot first, so that one robot's permission is the single rule ``fleet.<ns>.<robot>.>``.

    Pass ``*`` as robot for a subscription over the whole fleet of a job.
    """
    return f"fleet.{namespace}.{robot}.{job}.{channel}"


def robot_of(subject: str) -> str:
    """The robot that a ``robot_subject`` belongs to."""
    return subject.split(".")[2]


def job_of_robot(subject: str) -> str:
    """The job in a ``robot_subject``."""
    return subject.split(".")[3]


def job_of(subject: str) -> str:
    """The job that any other subject belongs to."""
    return subject.split(".")[2]


def assign_subject(namespace: str, job: str) -> str:
    """Where the operator keeps the job's one assignment document."""
    return f"ctl.{namespace}.{job}.assign"


def kept_subject(namespace: str, job: str) -> str:
    """Where the operator tells the learner which of its versions anybody may still want."""
    return f"ctl.{namespace}.{job}.kept"


def announce_subject(namespace: str, job: str) -> str:
    """Where the learner announces what it published; the last message is the latest version."""
    return f"ctl.{namespace}.{job}.announce"


def learner_heartbeat_subject(namespace: str, job: str) -> str:
    """Where the learner tells its pace; core NATS, nothing stored."""
    return f"ctl.{namespace}.{job}.hb"


def gate_heartbeat_subject(namespace: str, job: str) -> str:
    """Where the run of a gate tells how far it is; core NATS, nothing stored."""
    return f"ctl.{namespace}.{job}.gate"


def shown(url: str) -> str:
    """Addresses of servers, with commas, as people may read them: no user, password or token."""
    return re.sub(r"(^|,|//)[^/,@]*@", r"\1", url)


CLAIMS_UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
"""Where a server takes a newer form of an account; it tells the others of its cluster."""


def reload(server: str) -> str:
    """Where a server, called by its id, is told to read its files anew."""
    return f"$SYS.REQ.SERVER.{server}.RELOAD"


def inbox(role: Identity, whose: str) -> str:
    """Where answers come to; nobody else may listen there."""
    return f"_INBOX.{role}.{whose}"


class Stream(StrEnum):
    """The streams of one job."""

    EXPERIENCE = "exp"
    EVENTS = "evt"
    RECEIPTS = "receipt"
    CONTROL = "ctl"


STREAM_PREFIX = "fleet-"
LEARNER_CONSUMER = "learner"


def stream(job_uid: str, kind: Stream) -> str:
    """A stream's name carries the job's UID: a job made anew under its name gets new streams."""
    return f"{STREAM_PREFIX}{job_uid}-{kind}"


class StreamMeta(StrEnum):
    """Keys of a stream's metadata."""

    JOB_UID = "fleetloop-job-uid"
    NAMESPACE = "fleetloop-namespace"
    INSTALLATION = "fleetloop-namespace-uid"
    JOB = "fleetloop-job"
    GENERATION = "fleetloop-stream-id"


# --- Object store -------------------------------------------------------------------------


JOBS_ROOT = "jobs"


def granted(storage_url: str) -> bool:
    """Whether robots come to this store with grants of the clerk's, and hold no key of it."""
    return storage_url.startswith(("s3://", "s3a://"))


def job_root(job_uid: str) -> str:
    """Everything a job stores lies below this prefix."""
    return f"{JOBS_ROOT}/{job_uid}"


def blob_key(job_uid: str, digest: str) -> str:
    """A file of a policy bundle, by its ``sha256:<hex>`` digest."""
    return f"{job_root(job_uid)}/blobs/{digest.replace(':', '-')}"


def payload_key(job_uid: str, digest: str, robot: str = "") -> str:
    """An episode too large to travel inline; below its robot's name where a grant let it in."""
    below = f"{robot}/" if robot else ""
    return f"{job_root(job_uid)}/payload/{below}{digest.replace(':', '-')}"


def published(job_uid: str, key: str) -> bool:
    """Whether a key is of what the job's robots may read: its versions and their files."""
    root = job_root(job_uid)
    return key.startswith((f"{root}/versions/", f"{root}/blobs/"))


def quarantine_key(job_uid: str, digest: str) -> str:
    """A rejected payload, kept for whoever wants to know why."""
    return f"{job_root(job_uid)}/quarantine/{digest.replace(':', '-')}"


def journal_key(job_uid: str, position: int) -> str:
    """One append-only journal segment; positions have no gaps and are claimed by creation."""
    return f"{job_root(job_uid)}/journal/{position:012d}"


def base_key(job_uid: str, position: int) -> str:
    """What the journal's segments before a position have settled, once they may go."""
    return f"{job_root(job_uid)}/bases/{position:012d}"


def version_key(job_uid: str, sequence: int) -> str:
    """The signed manifest of one version; its creation claims the sequence."""
    return f"{job_root(job_uid)}/versions/{sequence:012d}.json"


def checkpoint_key(job_uid: str, position: int) -> str:
    """One committed checkpoint of the learner; the greatest position is the newest."""
    return f"{job_root(job_uid)}/checkpoints/{position:012d}"


def epoch_key(job_uid: str, epoch: int) -> str:
    """A learner's claim to its epoch."""
    return f"{job_root(job_uid)}/epochs/{epoch:012d}"


def probe_key(job_uid: str) -> str:
    """Below it the learner tries, at its start, whether the store lets one claim win."""
    return f"{job_root(job_uid)}/probe"
