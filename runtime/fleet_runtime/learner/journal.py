"""The journal: append-only segment objects, and all that a learner must not lose.

Positions have no gaps and each is claimed by creating its object, so of two learners only one
writes a position. A segment is `FLJ1`, the header's length and SHA-256, the header as JSON, then
the inline payloads. Large payloads stay where the robot put them and are named by their digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import struct
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import Fenced, FleetError, Reject, RejectCode, Retry
from fleet_contract.messages import Record, digest_of
from fleet_runtime.artifacts import Exists, Missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet_runtime.artifacts import Store

log = logging.getLogger(__name__)

_MAGIC = b"FLJ1"
_HEAD = struct.Struct("<4sI32s")
_READERS = 8
"""Segments read at once in a replay: object stores answer slowly, but many at a time. As many are
in memory, read or being read."""
_CACHE_BYTES = 32 * 2**20
"""Segments kept in memory for payloads asked for one by one."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One settled record: admitted with its payload, or refused and why."""

    record: Record
    payload: bytes = b""  # empty when by reference, evicted or refused
    refusal: Reject | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where an admitted payload lies: inline in a segment, or an object of its own."""

    position: int
    offset: int
    size: int
    digest: str
    uri: str | None = None


@dataclasses.dataclass(frozen=True)
class Segment:
    """One journal object as read back."""

    position: int
    epoch: int
    entries: tuple[Entry, ...]
    places: tuple[Place, ...]  # one per entry, also where there is no payload


def encode(position: int, epoch: int, entries: Sequence[Entry]) -> bytes:
    """The segment's bytes; the same for the same input, so that a repeated create succeeds."""
    items = []
    for entry in entries:
        item: dict[str, object] = {
            "record": entry.record.model_dump(mode="json", by_alias=True, exclude_none=True),
            "inline": len(entry.payload),
        }
        if entry.refusal:
            item["code"], item["message"] = entry.refusal.code, entry.refusal.message
        items.append(item)
    header = json.dumps(
        {"v": 1, "position": position, "learnerEpoch": epoch, "entries": items},
        separators=(",", ":"),
    ).encode()
    head = _HEAD.pack(_MAGIC, len(header), hashlib.sha256(header).digest())
    return b"".join([head, header, *(entry.payload for entry in entries)])


def decode(data: bytes) -> Segment:
    """The inverse of `encode`; raises ValueError where the bytes are not a whole segment."""
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise ValueError("not a journal segment (magic FLJ1 missing)")
    _, length, digest = _HEAD.unpack_from(data)
    header, offset = data[_HEAD.size : _HEAD.size + length], _HEAD.size + length
    if hashlib.sha256(header).digest() != digest:
        raise ValueError("its header does not match its checksum")
    parsed = json.loads(header)
    if parsed["v"] != 1:
        raise ValueError(f"segment v{parsed['v']}; this learner reads v1")
    entries, start = [], offset
    for item in parsed["entries"]:
        size = int(item["inline"])
        refusal = Reject(RejectCode(item["code"]), item["message"]) if "code" in item else None
        record = Record.model_validate(item["record"])
        entries.append(Entry(record, data[offset : offset + size], refusal))
        offset += size
    if offset != len(data):
        raise ValueError(f"{len(data)} bytes, its header tells of {offset}")
    places = _places(parsed["position"], start, entries)
    return Segment(parsed["position"], parsed["learnerEpoch"], tuple(entries), places)


def _places(position: int, start: int, entries: Sequence[Entry]) -> tuple[Place, ...]:
    places = []
    for entry in entries:
        size, record = len(entry.payload), entry.record
        places.append(Place(position, start, size, record.digest, record.uri))
        start += size
    return tuple(places)


