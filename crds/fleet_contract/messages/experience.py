"""Experience on the wire: records, batches of them, receipts."""

import json
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field, FiniteFloat, ValidationError

from fleet_contract.errors import Reject, RejectCode
from fleet_contract.messages.envelope import (
    MALFORMED_JSON,
    Digest,
    Document,
    Wire,
    digest_of,
    first_error,
)

INLINE_MAX = 512 * 1024
"""Payloads up to this many bytes travel inside the message, larger ones by reference."""


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
    """One unit of experience: a whole episode, or one part of it."""

    robot: str
    robot_uid: str
    job_uid: str
    spool_id: str
    n: int = Field(ge=1)
    """Position in the robot's spool, from 1; (robotUid, spoolId, n) names a record for good."""
    episode_id: str
    segment: int = Field(default=0, ge=0)
    """Which part of its episode it is, from 0; (episodeId, segment) is sent once."""
    last: bool = True
    """No further part follows; only the last one says how the episode ended."""
    manifest: Digest | None = None
    sequence: int = 0
    assignment_epoch: int = 0
    mode: EpisodeMode = EpisodeMode.LIVE
    task: str
    outcome: Outcome | None = None
    evicted: bool = False
    """A tombstone: the robot had to drop the payload; its number is spent, nothing follows."""
    digest: Digest
    size: int = Field(ge=0)
    uri: str | None = None
    """Object key of a payload that travels by reference; inline when absent."""
    started_at: FiniteFloat
    ended_at: FiniteFloat

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.robot_uid, self.spool_id, self.n)

    @property
    def whole(self) -> bool:
        """It is an episode of its own."""
        return self.segment == 0 and self.last

    @property
    def closes(self) -> bool:
        """It only says that an episode of which parts were sent was broken off."""
        return self.last and self.segment > 0 and self.size == 0


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


class Spoiled(NamedTuple):
    """A record that cannot be read, beside others that can."""

    fault: Reject
    payload: bytes
    """Its inline bytes, as far as it says how many they are."""
    record: Record | None
    """What is left of it: robot, spool and number, which a receipt needs; None where not even
    these are there. Everything else in it is made up."""


class Batch(NamedTuple):
    """A message, record by record."""

    entries: list[tuple[Record, bytes]]
    spoiled: list[Spoiled]
    short: int = 0
    """The record in which the message ends too early, 0 for none; its payload is what is there."""
    left: bytes = b""
    """Bytes after the last record."""


def decode_batch(data: bytes) -> list[tuple[Record, bytes]]:
    """The inverse of ``encode_batch``. Payload digests are not checked here.

    Raises:
        Reject: the bytes are no batch, are cut short, or carry bytes no record accounts for.
    """
    batch = read_batch(data)
    if batch.spoiled:
        raise batch.spoiled[0].fault
    if batch.short:
        raise Reject(RejectCode.MALFORMED, f"batch cut short in record {batch.short}")
    if batch.left:
        raise Reject(RejectCode.MALFORMED, f"{len(batch.left)} bytes after the last record")
    return batch.entries


def read_batch(data: bytes) -> Batch:
    """As ``decode_batch``, but one bad record costs its neighbours nothing.

    A record that does not say how long its payload is takes the place of those after it, too:
    their payloads then fail their digests. Raises ``Reject`` where there is no batch at all.
    """
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise Reject(RejectCode.MALFORMED, "not an experience batch (magic FLB1 missing)")
    _, length = _HEAD.unpack_from(data)
    header, offset = data[_HEAD.size : _HEAD.size + length], _HEAD.size + length
    try:
        parsed = json.loads(header)
        if parsed["v"] != 1:
            raise Reject(RejectCode.MALFORMED, f"batch v{parsed['v']}; this program reads v1")
        items = list(parsed["records"])
    except MALFORMED_JSON as fault:
        raise Reject(RejectCode.MALFORMED, f"batch header: {fault!r:.200}") from fault
    batch = Batch([], [])
    for item in items:
        try:
            record = Record.model_validate(item)
        except ValidationError as wrong:
            unread = Reject(RejectCode.MALFORMED, f"record {first_error(wrong)}")
            size = _told_size(item)
            spoiled = Spoiled(unread, data[offset : offset + size], _remains(item))
            batch.spoiled.append(spoiled)
        else:
            size = 0 if record.uri or record.evicted else record.size
            payload = data[offset : offset + size]
            batch.entries.append((record, payload))
            if len(payload) != size and not batch.short:
                batch = batch._replace(short=record.n)
        offset += size
    return batch._replace(left=data[offset:])


def _told_size(item: Any) -> int:
    """Inline bytes of a record that cannot be read, as far as it says so."""
    told = item if isinstance(item, dict) else {}
    size = told.get("size")
    inline = not (told.get("uri") or told.get("evicted"))
    return size if isinstance(size, int) and size > 0 and inline else 0


def _remains(item: Any) -> Record | None:
    made_up = {"episodeId": "", "task": "", "digest": digest_of(b""), "startedAt": 0, "endedAt": 0}
    told = item if isinstance(item, dict) else {}
    kept = {key: told.get(key) for key in ("robot", "robotUid", "jobUid", "spoolId", "n")}
    try:
        return Record.model_validate({**made_up, **kept, "size": 0})
    except ValidationError:
        return None


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
