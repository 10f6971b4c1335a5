"""What travels between learner, robots and operator: signed documents, plain messages, batches.

Documents (manifest, assignment, receipt) are canonical JSON in an envelope that has room for an
Ed25519 signature; their bodies hold no floats, so two programs always sign the same bytes. Plain
messages (heartbeats, events, announcements) are JSON. Unknown fields are ignored, an unknown
version is refused, and every digest reads ``sha256:<hex>``.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fleet_contract.errors import Reject, RejectCode, Untrusted

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Signer = Callable[[bytes], tuple[str, str]]
"""Bytes to sign → (key id, signature)."""
Verifier = Callable[[str, bytes, str], None]
"""(key id, signed bytes, signature) → nothing, or raises ``Untrusted``."""

INLINE_MAX = 512 * 1024
"""Payloads up to this many bytes travel inside the message, larger ones by reference."""


def digest_of(data: bytes) -> str:
    """The one way content is named."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and no floats, as UTF-8; the bytes that get signed."""
    _refuse_floats(value, "body")
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _refuse_floats(value: Any, path: str) -> None:
    if isinstance(value, float):
        raise TypeError(f"{path} is a float; signed documents carry integers and strings only")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_floats(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_floats(item, f"{path}[{index}]")


class Wire(BaseModel):
    """Base of everything sent: camelCase on the wire, immutable in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


class Message(Wire):
    """A plain message; JSON, unsigned."""

    V: ClassVar[int] = 1
    v: int = 1

    def encode(self) -> bytes:
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ``Reject`` on anything but a message of a known version."""
        try:
            message = cls.model_validate_json(data)
        except ValidationError as fault:
            raise Reject(RejectCode.MALFORMED, f"{cls.__name__}: {_first(fault)}") from fault
        if message.v != cls.V:
            raise Reject(
                RejectCode.MALFORMED, f"{cls.__name__} v{message.v}; this program reads v{cls.V}"
            )
        return message


class Document(Wire):
    """The body of a signed document."""

    KIND: ClassVar[str]
    V: ClassVar[int] = 1

    def seal(self, sign: Signer | None = None) -> bytes:
        """Envelope ``{kind, v, keyId, body, sig}`` in canonical form."""
        body = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        signed = canonical({"kind": self.KIND, "v": self.V, "body": body})
        key_id, signature = sign(signed) if sign else ("", "")
        return canonical(
            {"kind": self.KIND, "v": self.V, "keyId": key_id, "body": body, "sig": signature}
        )

    @classmethod
    def open(cls, data: bytes, verify: Verifier | None = None) -> Self:
        """Verify, then parse. Raises ``Untrusted`` when kind, version, signature or body is off."""
        try:
            envelope = json.loads(data)
            kind, version, body = envelope["kind"], envelope["v"], envelope["body"]
        except (ValueError, KeyError, TypeError) as fault:
            raise Untrusted(f"not a signed document: {fault!r}") from fault
        if (kind, version) != (cls.KIND, cls.V):
            raise Untrusted(f"expected {cls.KIND} v{cls.V}, found {kind} v{version}")
        if verify:
            signed = canonical({"kind": kind, "v": version, "body": body})
            verify(str(envelope.get("keyId", "")), signed, str(envelope.get("sig", "")))
        try:
            return cls.model_validate(body)
        except ValidationError as fault:
            raise Untrusted(f"{cls.KIND}: {_first(fault)}") from fault


def _first(fault: ValidationError) -> str:
    error = fault.errors(include_url=False)[0]
    return f"{'.'.join(map(str, error['loc'])) or 'document'}: {error['msg']}"


# --- policies -----------------------------------------------------------------------------


class PolicyRef(Wire):
    """One published version, by the digest of its manifest."""

    sequence: int
    digest: Digest
    uri: str
    """Key of the manifest in the job's object store."""


class FileRef(Wire):
    """One file of a bundle."""

    name: str
    digest: Digest
    size: int


class TensorRef(Wire):
    """One tensor of the bundle, so that a delta can name what it changes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: Digest


class Interface(Wire):
    """Observation and action spaces of one embodiment; bounds are decimal strings."""

    observation: int
    action: int
    low: tuple[str, ...]
    high: tuple[str, ...]
    control_hz: str = ""


class Lineage(Wire):
    """The data a version was trained on: journal segments ``[first, through]``."""

    first: int
    through: int
    episodes: int


class Delta(Wire):
    """How to make this bundle from its parent's (reserved)."""

    base: Digest
    encoding: str
    files: tuple[FileRef, ...]


class Manifest(Document):
    """What a learner says of one version it published."""

    KIND = "Manifest"

    job_uid: str
    learner_epoch: int
    sequence: int
    parent: Digest | None = None
    step: int
    interface: Interface
    architecture: str
    tasks: tuple[str, ...]
    files: tuple[FileRef, ...]
    tensors: tuple[TensorRef, ...]
    delta: Delta | None = None
    lineage: Lineage
    created_at_ms: int


class Announcement(Message):
    """Learner → operator: a version exists. The stream keeps only the latest."""

    job_uid: str
    learner_epoch: int
    policy: PolicyRef
    parent: int | None = None
    step: int
    size: int
    metrics: dict[str, float] = {}
    lineage: Lineage
    published_at: float
    """Unix seconds; for latency figures only, never for order."""


class AssignmentState(StrEnum):
    """What robots may do with the document: take versions up, stay as they are, go home."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CLOSED = "closed"


class AssignmentRole(StrEnum):
    """What a robot does with the policy a rule gives it."""

    LIVE = "live"
    SHADOW = "shadow"
    EVAL = "eval"


class Rule(Wire):
    """These robots run this policy in this role."""

    robots: tuple[str, ...]
    manifest: PolicyRef
    role: AssignmentRole = AssignmentRole.LIVE


class Assignment(Document):
    """Operator → fleet: who runs what. One per job; a rollback is a new epoch."""

    KIND = "Assignment"

    job_uid: str
    term: int = 0
    generation: int = 0
    epoch: int
    issued_at_ms: int
    expires_at_ms: int
    state: AssignmentState = AssignmentState.ACTIVE
    rules: tuple[Rule, ...] = ()
    default: PolicyRef | None = None
    fallback: PolicyRef | None = None
    denied: tuple[Digest, ...] = ()

    @property
    def order(self) -> tuple[int, int]:
        """Robots refuse a document that compares lower than the one they hold."""
        return (self.generation, self.epoch)

    def policy_for(
        self, robot: str, role: AssignmentRole = AssignmentRole.LIVE
    ) -> PolicyRef | None:
        """First rule that names the robot, else the default (live only); never a denied one."""
        for rule in self.rules:
            if rule.role is role and robot in rule.robots:
                return None if rule.manifest.digest in self.denied else rule.manifest
        if role is not AssignmentRole.LIVE or self.default is None:
            return None
        return None if self.default.digest in self.denied else self.default


# --- experience ---------------------------------------------------------------------------


class EpisodeMode(StrEnum):
    """Why an episode was run; only live ones train."""

    LIVE = "live"
    SHADOW = "shadow"
    EVAL = "eval"


class Outcome(StrEnum):
    """How an episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ABORTED = "aborted"
    DISCARDED = "discarded"


class Record(Wire):
    """One unit of experience: a whole episode, or one segment of it."""

    robot: str
    robot_uid: str
    job_uid: str
    spool_id: str
    n: int
    """Position in the robot's spool, from 1; (robotUid, spoolId, n) names a record for good."""
    episode_id: str
    segment: int = 0
    last: bool = True
    manifest: Digest | None = None
    sequence: int = 0
    assignment_epoch: int = 0
    mode: EpisodeMode = EpisodeMode.LIVE
    task: str
    outcome: Outcome | None = None
    evicted: bool = False
    """A tombstone: the robot had to drop the payload; its number is spent, nothing follows."""
    digest: Digest
    size: int
    uri: str | None = None
    """Object key of a payload that travels by reference; inline when absent."""
    started_at: float
    ended_at: float

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.robot_uid, self.spool_id, self.n)


