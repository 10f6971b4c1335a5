"""The operator's line to the broker, on a real one."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from fleet_contract import names
from fleet_contract.names import Channel, Stream, StreamMeta
from fleet_operator.bus import Bus
from helpers.nats import half_a_broker, make_streams, running_broker


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


async def test_a_connection_given_up_half_way_leaves_no_socket_behind() -> None:
    async with half_a_broker() as (url, happened):
        connecting = asyncio.create_task(Bus(url).client())
        assert await asyncio.wait_for(happened.get(), 10) == "came"
        connecting.cancel()
        assert await asyncio.wait_for(happened.get(), 10) == "left"
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
