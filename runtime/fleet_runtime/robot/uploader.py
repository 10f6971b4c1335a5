"""Spool → broker, until the learner's receipt: gather, ask the ledger, send, settle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import Reject, Retry, Untrusted
from fleet_contract.messages import INLINE_MAX, Receipt, Record, encode_batch
from fleet_contract.names import Channel, Stream, Traffic
from fleet_runtime import tracing
from fleet_runtime.artifacts import Exists
from fleet_runtime.robot.ledger import Ledger
from fleet_runtime.tracing import Stage
from fleet_runtime.waiting import event_within
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_contract.messages import Verifier
    from fleet_runtime.artifacts import Objects
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.robot.spool import Spool
    from fleet_runtime.tracing import Trail
    from fleet_runtime.wire import Wire

log = logging.getLogger(__name__)

BATCH_BYTES = 768 * 1024
"""Payload bytes in one message; below the broker's usual limit of 1 MiB with its header."""
BATCH_RECORDS = 32
_LEAST_CEILING = 16 * 1024


class Uploader:
    """Sends what the spool holds and deletes what the learner has receipted."""

    def __init__(
        self,
        who: Identity,
        spool: Spool,
        wire: Wire,
        store: Objects,
        *,
        credit: int,
        poll: float,
        verify: Verifier | None = None,
    ) -> None:
        """`poll`: seconds between two looks at receipts and stream, jittered by half."""
        self._who = who
        self._spool = spool
        self._wire = wire
        self._store = store
        self._poll = poll
        self._verify = verify
        self._ledger = Ledger(spool.spool_id, credit)
        self._wake = asyncio.Event()
        self._look_at = 0.0  # monotonic seconds of the next look
        self._ceiling = BATCH_BYTES  # what this broker takes in one message
        self._batch_bytes = BATCH_BYTES  # what we try now: less after a failure, as it may be full
        self._idle = asyncio.Event()
        self._newest = 0  # stream sequence of our last message
        self._traced: dict[int, tuple[Trail, float]] = {}  # in the broker, where somebody asks
        self.records: Counter[str] = Counter()
        """By what became of them: stored, settled, rejected."""

    @property
    def unreceipted(self) -> int:
        """Records in the broker that no receipt has settled."""
        return self._ledger.stored

    def wake(self) -> None:
        """Something was spooled. From other threads: by `call_soon_threadsafe`."""
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; without broker or store it waits and keeps everything."""
        await self._wire.subscribe(self._who.subject(Channel.RECEIPT), self._hear)
        self._wire.on_reconnect(self._look_now)
        pauses = backoff()
        while True:
            self._wake.clear()
            try:
                if time.monotonic() >= self._look_at:
                    await self._look()
                sent = await self._send()
            except (Retry, Reject) as fault:
                log.info("upload waits: %s", fault)
                await self._wire.ready()
                await anext(pauses)
                continue
            pauses = backoff()
            if not sent and not self._wake.is_set():
                self._idle.set()
                left = max(0.0, self._look_at - time.monotonic())
                await event_within(self._wake, left)

    async def flushed(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until all that the credit allows is in the broker; False after `timeout` s."""
        self.wake()
        return await event_within(self._idle, timeout)

    def _look_now(self) -> None:
        self._look_at = 0.0
        self._wake.set()

    async def _look(self) -> None:
        """What messages may have told while nobody listened: the stream's id, the last receipt."""
        state = await self._wire.stream_state(self._who.stream(Stream.EXPERIENCE))
        if state is not None and self._ledger.stream(state.id, state.last):
            log.warning("the broker lost experience; it is sent again")
        receipts, subject = self._who.stream(Stream.RECEIPTS), self._who.subject(Channel.RECEIPT)
        found = await self._wire.last(receipts, subject)
        if found is not None:
            await self._hear(subject, found, told=False)
        self._look_at = time.monotonic() + self._poll * random.uniform(0.5, 1.5)  # noqa: S311

    async def _hear(self, _subject: str, data: bytes, *, told: bool = True) -> None:
        try:
            receipt = Receipt.open(data, self._verify)
        except Untrusted as fault:
            log.warning("receipt refused: %s", fault)
            return
        if (receipt.robot_uid, receipt.job_uid) != (self._who.robot_uid, self._who.job_uid):
            return
        settled = self._ledger.receipt(receipt, self._spool.pending(), told=told)
        if not settled:
            self._wake.set()  # it may have made some records due again
            return
        self._trace_receipt(settled, receipt)
        for item in receipt.rejects:  # a receipt repeats those of earlier ones
            if item.n in settled:
                log.warning("record %d was rejected: %s: %s", item.n, item.code, item.message)
                self.records["rejected"] += 1
        count = await asyncio.to_thread(self._spool.settle, settled)
        self.records["settled"] += count
        for n in settled:
            # A send that was under way meanwhile must not hold credit for what is settled.
            self._ledger.gone(n)
        self._wake.set()

    async def _send(self) -> bool:
        """Send one message of what is due; False when nothing is."""
        due = self._ledger.due(self._spool.pending())
        if not due:
            return False
        entries = await self._gather(due)
        if not entries:
            return True  # settled while it was read
        data = encode_batch(entries)
        try:
            sequence = await self._wire.store(
                self._who.subject(Channel.EXPERIENCE),
                data,
                stream=self._who.stream(Stream.EXPERIENCE),
            )
        except Reject:
            # This broker takes less than usual: smaller messages, more by reference.
            self._ceiling = max(_LEAST_CEILING, self._ceiling // 2)
            self._batch_bytes = self._ceiling
            raise
        except Retry:
            self._batch_bytes //= 2  # down to one record, which is always tried
            raise
        if sequence <= self._newest:  # its numbers began anew: another stream, without our records
            self._look_now()
        self._newest = sequence
        self._batch_bytes = min(self._ceiling, 2 * self._batch_bytes + _LEAST_CEILING)
        here = set(self._spool.pending())
        self._ledger.sent([record.n for record, _ in entries if record.n in here], sequence)
        self.records["stored"] += len(entries)
        if tracing.active():
            self._trace_sent(record for record, _ in entries if record.n in here)
        return True

    def _trace_sent(self, records: Iterable[Record]) -> None:
        now = time.time()
        for record in records:
            of = tracing.of_episode(record.episode_id)
            self._traced[record.n] = of, now
            size, part = record.size, record.segment
            tracing.tell(Stage.UPLOAD, of, record.ended_at, now, bytes=size, segment=part)

    def _trace_receipt(self, settled: list[int], receipt: Receipt) -> None:
        codes = {item.n: item.code.value for item in receipt.rejects}
        for n in settled:
            if (found := self._traced.pop(n, None)) is not None:
                tracing.tell(Stage.RECEIPT, *found, time.time(), rejected=codes.get(n))

    async def _gather(self, due: list[int]) -> list[tuple[Record, bytes]]:
        entries: list[tuple[Record, bytes]] = []
        size = 0
        for record, payload in await asyncio.to_thread(self._read, due[:BATCH_RECORDS]):
            if len(payload) > min(INLINE_MAX, self._ceiling):
                if entries:
                    break  # what is ready goes first; the store may be slow or away
                entries.append((self._owned(await self._by_reference(record, payload)), b""))
                continue
            if entries and size + len(payload) > self._batch_bytes:
                break
            entries.append((self._owned(record), payload))
            size += len(payload)
        return entries

    def _read(self, due: list[int]) -> list[tuple[Record, bytes]]:
        """The first of these records, about as many as one message takes."""
        found: list[tuple[Record, bytes]] = []
        size = 0
        for n in due:
            with contextlib.suppress(KeyError):  # settled meanwhile
                found.append(self._spool.read(n))
                size += len(found[-1][1])
            if size > self._batch_bytes:
                break
        return found

    async def _by_reference(self, record: Record, payload: bytes) -> Record:
        key = names.payload_key(self._who.job_uid, record.digest, self._store.owner)
        try:
            await asyncio.to_thread(self._store.create, key, payload)
        except Exists:
            # Its name is the digest of its content, so what lies there is garbage.
            await asyncio.to_thread(self._store.delete, key)
            raise Retry(f"{key} held other bytes than its digest says; it is made again") from None
        self._wire.moved.sent[Traffic.EXPERIENCE] += len(payload)
        return record.model_copy(update={"uri": key})

    def _owned(self, record: Record) -> Record:
        """Who sends it; the disk may have lost that together with the payload."""
        return record.model_copy(
            update={
                "robot": self._who.robot,
                "robot_uid": self._who.robot_uid,
                "job_uid": self._who.job_uid,
            }
        )