class Journal:
    """One job's journal as one learner sees it. Its methods block; call them off the event loop.

    `append` and `replay` belong to one thread, `payload` to any.
    """

    def __init__(self, store: Store, job_uid: str, epoch: int, first: int = 0) -> None:
        """`first`: where it begins; what precedes it is told by a base (see `retention`)."""
        self._store = store
        self._job_uid = job_uid
        self._epoch = epoch
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.position = first
        """The next position."""

    def replay(self) -> Iterator[Segment]:
        """Every segment from `position` on; afterwards `position` is the next free one.

        A segment that cannot be read is reported and left out: its neighbours still train.

        Raises:
            Retry: the store is unreachable.
            Fenced: a newer learner has written here.
        """
        prefix = names.journal_key(self._job_uid, 0).rsplit("/", 1)[0] + "/"
        there = [int(key.rsplit("/", 1)[1]) for key in self._store.list(prefix)]
        found = [position for position in there if position >= self.position]
        if missing := sorted(set(range(self.position, max(found, default=-1) + 1)) - set(found)):
            log.error(
                "journal %s lacks segments %s: restore these objects; going on without them",
                prefix,
                missing[:5],
            )
        yield from self._segments(found)
        self.position = max([self.position, *(position + 1 for position in found)])

    def read(self, through: int) -> Iterator[Segment]:
        """The segments from `position` up to `through`, which others wrote; raises as `replay`.

        `position` follows each one.
        """
        for segment in self._segments(range(self.position, through)):
            yield segment
            self.position = segment.position + 1
        self.position = max(self.position, through)

    def append(self, entries: Sequence[Entry]) -> list[Segment]:
        """Commit the entries as the next segment, unless an older learner wrote there first.

        Returns the segments that are now journaled: this one, or those of the other learner, for
        the caller to take in and to judge again which entries are still new. May be repeated with
        the same entries after a `Retry`: what landed unheard is found to be the same.

        Raises:
            Retry: the store is unreachable.
            Fenced: a newer learner has written here.
        """
        data = encode(self.position, self._epoch, entries)
        key = names.journal_key(self._job_uid, self.position)
        try:
            self._store.create(key, data)
        except Exists:
            others = self._others()
            if not others:
                raise Retry(f"{key} is taken, yet cannot be read") from None
            return others
        self._keep(self.position, data)
        self.position += 1
        start = len(data) - sum(len(entry.payload) for entry in entries)
        places = _places(self.position - 1, start, entries)
        return [Segment(self.position - 1, self._epoch, tuple(entries), places)]

    def payload(self, place: Place) -> bytes:
        """An admitted payload, checked against its digest.

        Raises `Retry` when the store is unreachable, FleetError when the bytes are gone or rotten.
        """
        key = place.uri or names.journal_key(self._job_uid, place.position)
        if place.uri is not None:
            payload = self._store.get(key)  # without the digest: of a rotten one nobody waits
        else:
            data = self._segment(place.position)
            payload = data[place.offset : place.offset + place.size]
        if digest_of(payload) != place.digest:
            raise FleetError(f"{key}: a payload no longer matches its digest; restore the object")
        return payload

    def _segments(self, positions: Sequence[int]) -> Iterator[Segment]:
        left = iter(positions)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="journal") as readers:
            reads = deque(readers.submit(self._read, one) for one in islice(left, _READERS))
            while reads:
                segment = reads.popleft().result()
                reads.extend(readers.submit(self._read, one) for one in islice(left, 1))
                if segment is not None:
                    self._fence(segment)
                    yield segment

    def _others(self) -> list[Segment]:
        """What somebody else wrote from our next position on, as far as it can be read now."""
        found = []
        try:
            while (segment := self._next()) is not None:
                found.append(segment)
        except Retry:
            if not found:  # what was read is behind our position: nobody would read it again
                raise
        return found

    def _next(self) -> Segment | None:
        """The segment somebody else wrote at our next position; None where there is none."""
        key = names.journal_key(self._job_uid, self.position)
        try:
            segment = decode(self._store.get(key))
        except Missing:
            return None
        except ValueError as fault:
            log.error("%s: %s; nothing of it can be used, restore the object", key, fault)  # noqa: TRY400
            segment = Segment(self.position, 0, (), ())
        self._fence(segment)
        self.position += 1
        return segment

    def _read(self, position: int) -> Segment | None:
        key = names.journal_key(self._job_uid, position)
        try:
            return decode(self._store.get(key))
        except Missing:
            log.error("%s went away while it was read; going on without it", key)  # noqa: TRY400
        except ValueError as fault:
            log.error("%s: %s; going on without it, restore the object", key, fault)  # noqa: TRY400
        return None

    def _fence(self, segment: Segment) -> None:
        if segment.epoch > self._epoch:
            raise Fenced(
                f"journal segment {segment.position} is of learner epoch {segment.epoch}, "
                f"this one holds {self._epoch}: a newer learner is at work"
            )

    def _segment(self, position: int) -> bytes:
        with self._lock:
            if position in self._cache:
                self._cache.move_to_end(position)
                return self._cache[position]
        data = self._store.get(names.journal_key(self._job_uid, position))
        self._keep(position, data)
        return data

    def _keep(self, position: int, data: bytes) -> None:
        with self._lock:
            self._cache[position] = data
            while len(self._cache) > 1 and sum(map(len, self._cache.values())) > _CACHE_BYTES:
                self._cache.popitem(last=False)
