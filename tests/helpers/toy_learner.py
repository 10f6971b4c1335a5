"""The least learner: takes every record off the broker and receipts it, or does not."""

import asyncio
from collections import Counter

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.messages import Receipt, Record, decode_batch
from fleet_contract.names import Channel, Stream
from fleet_runtime.wire import Wire
from helpers import keys

STREAM = names.stream("uid-1", Stream.EXPERIENCE)
RECEIPTS = names.robot_subject("default", "r0", "job", Channel.RECEIPT)


class ToyLearner:
    """Reads the experience stream of job uid-1 and speaks to robot r0."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.seen: Counter[tuple[str, int]] = Counter()
        self.records: dict[tuple[str, int], tuple[Record, bytes]] = {}
        self.position = 0

    async def take(self, patience: float = 1.0) -> int:
        """Fetch and ack what is there; returns how many records came, 0 when the broker is away."""
        try:
            return await self._take(patience)
        except Retry:
            await self.wire.ready()
            return 0

    async def gather(self, count: int) -> None:
        """Take until this many more records came, in however many messages the robot sent them."""
        async with asyncio.timeout(60):
            while count > 0:
                count -= await self.take()
        assert count == 0, f"{-count} records more than were awaited"

    async def _take(self, patience: float) -> int:
        deliveries = await self.wire.fetch(
            STREAM, names.LEARNER_CONSUMER, batch=100, timeout=patience
        )
        count = 0
        for delivery in deliveries:
            for record, payload in decode_batch(delivery.data):
                self.seen[record.spool_id, record.n] += 1
                self.records[record.spool_id, record.n] = (record, payload)
                count += 1
            self.position = max(self.position, delivery.sequence)
            await delivery.ack_sync()
        return count

    def receipt(self, spool_id: str, *, epoch: int = 1, position: int | None = None) -> Receipt:
        """All that was taken of one spool."""
        here = sorted(n for spool, n in self.seen if spool == spool_id)
        through = 0
        while through + 1 in here:
            through += 1
        return Receipt(
            robot_uid="robot-uid",
            job_uid="uid-1",
            spool_id=spool_id,
            learner_epoch=epoch,
            through=through,
            extras=tuple(n for n in here if n > through),
            stream_position=self.position if position is None else position,
        )

    async def send(self, receipt: Receipt) -> None:
        while True:
            try:
                await self.wire.store(RECEIPTS, receipt.seal(keys.LEARNER.sign))
            except Retry:
                await self.wire.ready()
            else:
                return

    async def settle(self, spool_id: str) -> None:
        await self.send(self.receipt(spool_id))
