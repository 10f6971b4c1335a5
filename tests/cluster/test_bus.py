"""The operator's line to the broker, on a real one."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.names import Channel, Stream, StreamMeta
from fleet_operator.bus import Bus
from fleet_operator.feed import Feed
from fleet_operator.inbox import Inbox
from fleet_operator.streams import Found
from helpers.nats import clustered, half_a_broker, make_streams, running_broker

T = TypeVar("T")


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path) as broker:
        await make_streams(broker.url)
        bus = Bus(broker.url)
        answered = asyncio.Event()

        async def work() -> None:
            while True:
                await bus.ensure("default", "job", "uid-1", "installation")
                answered.set()

        for _ in range(30):
            task = asyncio.create_task(work())
            await answered.wait()
            answered.clear()
            # The reply of the request under way is handled in the same turn as the cancellation.
            futures = (await bus.client())._resp_map
            while not futures:  # noqa: ASYNC110 - the next request is about to go out
                await asyncio.sleep(0)
            next(iter(futures.values())).add_done_callback(partial(_cancel, task))
            done, _ = await asyncio.wait([task], timeout=5)
            assert done
            assert task.cancelled()
        await bus.close()


async def test_a_stream_is_followed_when_all_that_was_there_has_come(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        await make_streams(broker.url)
        bus = Bus(broker.url)
        stream = names.stream("uid-1", Stream.EVENTS)
        subject = names.robot_subject("default", "r1", "job", Channel.EVENT)
        came: list[int] = []

        async def followed(start: int) -> list[int]:
            came.clear()
            end = await bus.follow(stream, start, lambda number, *_: came.append(number))
            there = list(came)
            await end()
            return there

        js = (await bus.client()).jetstream()
        assert await followed(1) == []
        first = (await js.publish(subject, b"0")).seq
        sent = [await js.publish_async(subject, b"") for _ in range(2000)]
        last = (await asyncio.gather(*sent))[-1].seq
        assert await followed(1) == list(range(first, last + 1))
        assert await followed(last - 2) == [last - 2, last - 1, last]
        assert await followed(last + 1) == []
        await js.purge_stream(stream)
        assert await followed(first) == []
        await bus.close()


async def test_a_cluster_of_three_loses_nothing_with_any_one_of_its_servers(tmp_path: Path) -> None:
    with clustered(tmp_path) as servers:
        bus = Bus(",".join(one.url for one in servers))
        ensure = partial(bus.ensure, "default", "job", "uid-1", "installation")
        await eventually(ensure)
        js = (await bus.client()).jetstream()
        name = names.stream("uid-1", Stream.EXPERIENCE)
        subject = names.robot_subject("default", "r1", "job", Channel.EXPERIENCE)
        for number in range(20):
            await js.publish(subject, str(number).encode())
        info = await js.stream_info(name)
        assert info.config.num_replicas == 3
        assert info.cluster is not None
        (leader,) = (one for one in servers if info.cluster.leader == f"n{one.folder.name}")
        leader.kill()
        shutil.rmtree(leader.folder)
        made = (await eventually(ensure))[Stream.EXPERIENCE]
        assert made.generation == (info.config.metadata or {})[StreamMeta.GENERATION]
        js = (await bus.client()).jetstream()
        pull = await js.pull_subscribe_bind(names.LEARNER_CONSUMER, name)
        found = await eventually(partial(pull.fetch, 20, 5))
        assert sorted(int(one.data) for one in found) == list(range(20))
        await bus.close()


async def test_streams_of_two_servers_are_spread_when_a_third_comes(tmp_path: Path) -> None:
    with clustered(tmp_path, started=2) as servers:
        bus = Bus(servers[0].url)

        async def copies(wanted: int) -> int:
            await bus.ensure("default", "job", "uid-1", "installation")
            name = names.stream("uid-1", Stream.EXPERIENCE)
            config = (await (await bus.client()).jetstream().stream_info(name)).config
            if config.num_replicas != wanted:
                raise Retry(f"{config.num_replicas} instead of {wanted}")
            return wanted

        assert await eventually(partial(copies, 1)) == 1
        servers[2].start()
        try:
            assert await eventually(partial(copies, 3)) == 3
        finally:
            servers[2].kill()
        await bus.close()


async def eventually(attempt: Callable[[], Awaitable[T]]) -> T:
    """As the operator and the learner do: again, until servers have chosen a leader."""
    last: Exception | None = None
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    return await attempt()
                except (Retry, nats.errors.Error) as fault:
                    last = fault
                    await asyncio.sleep(0.1)  # no server tells a client when it has
    except TimeoutError:
        raise AssertionError(f"never came about: {last!r}") from last


async def test_a_connection_given_up_half_way_leaves_no_socket_behind() -> None:
    async with half_a_broker() as (url, happened):
        connecting = asyncio.create_task(Bus(url).client())
        assert await asyncio.wait_for(happened.get(), 60) == "came"
        connecting.cancel()
        assert await asyncio.wait_for(happened.get(), 60) == "left"
        with pytest.raises(asyncio.CancelledError):
            await connecting


def _cancel(task: asyncio.Task[None], _reply: object) -> None:
    task.cancel()


async def test_a_stream_made_anew_goes_on_above_the_numbers_of_the_lost_one(tmp_path: Path) -> None:
    """What counts from event n on then counts all that the new one holds."""
    with running_broker(tmp_path) as broker:
        bus = Bus(broker.url)
        ensure = partial(bus.ensure, "default", "job", "uid-1", "installation")
        await ensure()
        js = (await bus.client()).jetstream()
        name = names.stream("uid-1", Stream.EVENTS)
        subject = names.robot_subject("default", "r1", "job", Channel.EVENT)
        numbers = [(await js.publish(subject, b"")).seq for _ in range(2)]
        await js.delete_stream(name)
        await ensure()
        numbers += [(await js.publish(subject, b"")).seq for _ in range(2)]
        config = (await js.stream_info(name)).config
        await js.update_stream(config.evolve(max_bytes=1024, first_seq=None))
        made = (await ensure())[Stream.EVENTS]  # mends it, and does not make it anew
        await bus.close()
    assert numbers == sorted(set(numbers))
    assert (made.last, made.generation) == (
        numbers[-1],
        (config.metadata or {})[StreamMeta.GENERATION],
    )


async def test_events_whose_numbers_were_given_before_a_power_cut_are_heard(tmp_path: Path) -> None:
    """The disk is set back to what it was: as where the last two minutes were never flushed."""
    subject = names.robot_subject("default", "r1", "job", Channel.EVENT)
    disk, flushed = tmp_path / "disk", tmp_path / "flushed"
    connected = asyncio.Event()
    with running_broker(disk) as broker:
        inbox = Inbox("default", lambda _: connected.set(), lambda *_: None, lost_after=60)
        how: dict[str, Any] = {
            "installation": "installation",
            "events_from": 0,
            "check_every": 3600,
        }
        opened = partial(inbox.open, "job", "uid-1", broker.url, **how)

        async def told(times: int) -> int:
            js = (await inbox.bus(broker.url).client()).jetstream()
            for _ in range(times):
                number = (await eventually(partial(js.publish, subject, b""))).seq
            return number

        async def began_again() -> None:
            connected.clear()
            broker.start()
            await asyncio.wait_for(connected.wait(), 60)
            await eventually(opened)

        feed = (await opened()).feed
        first = await told(1)
        broker.kill()
        shutil.copytree(disk, flushed)
        await began_again()
        assert await told(2) == first + 2
        await heard(feed, first + 2)
        broker.kill()
        shutil.rmtree(disk)
        shutil.copytree(flushed, disk)
        await began_again()
        assert feed.last_event == first
        assert await told(1) == first + 1
        await heard(feed, first + 1)
        await inbox.shut()


async def test_a_consumer_that_goes_while_its_job_is_first_looked_at_is_missed_at_once(
    tmp_path: Path,
) -> None:
    woken = asyncio.Event()

    class Late(Bus):
        async def ensure(self, *which: str) -> dict[Stream, Found]:
            found = await super().ensure(*which)
            if not woken.is_set():
                return found
            woken.clear()
            js = (await self.client()).jetstream()
            await js.delete_consumer(found[Stream.EXPERIENCE].name, names.LEARNER_CONSUMER)
            return found

    with running_broker(tmp_path) as broker:
        inbox = Inbox(
            "default",
            lambda _: woken.set(),
            lambda *_: None,
            lost_after=60,
            bus=Late,
        )
        how: dict[str, Any] = {
            "installation": "installation",
            "events_from": 0,
            "check_every": 3600,
        }
        opened = partial(inbox.open, "job", "uid-1", broker.url, **how)
        woken.set()
        known = await opened()
        await asyncio.wait_for(woken.wait(), 60)
        assert known.stale
        woken.clear()
        await opened()
        js = (await known.bus.client()).jetstream()
        await js.consumer_info(known.streams[Stream.EXPERIENCE].name, names.LEARNER_CONSUMER)
        await inbox.shut()


async def heard(feed: Feed, number: int) -> None:
    async with asyncio.timeout(60):
        while feed.last_event != number:  # noqa: ASYNC110 - it means nothing, so it wakes nobody
            await asyncio.sleep(0.02)


async def test_a_consumer_that_is_ahead_of_its_stream_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server said after a power cut (row 2 of the bench) is played, all else is real."""
    with running_broker(tmp_path) as broker:
        bus = Bus(broker.url)
        ensure = partial(bus.ensure, "default", "job", "uid-1", "installation")
        stream = (await ensure())[Stream.EXPERIENCE].name
        js = (await bus.client()).jetstream()
        ask = JetStreamContext.consumer_info

        async def taken() -> Msg:
            pull = await js.pull_subscribe_bind(names.LEARNER_CONSUMER, stream)
            (found,) = await eventually(partial(pull.fetch, 1, 5))
            return found

        async def ahead(*of: Any) -> ConsumerInfo:
            told: ConsumerInfo = await ask(*of)
            assert told.delivered is not None
            told.delivered.stream_seq += 1
            return told

        await js.publish(names.robot_subject("default", "r1", "job", Channel.EXPERIENCE), b"")
        before = await taken()
        await ensure()
        kept = await js.consumer_info(stream, names.LEARNER_CONSUMER)
        assert kept.num_ack_pending == 1
        with monkeypatch.context() as patch:
            patch.setattr(JetStreamContext, "consumer_info", ahead)
            await ensure()
        after = await taken()
        assert after.metadata.sequence.stream == before.metadata.sequence.stream
        assert after.metadata.num_delivered == 1  # by a consumer that never brought it
        await bus.close()


async def test_jobs_that_begin_together_listen_once(tmp_path: Path) -> None:
    """Else every heartbeat of the namespace would be read as often as they were many."""
    with running_broker(tmp_path) as broker:
        inbox = Inbox("default", lambda _: None, lambda *_: None, lost_after=60)
        how: dict[str, Any] = {"installation": "i", "events_from": 0, "check_every": 3600.0}
        jobs = [f"job-{number}" for number in range(4)]
        await asyncio.gather(*(inbox.open(job, job, broker.url, **how) for job in jobs))
        client = await inbox.bus(broker.url).client()
        subjects = [one.subject for one in client._subs.values()]
        heartbeats = names.robot_subject("default", "*", "*", Channel.HEARTBEAT)
        assert subjects.count(heartbeats) == 1
        await inbox.shut()


async def test_no_password_of_an_address_is_repeated() -> None:
    """What is said of a broker stands in statuses, Events and logs."""
    with pytest.raises(Retry) as told:
        await Bus("nats://me:secret@127.0.0.1:1,nats://token@127.0.0.1:2").client()
    assert str(told.value).startswith("NATS at nats://127.0.0.1:1,nats://127.0.0.1:2 cannot")
    assert not any(secret in str(told.value) for secret in ("me:", "secret", "token"))
