"""Spool to broker to receipt against a real nats-server that dies, forgets and is made anew."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet_contract.messages import INLINE_MAX, digest_of
from fleet_contract.names import Traffic
from fleet_runtime.artifacts import Store
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.spool import Spool
from fleet_runtime.robot.uploader import Uploader
from fleet_runtime.traffic import Moved
from fleet_runtime.wire import Wire
from helpers.nats import Broker, lose_streams, make_streams
from helpers.records import draft
from helpers.toy_learner import STREAM, ToyLearner

WHO = Identity("default", "r0", "robot-uid", "job", "uid-1")


class Bench:
    """One robot's uploader and one toy learner on the same broker."""

    def __init__(self, spool: Spool, store: Store, uploader: Uploader, learner: ToyLearner) -> None:
        self.spool = spool
        self.store = store
        self.uploader = uploader
        self.learner = learner

    def add(self, count: int, size: int = 100) -> None:
        for index in range(count):
            payload = bytes([index % 251]) * size
            self.spool.append(draft(payload, f"e{index}"), payload)
        self.uploader.wake()

    @property
    def moved(self) -> Moved:
        return self.uploader._wire.moved

    async def messages(self) -> int:
        state = await self.learner.wire.stream_state(STREAM)
        assert state is not None
        return state.messages

    async def drain(self) -> None:
        """Take and receipt until the spool is empty."""
        while self.spool.depth:
            if await self.learner.take(0.2):
                await self.learner.settle(self.spool.spool_id)


@asynccontextmanager
async def bench(
    broker: Broker, tmp_path: Path, *, credit: int = 64, poll: float = 0.2
) -> AsyncIterator[Bench]:
    spool = Spool(tmp_path / "spool", job_uid="uid-1")
    store = Store(f"file://{tmp_path}/objects")
    wire = await Wire.connect(broker.url, "robot")
    other = await Wire.connect(broker.url, "learner")
    uploader = Uploader(WHO, spool, wire, store, credit=credit, poll=poll)
    running = asyncio.create_task(uploader.run())
    try:
        yield Bench(spool, store, uploader, ToyLearner(other))
    finally:
        running.cancel()
        await asyncio.wait([running])
        await wire.close()
        await other.close()
        spool.close()
    assert running.cancelled()


@pytest.fixture(autouse=True)
async def _streams(broker: Broker) -> None:
    await make_streams(broker.url)


async def test_nothing_leaves_the_spool_before_its_receipt(broker: Broker, tmp_path: Path) -> None:
    async with bench(broker, tmp_path) as b:
        b.add(5)
        assert await b.uploader.flushed(30)
        await b.learner.gather(5)
        assert b.spool.pending() == [1, 2, 3, 4, 5]
        assert b.uploader.unreceipted == 5
        await b.learner.settle(b.spool.spool_id)
        async with asyncio.timeout(60):
            await b.drain()
        assert b.uploader.unreceipted == 0
        assert set(b.learner.seen.values()) == {1}


async def test_at_most_the_credit_lies_unreceipted_in_the_broker(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path, credit=4) as b:
        b.add(10)
        assert await b.uploader.flushed(30)
        await b.learner.gather(4)
        assert await b.learner.take(0.5) == 0  # acked is not receipted: the credit is still out
        assert b.uploader.unreceipted == 4
        await b.learner.settle(b.spool.spool_id)
        await b.learner.gather(4)
        assert b.uploader.unreceipted <= 4
        async with asyncio.timeout(60):
            await b.learner.settle(b.spool.spool_id)
            await b.drain()
        assert set(b.learner.seen.values()) == {1}


async def test_a_receipt_that_was_not_heard_is_found_at_the_next_poll(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path) as b:
        b.add(2)
        assert await b.uploader.flushed(30)
        await b.learner.gather(2)
    learner = Wire.connect(broker.url, "learner")
    b.learner.wire = await learner
    await b.learner.settle(b.spool.spool_id)  # the robot is away
    await b.learner.wire.close()
    async with bench(broker, tmp_path) as again:
        async with asyncio.timeout(60):
            while again.spool.depth:
                await again.learner.take(0.1)  # what the restarted robot sends meanwhile
        assert again.spool.pending() == []


