"""The keyed queue: once at a time, not forgotten, not in vain."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fleet_contract.errors import Retry
from fleet_operator import work
from fleet_operator.work import Key, WorkQueue

A, B = Key("k", "a"), Key("k", "b")


@contextlib.asynccontextmanager
async def running(
    turn: Callable[[Key], Awaitable[float | None]], workers: int = 2, first: str = ""
) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(turn, workers=workers, first=frozenset({first}))
    task = asyncio.create_task(queue.run())
    try:
        async with asyncio.timeout(60):
            yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SPACING", 0.01)
    monkeypatch.setattr(work, "BACKOFF", 0.01)


async def test_a_key_added_often_has_one_turn_and_never_two_at_a_time() -> None:
    begun, release, turns = asyncio.Event(), asyncio.Event(), 0
    busy = 0

    async def turn(_: Key) -> None:
        nonlocal turns, busy
        busy += 1
        assert busy == 1
        turns += 1
        begun.set()
        await release.wait()
        busy -= 1

    async with running(turn) as queue:
        for _ in range(5):
            queue.add(A)
        await begun.wait()
        begun.clear()
        for _ in range(5):
            queue.add(A)  # while it is worked on: one more turn is due
        release.set()
        await begun.wait()
        await asyncio.sleep(0.05)
        assert turns == 2


async def test_a_stuck_key_holds_up_no_other() -> None:
    other, never = asyncio.Event(), asyncio.Event()

    async def turn(key: Key) -> None:
        if key == B:
            other.set()
        else:
            await never.wait()

    async with running(turn) as queue:
        queue.add(A)
        queue.add(A)
        queue.add(B)
        await other.wait()


async def test_a_failed_turn_comes_again() -> None:
    turns, done = 0, asyncio.Event()

    async def turn(_: Key) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise Retry("not now")
        if turns == 2:
            raise ValueError("a fault of ours")
        done.set()

    async with running(turn) as queue:
        queue.add(A)
        await done.wait()
    assert turns == 3


async def test_a_turn_is_repeated_after_the_time_it_names_and_not_after_none() -> None:
    turns: list[Key] = []
    done = asyncio.Event()

    async def turn(key: Key) -> float | None:
        turns.append(key)
        if key == B:
            return None
        if turns.count(A) == 3:
            done.set()
        return 0.02

    async with running(turn) as queue:
        queue.add(A)
        queue.add(B)
        await done.wait()
        assert turns.count(B) == 1


async def test_an_earlier_word_brings_a_late_turn_forward() -> None:
    had = asyncio.Event()

    async def turn(_: Key) -> None:
        had.set()

    async with running(turn) as queue:
        queue.add(A, 3600)
        queue.add(A)
        await had.wait()
        assert len(queue) <= 1


async def test_a_key_whose_turn_takes_long_rests_for_longer_and_so_does_what_came_meanwhile() -> (
    None
):
    clock = asyncio.get_running_loop().time
    ends: list[float] = []
    begun, twice = asyncio.Event(), asyncio.Event()

    async def turn(_: Key) -> None:
        if ends:
            begun.set()
            ends.append(clock())
            twice.set()
            return
        queue.add(A)  # while it is worked on
        await asyncio.sleep(0.1)
        ends.append(clock())

    async with running(turn) as queue:
        queue.add(A)
        await twice.wait()
    first, second = ends
    assert second - first >= 0.1 * work.REST


async def test_a_turn_that_failed_rests_no_longer_than_its_backoff() -> None:
    """A broker that was waited for in vain may be back the next moment."""
    turns = 0
    done = asyncio.Event()

    async def turn(_: Key) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            await asyncio.sleep(0.2)
            raise Retry("not now")
        done.set()

    async with running(turn) as queue:
        queue.add(A)
        async with asyncio.timeout(0.2 + 0.2 * work.REST):
            await done.wait()


async def test_a_key_of_a_first_kind_does_not_wait_behind_a_crowd_that_was_there_before() -> None:
    turns: list[Key] = []
    begun, let, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def turn(key: Key) -> None:
        turns.append(key)
        begun.set()
        await let.wait()
        if len(turns) == 12:
            done.set()

    async with running(turn, workers=1, first="job") as queue:
        for number in range(11):
            queue.add(Key("robot", str(number)))
        await begun.wait()
        queue.add(Key("job", "j"))
        let.set()
        await done.wait()
    assert turns[1] == Key("job", "j")