_MAGIC = b"FLB1"
_HEAD = struct.Struct("<4sI")


def encode_batch(entries: Sequence[tuple[Record, bytes]]) -> bytes:
    """Records with their inline payloads (empty where the record has a URI) in one message."""
    header = canonical_header([record for record, _ in entries])
    return b"".join([_HEAD.pack(_MAGIC, len(header)), header, *(payload for _, payload in entries)])


def canonical_header(records: Sequence[Record]) -> bytes:
    """The JSON that stands before a batch's payloads."""
    dumped = [
        record.model_dump(mode="json", by_alias=True, exclude_none=True) for record in records
    ]
    return json.dumps({"v": 1, "records": dumped}, separators=(",", ":")).encode()


def decode_batch(data: bytes) -> list[tuple[Record, bytes]]:
    """The inverse of ``encode_batch``. Payload digests are not checked here.

    Raises:
        Reject: the bytes are no batch, are cut short, or carry bytes no record accounts for.
    """
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise Reject(RejectCode.MALFORMED, "not an experience batch (magic FLB1 missing)")
    _, length = _HEAD.unpack_from(data)
    header, offset = data[_HEAD.size : _HEAD.size + length], _HEAD.size + length
    try:
        parsed = json.loads(header)
        if parsed["v"] != 1:
            raise Reject(RejectCode.MALFORMED, f"batch v{parsed['v']}; this program reads v1")
        records = [Record.model_validate(item) for item in parsed["records"]]
    except ValidationError as fault:
        raise Reject(RejectCode.MALFORMED, f"record {_first(fault)}") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise Reject(RejectCode.MALFORMED, f"batch header: {fault!r}") from fault
    entries = []
    for record in records:
        size = 0 if record.uri or record.evicted else record.size
        payload = data[offset : offset + size]
        if size < 0 or len(payload) != size:
            raise Reject(RejectCode.MALFORMED, f"batch cut short in record {record.n}")
        entries.append((record, payload))
        offset += size
    if offset != len(data):
        raise Reject(RejectCode.MALFORMED, f"{len(data) - offset} bytes after the last record")
    return entries


class RejectedRecord(Wire):
    """A record that will never be admitted, and why."""

    n: int
    code: RejectCode
    message: str


class Receipt(Document):
    """Learner → robot: what is journaled for good and may leave the spool."""

    KIND = "Receipt"

    robot_uid: str
    job_uid: str
    spool_id: str
    learner_epoch: int
    through: int
    """Every record up to and including this number is settled."""
    extras: tuple[int, ...] = ()
    """Settled records beyond ``through``."""
    rejects: tuple[RejectedRecord, ...] = ()
    stream_position: int = 0
    """The learner has passed the experience stream up to here: older and unsettled means lost."""

    def settles(self, n: int) -> bool:
        return n <= self.through or n in self.extras


# --- events and heartbeats ----------------------------------------------------------------


class EventKind(StrEnum):
    """What a robot reports at once."""

    OUTCOME = "outcome"
    GUARD = "guard"
    REFUSAL = "refusal"
    SWAP = "swap"


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
    detail: str = ""
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
    unreceipted: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    policy_latency: float | None = None
    """Seconds from the last applied version's announcement to its first episode."""
    control_hz: float = 0.0
    """Achieved control rate, in steps per second of wall time."""
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
    """Last step of an offline stage; 0 where the stage has no end."""
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
    at: float