async def test_what_was_passed_without_a_receipt_is_sent_again(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path) as b:
        b.add(1)
        assert await b.uploader.flushed(30)
        await b.learner.gather(1)
        b.learner.seen.clear()  # acked, and lost before the journal
        await b.learner.settle(b.spool.spool_id)
        await b.learner.gather(1)
        async with asyncio.timeout(60):
            await b.learner.settle(b.spool.spool_id)
            await b.drain()


async def test_a_lost_stream_is_noticed_and_everything_unreceipted_sent_again(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path) as b:
        b.add(3)
        assert await b.uploader.flushed(30)
        assert await b.messages() > 0
        await lose_streams(broker.url)
        await make_streams(broker.url)
        async with asyncio.timeout(60):
            await b.drain()
        assert {n for _, n in b.learner.seen} == {1, 2, 3}


async def test_a_stream_made_anew_is_noticed_with_the_next_record_and_not_only_at_the_next_look(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path, poll=3600) as b:
        b.add(3)
        assert await b.uploader.flushed(30)
        await lose_streams(broker.url)
        await make_streams(broker.url)
        b.add(1)
        async with asyncio.timeout(60):
            await b.drain()
        assert {n for _, n in b.learner.seen} == {1, 2, 3, 4}


async def test_a_large_payload_goes_by_the_store_and_a_small_one_inline(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path) as b:
        large = bytes(INLINE_MAX + 1)
        b.spool.append(draft(b"small", "a"), b"small")
        b.spool.append(draft(large, "b"), large)
        b.spool.append(draft(b"tiny", "c"), b"tiny")
        b.uploader.wake()
        assert await b.uploader.flushed(30)
        while len(b.learner.seen) < 3:
            await b.learner.take()
        (small, inline), (big, nothing), _ = (
            b.learner.records[b.spool.spool_id, n] for n in (1, 2, 3)
        )
        assert (small.uri, inline) == (None, b"small")
        assert nothing == b""
        assert big.uri is not None
        assert b.store.get(big.uri, digest_of(large)) == large
        assert b.uploader.records == {"stored": 3}
        assert b.moved.sent[Traffic.EXPERIENCE] > len(large)


async def test_many_middling_payloads_never_make_a_message_too_large(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path) as b:
        b.add(12, size=200_000)
        assert await b.uploader.flushed(30)
        while len(b.learner.seen) < 12:
            await b.learner.take()
        assert {len(payload) for _, payload in b.learner.records.values()} == {200_000}


async def test_a_full_broker_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    await lose_streams(broker.url)
    await make_streams(broker.url, max_bytes=100_000)
    async with bench(broker, tmp_path) as b:
        b.add(30, size=10_000)
        async with asyncio.timeout(60):
            await b.drain()
        assert {n for _, n in b.learner.seen} == set(range(1, 31))


async def test_broker_killed_and_started_again_loses_nothing_of_a_running_uploader(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path, credit=16) as b:
        for turn in range(3):
            b.add(20, size=5000)
            if turn:
                async with asyncio.timeout(60):
                    while not await b.learner.take(0.2):
                        pass
                    await b.learner.settle(b.spool.spool_id)
            broker.kill()
            b.add(5)
            broker.start()
        async with asyncio.timeout(60):
            await b.drain()
        assert {n for _, n in b.learner.seen} == set(range(1, 76))


async def test_a_broker_that_hangs_may_get_records_twice_but_never_loses_one(
    broker: Broker, tmp_path: Path
) -> None:
    async with bench(broker, tmp_path) as b:
        b.add(1)
        assert await b.uploader.flushed(30)
        broker.freeze()
        b.add(3)
        assert not await b.uploader.flushed(6)  # the publish timed out, and may have landed
        broker.thaw()
        async with asyncio.timeout(60):
            await b.drain()
        assert {n for _, n in b.learner.seen} == {1, 2, 3, 4}
