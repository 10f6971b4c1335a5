"""The message plane against a real nats-server, also when the server dies or is full."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from fleet_contract import names
from fleet_contract.errors import Reject, Retry
from fleet_contract.names import Channel, Stream, Traffic
from fleet_runtime.wire import Wire
from helpers.nats import Broker, half_a_broker, lose_streams, make_streams

EXPERIENCE = names.robot_subject("default", "r0", "job", Channel.EXPERIENCE)
STREAM = names.stream("uid-1", Stream.EXPERIENCE)
ASSIGN = names.assign_subject("default", "job")
CONTROL = names.stream("uid-1", Stream.CONTROL)


async def test_a_stored_message_is_fetched_acked_and_gone(broker: Broker) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    assert await wire.store(EXPERIENCE, b"one", stream=STREAM) == 1
    assert await wire.store(EXPERIENCE, b"two") == 2
    found = await wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=10, timeout=30)
    assert [(item.sequence, item.data) for item in found] == [(1, b"one"), (2, b"two")]
    for item in found:
        await item.ack_sync()
    state = await wire.stream_state(STREAM)
    assert state is not None
    assert (state.messages, state.last) == (0, 2)
    assert await wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=10, timeout=0.2) == []
    assert wire.moved.sent == wire.moved.received == {Traffic.EXPERIENCE: 6}
    await wire.close()


async def test_a_refused_message_comes_again(broker: Broker) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    await wire.store(EXPERIENCE, b"one")
    (first,) = await wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=1, timeout=10)
    await first.nak()
    (again,) = await wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=1, timeout=10)
    assert (again.data, again.attempt) == (b"one", 2)
    await again.term()
    await wire.close()


async def test_the_last_message_of_a_subject_is_read_without_a_consumer(broker: Broker) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    assert await wire.last(CONTROL, ASSIGN) is None
    await wire.store(ASSIGN, b"old")
    await wire.store(ASSIGN, b"new")
    assert await wire.last(CONTROL, ASSIGN) == b"new"
    assert wire.moved.received == {Traffic.CONTROL: 3}
    await wire.close()


async def test_a_stream_made_anew_has_another_id(broker: Broker) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    before = await wire.stream_state(STREAM)
    await lose_streams(broker.url)
    assert await wire.stream_state(STREAM) is None
    with pytest.raises(Retry):
        await wire.store(EXPERIENCE, b"nobody listens")
    await make_streams(broker.url)
    after = await wire.stream_state(STREAM)
    assert before is not None
    assert after is not None
    assert before.id
    assert after.id
    assert before.id != after.id
    await wire.close()


async def test_a_message_for_one_jobs_stream_never_lands_in_its_successors(broker: Broker) -> None:
    await make_streams(broker.url, job_uid="uid-2")
    wire = await Wire.connect(broker.url, "test")
    with pytest.raises(Retry, match="stream"):
        await wire.store(EXPERIENCE, b"for uid-1", stream=STREAM)
    await wire.close()


async def test_a_full_stream_is_a_retry_and_keeps_what_it_has(broker: Broker) -> None:
    await make_streams(broker.url, max_bytes=4096)
    wire = await Wire.connect(broker.url, "test")
    await wire.store(EXPERIENCE, bytes(3000))
    with pytest.raises(Retry, match="maximum bytes"):
        await wire.store(EXPERIENCE, bytes(3000))
    state = await wire.stream_state(STREAM)
    assert state is not None
    assert state.messages == 1
    await wire.close()


async def test_more_than_the_broker_takes_is_a_reject(broker: Broker) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    with pytest.raises(Reject):
        await wire.store(EXPERIENCE, bytes(2 * 2**20))
    await wire.close()


async def test_without_a_broker_everything_is_a_retry_at_once_and_works_again_after_its_return(
    broker: Broker,
) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(_subject: str, data: bytes) -> None:
        await heard.put(data)

    await wire.subscribe("talk", hear)
    back = asyncio.Event()
    wire.on_reconnect(back.set)
    await wire.store(EXPERIENCE, b"kept")
    broker.kill()
    with pytest.raises(Retry):
        await wire.store(EXPERIENCE, b"lost", timeout=2)
    while wire.connected:  # the store above may have gone out before the socket's end was seen
        with pytest.raises(Retry):
            await wire.store(EXPERIENCE, b"lost", timeout=0.1)
    for attempt in (
        wire.publish("talk", b"x"),
        wire.last(CONTROL, ASSIGN),
        wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=1, timeout=1),
        wire.stream_state(STREAM),
    ):
        with pytest.raises(Retry, match="no connection"):
            await attempt
    broker.start()
    await asyncio.wait_for(back.wait(), 60)
    await wire.publish("talk", b"hello")
    assert await asyncio.wait_for(heard.get(), 60) == b"hello"
    (kept, *_) = await wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=5, timeout=30)
    assert kept.data == b"kept"
    await wire.close()


async def test_a_handler_that_fails_loses_only_its_message(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await Wire.connect(broker.url, "test")
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(_subject: str, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("no")
        await heard.put(data)

    await wire.subscribe("talk", hear)
    await wire.publish("talk", b"bad")
    await wire.publish("talk", b"good")
    assert await asyncio.wait_for(heard.get(), 60) == b"good"
    assert "talk failed" in caplog.text
    await wire.close()


async def test_closing_ends_a_waiting_fetch_with_a_retry(broker: Broker) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    waiting = asyncio.create_task(
        wire.fetch(STREAM, names.LEARNER_CONSUMER, batch=2, timeout=30),
    )
    assert not (await asyncio.wait([waiting], timeout=0.3))[0]  # it has asked, and waits
    await wire.close()
    with pytest.raises(Retry):
        await asyncio.wait_for(waiting, 60)
    assert wire.closed.is_set()
    await wire.close()


async def test_a_program_started_before_its_broker_waits_for_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "late").start()
    broker.kill()
    connecting = asyncio.create_task(Wire.connect(broker.url, "early"))
    done, _ = await asyncio.wait([connecting], timeout=0.3)
    assert not done
    try:
        broker.start()
        wire = await asyncio.wait_for(connecting, 60)
        assert wire.connected
        await wire.close()
    finally:
        broker.kill()


async def test_a_connection_given_up_half_way_leaves_no_socket_behind() -> None:
    async with half_a_broker() as (url, happened):
        connecting = asyncio.create_task(Wire.connect(url, "test"))
        assert await asyncio.wait_for(happened.get(), 60) == "came"
        connecting.cancel()
        assert await asyncio.wait_for(happened.get(), 60) == "left"
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(
    broker: Broker,
) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "test")
    answered = asyncio.Event()

    async def work() -> None:
        while True:
            await wire.store(EXPERIENCE, b"x")
            answered.set()

    for _ in range(30):
        task = asyncio.create_task(work())
        await answered.wait()
        answered.clear()
        # The reply of the request under way is handled in the same turn as the cancellation.
        futures = wire._client._resp_map
        while not futures:  # noqa: ASYNC110 - the next request is about to go out
            await asyncio.sleep(0)
        next(iter(futures.values())).add_done_callback(partial(_cancel, task))
        done, _ = await asyncio.wait([task], timeout=5)
        assert done
        assert task.cancelled()
    await wire.close()


def _cancel(task: asyncio.Task[None], _reply: object) -> None:
    task.cancel()
