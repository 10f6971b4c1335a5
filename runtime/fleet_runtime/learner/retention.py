"""What of the journal may go, and what is remembered when it does.

Beyond its limit the replay drops the robots' oldest episodes for good, and segments before the
oldest one it holds are of use only for what they settled. So that is written down as a *base*, then
they go, and with them the large payloads that they name:

    base (its creation is the one step that counts) → payloads, segment by segment → older bases

Dying between any two leaves a journal that says the same, and leavings for the next start. A base
is folded from base and segments before it, not from anybody's memory: whoever makes it makes the
same bytes.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_contract import names
from fleet_contract.errors import FleetError
from fleet_runtime.artifacts import Missing
from fleet_runtime.learner import epoch as office
from fleet_runtime.learner.admission import trains
from fleet_runtime.learner.journal import decode
from fleet_runtime.learner.receipts import Ledger, Settled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleet_runtime.artifacts import Store
    from fleet_runtime.learner.journal import Segment
    from fleet_runtime.learner.library import Library
    from fleet_runtime.metrics import LearnerMetrics

log = logging.getLogger(__name__)

LEAST, MOST = 64, 1024
"""Segments that go at once: a base is written for no fewer, and no pass takes longer."""


class Base(BaseModel):
    """All that the segments before `position` still mean."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    V: ClassVar[int] = 1

    v: int = 1
    position: int = 0
    episodes: dict[str, int] = {}
    """By task, those that trained."""
    spools: tuple[Settled, ...] = ()

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


def decided(first: int, oldest: int, *, least: int = LEAST, most: int = MOST) -> int:
    """Up to which position segments go, of a journal that begins at `first`. Pure.

    `oldest` is the position of the oldest episode that the replay holds, or less where it has
    dropped none.
    """
    return min(oldest, first + most) if oldest - first >= least else first


def folded(base: Base, segments: Iterable[Segment], until: int) -> Base:
    """The base at `until`, from an older one and the segments between. Pure."""
    ledger, episodes = Ledger(base.spools), Counter(base.episodes)
    for segment in segments:
        for entry in segment.entries:
            known = ledger.settled(entry.record)
            ledger.settle(entry.record, entry.refusal)
            ended = entry.record.last and trains(entry.record)
            if not known and entry.refusal is None and ended:
                episodes[entry.record.task] += 1
    return Base(position=until, episodes=dict(sorted(episodes.items())), spools=ledger.told())


def newest(store: Store, job_uid: str) -> Base:
    """Where the journal begins. Raises `Retry`, and FleetError where that cannot be read."""
    keys = _bases(store, job_uid)
    if not keys:
        return Base()
    try:
        base = Base.model_validate_json(store.get(keys[-1]))
    except (Missing, ValidationError) as fault:
        raise FleetError(
            f"{keys[-1]} cannot be read: {fault}; restore this object: without it records that "
            "were settled would train again"
        ) from fault
    if base.v != Base.V:
        raise FleetError(f"{keys[-1]} is v{base.v}; this learner reads v{Base.V}")
    return base


class _Unreadable(FleetError):
    """A segment whose bytes are no segment."""


class Retention:
    """The journal's end that goes. Methods block; they belong to one thread at a time."""

    def __init__(
        self, store: Store, job_uid: str, epoch: int, base: Base, metrics: LearnerMetrics
    ) -> None:
        self._store = store
        self._job_uid = job_uid
        self._epoch = epoch
        self._metrics = metrics
        self.base = base

    def collect(self, oldest: int, library: Library) -> None:
        """Let go of what precedes `oldest`, as `decided`.

        Raises:
            Retry: the store is unreachable; may be repeated.
            Fenced: a newer learner is at work.
        """
        until = decided(self.base.position, oldest)
        if until == self.base.position:
            return
        try:
            base = folded(self.base, self._segments(range(self.base.position, until)), until)
        except _Unreadable as fault:
            log.error("%s; nothing goes until it is restored or removed", fault)  # noqa: TRY400
            return
        office.guard(self._store, self._job_uid, self._epoch)
        self._store.create(names.base_key(self._job_uid, until), base.encode())
        self.base = base
        self.sweep()
        # Only now: whoever sends such an episode again had it refused until its payload was gone.
        library.forget(until)
        log.info("the journal begins at %d now; what precedes it left the replay", until)

    def sweep(self) -> None:
        """Remove what the base stands for; at a start before anything is taken in. Raises as above.

        A payload that a robot has put there again meanwhile is put there again: no receipt has
        been given for it.
        """
        folder = names.journal_key(self._job_uid, 0).rsplit("/", 1)[0]
        for key in self._store.list(folder):
            if int(key.rsplit("/", 1)[1]) >= self.base.position:
                break
            for payload in self._payloads(key):
                self._store.delete(payload)
                self._metrics.collected("payload").inc()
            self._store.delete(key)
            self._metrics.collected("segment").inc()
        for key in _bases(self._store, self._job_uid):
            if int(key.rsplit("/", 1)[1]) < self.base.position:
                self._store.delete(key)

    def _payloads(self, key: str) -> list[str]:
        try:
            segment = decode(self._store.get(key))
        except (Missing, ValueError):
            return []
        # Of what was refused nobody has looked where its URI points: it may be another's.
        return [
            entry.record.uri for entry in segment.entries if entry.record.uri and not entry.refusal
        ]

    def _segments(self, positions: Iterable[int]) -> Iterator[Segment]:
        """Those that are there, one at a time: each may hold megabytes.

        Raises `_Unreadable` where one of them cannot be read, which nobody may drop.
        """
        for position in positions:
            key = names.journal_key(self._job_uid, position)
            try:
                yield decode(self._store.get(key))
            except Missing:
                continue  # told of at each start
            except ValueError as fault:
                raise _Unreadable(f"{key}: {fault}") from fault


def _bases(store: Store, job_uid: str) -> list[str]:
    return store.list(names.base_key(job_uid, 0).rsplit("/", 1)[0])
