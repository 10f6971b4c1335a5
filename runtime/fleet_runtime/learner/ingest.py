"""Experience from the broker into the journal: judge, journal, ack, receipt, in that order.

Each round is gathered (fetch), decided (`Intake.judge`, no network but the store's payloads) and
applied (`Ingest._apply`). Dying between any two steps of the last leaves work that the next
learner repeats without harm: what was journaled but not acked comes again and counts once; what
was acked but not receipted is receipted when the next learner starts.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from fleet_contract import names
from fleet_contract.errors import Reject, Retry
from fleet_contract.messages import digest_of
from fleet_contract.names import Channel, Stream, Traffic
from fleet_runtime import tracing
from fleet_runtime.learner.handoff import admitted
from fleet_runtime.learner.intake import Fresh, Intake, News, absorb
from fleet_runtime.learner.pace import Pace
from fleet_runtime.tracing import Stage
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import Signer
    from fleet_runtime.artifacts import Store
    from fleet_runtime.learner.admission import Rules
    from fleet_runtime.learner.handoff import Admitted, Handoff
    from fleet_runtime.learner.intake import Round
    from fleet_runtime.learner.journal import Entry, Journal, Segment
    from fleet_runtime.learner.library import Library
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.learner.receipts import Ledger, SpoolKey
    from fleet_runtime.metrics import LearnerMetrics
    from fleet_runtime.wire import Delivery, Wire

log = logging.getLogger(__name__)

BATCH = 64
"""Messages fetched at once: at most as many MiB in memory."""
LINGER = 0.25
"""Seconds a fetch may wait."""
LATER = 5.0
"""Seconds until a message whose payload the store could not give comes again."""
REFRESH = 15.0
"""Seconds after which a quiet robot's receipt is told anew: the stream's position has moved on, and
a record the broker lost is sent again only by a robot that learns it was passed."""
RECEIPTS_AT_ONCE = 100
"""Receipts under way at the same time."""
QUARANTINE_BYTES = 2**30
"""Refused payloads one learner run keeps for people to look at."""

Result = TypeVar("Result")


class Ingest:
    """The background task. One per learner; its only writer of journal and receipts."""

    def __init__(
        self,
        *,
        wire: Wire,
        store: Store,
        journal: Journal,
        ledger: Ledger,
        library: Library,
        rules: Rules,
        handoff: Handoff,
        progress: Progress,
        metrics: LearnerMetrics,
        namespace: str,
        job: str,
        epoch: int,
        sign: Signer | None = None,
    ) -> None:
        self._sign = sign
        self._wire = wire
        self._store = store
        self._journal = journal
        self._ledger = ledger
        self._library = library
        self._rules = rules
        self._handoff = handoff
        self._progress = progress
        self._metrics = metrics
        self._namespace = namespace
        self._job = job
        self._epoch = epoch
        self._intake = Intake(rules, store, ledger, library)
        # Each of several threads would keep the memory that its largest round took.
        self._thread = ThreadPoolExecutor(1, "ingest")
        self._stream = names.stream(rules.job_uid, Stream.EXPERIENCE)
        self._pace = Pace(time.monotonic())
        self._passed = 0
        self._came = 0.0  # Unix seconds, of what is being judged; for traces only
        self._waiting: set[int] = set()
        self._told: dict[SpoolKey, float] = {}
        self._untold: set[SpoolKey] = set(ledger)
        self._kept_bytes = 0
        self._receipts = names.stream(rules.job_uid, Stream.RECEIPTS)
        self._stream_id = ""
        self._checked = -REFRESH

    async def run(self) -> None:
        """Until cancelled. Raises `Fenced` when a newer learner writes the journal."""
        pause = backoff()
        while True:
            try:
                await self._tell()
                deliveries = await self._wire.fetch(
                    self._stream, names.LEARNER_CONSUMER, batch=BATCH, timeout=LINGER
                )
                if deliveries:
                    new = await self.take(deliveries)
                    await asyncio.sleep(self._pace.pause(new, time.monotonic()))
            except Retry as fault:
                log.warning("ingest waits: %s", fault)
                await anext(pause)
            else:
                pause = backoff()

    async def take(self, deliveries: list[Delivery]) -> int:
        """Judge and settle these messages; returns how many records were new."""
        self._waiting.update(item.sequence for item in deliveries)
        self._came = time.time()
        new = 0
        while deliveries:
            found = await self._aside(lambda: self._intake.judge(deliveries))
            new += len(found.entries)
            await self._apply(found)
        return new

    @property
    def position(self) -> int:
        """The stream sequence up to which every message seen was settled or sent back."""
        return min(self._waiting) - 1 if self._waiting else self._passed

    async def _apply(self, found: Round) -> None:
        await self._until_stored(lambda: self._quarantine(found.quarantine))
        await self._until_stored(lambda: self._commit(found))
        self._handoff.put(await self._until_stored(lambda: self._decoded(found)))
        self._progress.moved.received[Traffic.EXPERIENCE] += found.fetched
        self._metrics.records("repeated").inc(len(found.repeated))
        for record in filter(self._ledger.settled, found.repeated):
            self._ledger.settle(record)  # so that the next receipt lists it again
        for delivery in found.done:
            self._waiting.discard(delivery.sequence)
            self._passed = max(self._passed, delivery.sequence)
        await self._answer(found)
        self._untold |= found.touched
        await self._tell()
        await self._handoff.room()

    async def _answer(self, found: Round) -> None:
        acks = [delivery.ack() for delivery in found.done]
        naks = [delivery.nak(LATER) for delivery in found.later]
        for failed in await asyncio.gather(*acks, *naks, return_exceptions=True):
            if isinstance(failed, BaseException):
                log.debug("a message will come again: %s", failed)

    async def _until_stored(self, work: Callable[[], Result]) -> Result:
        """Run blocking work in a thread until the store answers: nothing judged is let go."""
        pause = backoff()
        while True:
            try:
                return await self._aside(work)
            except Retry as fault:
                log.warning("ingest waits for the store: %s", fault)
                await anext(pause)

    async def _aside(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _quarantine(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            if self._kept_bytes + len(payload) > QUARANTINE_BYTES:
                log.warning("quarantine is full; a refused payload of %d bytes goes", len(payload))
                continue
            key = names.quarantine_key(self._rules.job_uid, digest_of(payload))
            self._store.create(key, payload)
            self._kept_bytes += len(payload)
        payloads.clear()

    def _commit(self, found: Round) -> None:
        """Journal the entries, taking in what an older learner wrote meanwhile."""
        while found.entries:
            for segment in self._journal.append(found.entries):
                self._take_in(segment, found)
            found.entries = [
                entry
                for entry in found.entries
                if not self._ledger.settled(entry.record)
                and (entry.refusal or not self._library.has(entry.record))
            ]
        self._progress.journal_position = self._journal.position

    def _decoded(self, found: Round) -> list[Admitted]:
        """What the replay gets; an episode whose last part has come is read again as a whole."""
        read = (
            admitted(change, position, self._library, judged)
            for change, position, judged in found.fresh
        )
        return [one for one in read if one is not None]

    def _take_in(self, segment: Segment, found: Round) -> None:
        for change in absorb(segment, self._ledger, self._library):
            record, judged = change.record, None
            if segment.epoch == self._epoch and change.news in {News.WHOLE, News.PART}:
                judged = found.episodes.get((record.robot, *record.key))
            found.fresh.append(Fresh(change, segment.position, judged))
            log.debug("%s of episode %s at %d", change.news, record.episode_id, segment.position)
        for entry in segment.entries:
            if tracing.active():
                self._trace(entry, segment.position)
            if entry.refusal:
                self._progress.rejected += 1
                self._metrics.rejected(entry.refusal.code).inc()
            else:
                self._metrics.records("evicted" if entry.record.evicted else "admitted").inc()

    def _trace(self, entry: Entry, position: int) -> None:
        of = tracing.of_episode(entry.record.episode_id)
        code = entry.refusal.code.value if entry.refusal else None
        about: dict[str, Any] = {"robot": entry.record.robot, "position": position}
        tracing.tell(Stage.INGEST, of, self._came, time.time(), rejected=code, **about)

    async def _tell(self) -> None:
        """Send the receipts that are due; what cannot be sent stays due."""
        now = time.monotonic()
        if now - self._checked > REFRESH:
            await self._check_stream()
            self._checked = now
            quiet = (key for key, told in self._told.items() if now - told > REFRESH)
            self._untold.update(itertools.islice(quiet, RECEIPTS_AT_ONCE))
        while self._untold:
            keys = list(itertools.islice(self._untold, RECEIPTS_AT_ONCE))
            sent = await asyncio.gather(*map(self._receipt, keys))
            self._untold.difference_update(
                key for key, well in zip(keys, sent, strict=True) if well
            )
            if not all(sent):
                return

    async def _receipt(self, key: SpoolKey) -> bool:
        document = self._ledger.receipt(
            key, job_uid=self._rules.job_uid, epoch=self._epoch, position=self.position
        )
        subject = names.robot_subject(self._namespace, key.robot, self._job, Channel.RECEIPT)
        try:
            await self._wire.store(subject, document.seal(self._sign), stream=self._receipts)
        except (Retry, Reject) as fault:
            log.warning("receipt for robot %s waits: %s", key.robot, fault)
            return False
        self._told.pop(key, None)  # who was told last stands last, or a large fleet's rest never is
        self._told[key] = time.monotonic()
        return True

    async def _check_stream(self) -> None:
        """A stream made anew counts from one again, one whose end is lost from there."""
        state = await self._wire.stream_state(self._stream)
        if state is None:
            return
        last = state.last if state.id == self._stream_id else 0
        self._stream_id, self._passed = state.id, min(self._passed, last)
        self._waiting = {sequence for sequence in self._waiting if sequence <= last}
