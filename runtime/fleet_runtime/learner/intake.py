"""The judgement over messages from robots, and what a journaled segment changes. No network.

`Intake.judge` turns messages into a `Round`, an inert list of what to do; it changes nothing.
`absorb` settles a segment that is in the journal, alike at work and in a replay, and says what that
changes for the replay: an episode is new, or a part of one, or all parts of one are there.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract import names
from fleet_contract.errors import Reject, RejectCode, Retry
from fleet_contract.messages import EpisodeMode, Outcome, read_batch
from fleet_runtime.learner.admission import Resend, Strikes, fetch_payload, trains
from fleet_runtime.learner.journal import Entry
from fleet_runtime.learner.receipts import SpoolKey, spool_of

if TYPE_CHECKING:
    from fleet_contract.messages import Record, Spoiled
    from fleet_runtime.artifacts import Store
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.admission import Rules
    from fleet_runtime.learner.journal import Place, Segment
    from fleet_runtime.learner.library import Library
    from fleet_runtime.learner.receipts import Ledger
    from fleet_runtime.wire import Delivery

log = logging.getLogger(__name__)

ROUND_BYTES = 64 * 2**20
"""Decoded bytes after which a round is committed before the next message is judged."""
SEGMENT_BYTES = 8 * 2**20
"""… and bytes for its segment, which lies in memory as a whole whenever it is written or read."""


@dataclasses.dataclass
class Round:
    """What to do about some messages, in the order of the fields."""

    quarantine: list[bytes] = dataclasses.field(default_factory=list)
    entries: list[Entry] = dataclasses.field(default_factory=list)
    episodes: dict[tuple[str, str, str, int], Episode] = dataclasses.field(default_factory=dict)
    done: list[Delivery] = dataclasses.field(default_factory=list)
    later: list[Delivery] = dataclasses.field(default_factory=list)
    touched: set[SpoolKey] = dataclasses.field(default_factory=set)
    repeated: list[Record] = dataclasses.field(default_factory=list)
    fresh: list[Fresh] = dataclasses.field(default_factory=list)  # once it is journaled
    keys: set[tuple[str, str, str, int]] = dataclasses.field(default_factory=set)
    bytes: int = 0
    inline: int = 0  # bytes of payloads that go into the segment
    fetched: int = 0  # bytes that came from the store

    @property
    def full(self) -> bool:
        return self.bytes >= ROUND_BYTES or self.inline >= SEGMENT_BYTES


class News(enum.Enum):
    """What a journaled record changes for the replay."""

    WHOLE = enum.auto()  # an episode that came as one
    PART = enum.auto()  # a part of an episode
    JOINED = enum.auto()  # the parts of an episode are all there: it is whole
    ENDED = enum.auto()  # no more parts will come, and it is not whole


class Change(NamedTuple):
    """One of these, and whose."""

    news: News
    record: Record
    """Of an episode in parts that is over: its last, or the newest where there is no last one."""
    inline: bytes = b""
    """The payload of this record, where it lay in the segment."""


class Fresh(NamedTuple):
    """A change that the journal tells of, and where."""

    change: Change
    position: int
    judged: Episode | None  # what was decoded to judge it


class Intake:
    """The judgement over messages; knows what is settled, changes nothing outside itself."""

    def __init__(self, rules: Rules, store: Store, ledger: Ledger, library: Library) -> None:
        self._rules = rules
        self._store = store
        self._ledger = ledger
        self._library = library
        self._strikes = Strikes()

    def judge(self, deliveries: list[Delivery]) -> Round:
        """Take messages from the front of the list until it is empty or the round is large.

        Nothing in a message is raised: each record gets its verdict, whatever its neighbours are.
        """
        found = Round()
        while deliveries and not found.full:
            delivery = deliveries.pop(0)
            (found.done if self._message(delivery, found) else found.later).append(delivery)
        return found

    def _message(self, delivery: Delivery, found: Round) -> bool:
        """Judge one message; False when it must come again because the store is away."""
        robot = names.robot_of(delivery.subject)
        try:
            batch = read_batch(delivery.data)
        except Reject as fault:
            log.warning("message %d of robot %s: %s; quarantined", delivery.sequence, robot, fault)
            found.quarantine.append(delivery.data)
            return True
        if batch.left:
            log.warning("message %d of robot %s: bytes after its end", delivery.sequence, robot)
            found.quarantine.append(batch.left)
        for spoiled in batch.spoiled:
            self._spoiled(spoiled, robot, found)
        whole = True
        for record, inline in batch.entries:
            try:
                self._record(record, inline, robot, found)
            except Resend as fault:
                log.warning("%s; the robot will send it again", fault)
                found.touched.add(spool_of(record))
            except Retry as fault:
                log.warning("record %d of robot %s waits: %s", record.n, robot, fault)
                whole = False
        return whole

    def _spoiled(self, spoiled: Spoiled, robot: str, found: Round) -> None:
        """A record that cannot be read: refused by its number, where it has one."""
        record = spoiled.record
        if record is not None:
            self._refuse(record, spoiled.payload, robot, spoiled.fault, found)
            return
        log.warning("a record of robot %s: %s; quarantined", robot, spoiled.fault)
        if spoiled.payload:
            found.quarantine.append(spoiled.payload)

    def _record(self, record: Record, inline: bytes, robot: str, found: Round) -> None:
        key = (record.robot, *record.key)
        payload = inline
        try:
            self._rules.check_record(record, robot)
            if self._ledger.settled(record) or key in found.keys:
                self._repeated(record, inline, found)
                return
            episode = None
            if not (record.evicted or record.closes):
                payload = fetch_payload(self._store, record, inline, self._strikes)
                found.fetched += len(payload) if record.uri else 0
                episode = self._rules.check_payload(record, payload)
                self._unique(record, found)
        except Reject as refusal:
            self._refuse(record, payload, robot, refusal, found)
            return
        found.touched.add(spool_of(record))
        found.keys.add(key)
        found.entries.append(Entry(record, b"" if record.uri else payload))
        found.inline += 0 if record.uri else len(payload)
        if episode is not None:
            found.episodes[key] = episode
            # With the last part the whole will be read again: as many parts, about as large.
            found.bytes += episode.nbytes * (1 + record.segment * record.last)

    def _repeated(self, record: Record, inline: bytes, found: Round) -> None:
        """A record that was settled before: tell its robot again."""
        found.touched.add(spool_of(record))
        found.repeated.append(record)
        if self._ledger.conflicts(record):
            message = f"n {record.n} of spool {record.spool_id} came before with other content"
            log.warning("robot %s: %s; the first is kept", record.robot, message)
            if inline:
                found.quarantine.append(inline)

    def _unique(self, record: Record, found: Round) -> None:
        taken = self._library.has(record) or any(
            _same(record, entry.record) for entry in found.entries if not entry.refusal
        )
        if taken:
            part = "" if record.whole else f"part {record.segment} of "
            message = f"{part}episode {record.episode_id!r} was admitted from another record"
            raise Reject(RejectCode.CONFLICT, message)

    def _refuse(
        self, record: Record, payload: bytes, robot: str, refusal: Reject, found: Round
    ) -> None:
        log.warning("record %d of robot %s: %s; quarantined", record.n, robot, refusal)
        if payload:
            found.quarantine.append(payload)
        # Under a stranger's name nothing is settled: the number is the stranger's to spend.
        if record.robot != robot or record.n < 1:
            return
        key = (record.robot, *record.key)
        if self._ledger.settled(record) or key in found.keys:
            found.repeated.append(record)
        else:
            found.keys.add(key)
            # Not the exception itself: its traceback holds all that was unpacked to find the fault.
            kept = Reject(refusal.code, refusal.message)
            found.entries.append(Entry(record, refusal=kept))
        found.touched.add(spool_of(record))


def _same(one: Record, other: Record) -> bool:
    """Whether two records cannot both be what they say."""
    if other.evicted or one.episode_id != other.episode_id:
        return False
    return one.whole or other.whole or one.segment == other.segment


def absorb(segment: Segment, ledger: Ledger, library: Library) -> list[Change]:
    """Settle a journaled segment and remember its payloads; what is new and trains.

    Replay and work at run time both go through here, so that both end in the same state.
    """
    changes: list[Change] = []
    for entry, place in zip(segment.entries, segment.places, strict=True):
        record = entry.record
        known = ledger.settled(record)
        ledger.settle(record, entry.refusal)
        if known:
            continue
        if entry.refusal is None:
            changes += _taken(entry, place, library)
        over = library.running.over(record, ledger, admitted=entry.refusal is None)
        changes += [change for last in over if (change := _over(last, library))]
    return changes


def _taken(entry: Entry, place: Place, library: Library) -> list[Change]:
    record = entry.record
    if record.evicted or record.closes:
        if not record.whole:
            library.running.part(record)
        return []
    if library.has(record):
        return []
    if record.whole:
        library.add(record.episode_id, place)
        news = News.WHOLE
    else:
        library.add_part(record.episode_id, record.segment, place)
        library.running.part(record)
        news = News.PART
    return [Change(news, record, entry.payload)] if trains(record) else []


def _over(last: Record, library: Library) -> Change | None:
    """What an episode in parts has become, by its last record."""
    if last.mode is not EpisodeMode.LIVE:
        return None
    count = last.segment + (not last.closes)
    if last.last and not last.evicted and library.join(last.episode_id, count):
        return Change(News.JOINED, last)
    return Change(News.ENDED, last)


def keeps(last: Record) -> bool:
    """Whether what there is of an episode trains though it is not whole: its end is known."""
    return last.last and last.outcome not in {None, Outcome.ABORTED, Outcome.DISCARDED}
