"""Rows 1, 3, 4 and 18: what the data plane loses, or trains twice, when its parts die or rot."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from faults.stream import CREDIT, PATIENCE, judged, plane
from fleet_contract.errors import FleetError
from fleet_contract.names import Channel
from fleet_runtime.wire import Wire
from helpers.cable import Cable, Harm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from faults.stream import Plane

    Strike = Callable[[Plane, random.Random], Awaitable[str]]

ROBOTS = 8
BACKLOG = 2 * CREDIT
"""Records a robot has at most waiting: it lives no faster than that."""
HEALED = 60.0
"""Seconds in which all that was spooled must be receipted once the network is back."""
STEPPED_DOWN = 60.0
"""Seconds in which a learner that has a successor must have seen that, while experience comes."""


@asynccontextmanager
async def living(here: Plane, records: int) -> AsyncIterator[asyncio.Task[None]]:
    """Robots live so many episodes in all."""
    done = asyncio.create_task(_live(here, records))
    try:
        yield done
    finally:
        done.cancel()
        await asyncio.wait([done])


async def _live(here: Plane, records: int) -> None:
    left = records
    while left:
        hungry = [one for one in here.robots if one.spool.depth < BACKLOG][:left]
        if not hungry:
            await asyncio.sleep(0.02)
        for one in hungry:
            one.live()
            await asyncio.sleep(0)
        left -= len(hungry)


async def struck(
    folder: Path,
    seed: int,
    records: int,
    strikes: Sequence[Strike],
    disguise: Callable[[Wire], Wire] = lambda wire: wire,
    cuts: tuple[int, ...] = (),
) -> dict[str, Any]:
    """So many episodes, and each strike at a moment of its own of their way."""
    rng = random.Random(seed)
    moments = sorted(rng.randrange(records) for _ in strikes)
    did = []
    async with plane(folder, robots=ROBOTS, disguise=disguise, cuts=cuts) as here:
        async with living(here, records) as all_lived:
            for strike, moment in zip(strikes, moments, strict=True):
                await here.until(partial(_come, here, moment))
                did.append(await strike(here, rng))
            await all_lived
            await here.until(here.caught_up)
        found = await judged(here)
    return found | {"did": did}


def _come(here: Plane, moment: int) -> bool:
    return here.settled >= moment


async def broker_dies(here: Plane, rng: random.Random) -> str:
    """kill -9, and a while later it is back."""
    here.broker.kill()
    await asyncio.sleep(rng.uniform(0, 0.5))
    here.broker.start()
    return "broker"


async def learner_dies(here: Plane, rng: random.Random) -> str:
    """kill -9 wherever it is, and its successor."""
    await asyncio.sleep(rng.uniform(0, 0.3))
    here.learner.kill()
    await here.learner.start()
    return "learner"


def rot(kind: str) -> Strike:
    """The broker dies with what was not taken yet, and its disk is not what it was."""

    async def strike(here: Plane, rng: random.Random) -> str:
        here.learner.signal(signal.SIGSTOP)
        await here.until(
            lambda: sum(one.uploader.unreceipted for one in here.robots) >= ROBOTS * CREDIT // 2, 5
        )
        here.broker.kill()
        where = KINDS[kind](here.folder / "nats" / "jetstream", rng)
        here.broker.start()
        here.learner.signal(signal.SIGCONT)
        return f"{kind}: {where}"

    return strike


def _experience(folder: Path) -> Path:
    (found,) = folder.glob("*/streams/fleet-*-exp")
    return found


def _blocks(folder: Path) -> list[Path]:
    return sorted(_experience(folder).glob("msgs/*.blk"))


def _flip(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    if not data:
        return f"{path.name} is empty"
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"{path.name}, byte {at} of {len(data)}"


def _flip_in_block(folder: Path, rng: random.Random) -> str:
    return _flip(rng.choice(_blocks(folder)), rng)


def _flip_anywhere(folder: Path, rng: random.Random) -> str:
    """Index, metadata or consumer state, of any stream."""
    files = [one for one in folder.rglob("*") if one.is_file() and one.suffix != ".blk"]
    return _flip(rng.choice(sorted(files)), rng)


def _truncate(folder: Path, rng: random.Random) -> str:
    path = _blocks(folder)[-1]
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(keep := rng.randrange(size + 1))
    return f"{path.name} to {keep} of {size}"


def _block_gone(folder: Path, rng: random.Random) -> str:
    path = rng.choice(_blocks(folder))
    path.unlink()
    return path.name


def _stream_gone(folder: Path, rng: random.Random) -> str:
    path = _experience(folder)
    shutil.rmtree(path)
    return path.name


def _all_gone(folder: Path, rng: random.Random) -> str:
    shutil.rmtree(folder)
    return folder.name


KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "a bit in a block": _flip_in_block,
    "a bit elsewhere": _flip_anywhere,
    "truncated": _truncate,
    "a block gone": _block_gone,
    "the stream gone": _stream_gone,
    "all gone": _all_gone,
}


async def kills(folder: Path, seed: int, records: int, times: int = 2) -> dict[str, Any]:
    """Row 1: the broker is killed while experience flows."""
    return await struck(folder, seed, records, [broker_dies] * times)


async def rots(folder: Path, seed: int, records: int, kind: str) -> dict[str, Any]:
    """Row 3: the broker's disk loses or garbles what it had acknowledged."""
    return await struck(folder, seed, records, [rot(kind)])


async def repeats(
    folder: Path, seed: int, records: int, times: int = 2, cuts: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Row 4: robots send again what arrived, at once and much later; learner and broker die."""
    rng = random.Random(seed)
    strikes = [learner_dies] * times + [broker_dies]
    rng.shuffle(strikes)
    return await struck(folder, seed, records, strikes, lambda wire: Twice(wire, rng), cuts)


async def outlived(folder: Path, seed: int, records: int) -> dict[str, Any]:
    """Row 4: a learner stands still, is followed by another, and goes on as if nothing were."""
    lived_on = []

    async def strike(here: Plane, rng: random.Random) -> str:
        await asyncio.sleep(rng.uniform(0, 0.3))
        before = await here.learner.succeeded()
        end = time.monotonic() + STEPPED_DOWN
        # It is told by what it cannot claim any more, so there must be something to claim.
        while before.poll() is None and time.monotonic() < end:
            for one in here.robots:
                if one.spool.depth < BACKLOG:
                    one.live()
            await asyncio.sleep(0.25)
        lived_on.append(before.poll() is None)
        before.kill()
        before.wait()
        return "learner outlived"

    found = await struck(folder, seed, records, [strike])
    if any(lived_on):
        found["wrong"].append(f"after {STEPPED_DOWN:.0f} s the learner of before is still at work")
    return found


class Twice(Wire):
    """Sends a third of all experience again, and what it sent long ago in between."""

    def __init__(self, wire: Wire, rng: random.Random) -> None:
        self.__dict__ = wire.__dict__
        self._rng = rng
        self._old: list[tuple[str, bytes, str | None]] = []

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109
    ) -> int:
        if not subject.endswith(Channel.EXPERIENCE):
            return await super().store(subject, data, stream=stream, timeout=timeout)
        if self._rng.random() < 1 / 3:
            self._old.append((subject, data, stream))
        if self._old and self._rng.random() < 1 / 3:
            at = self._rng.randrange(len(self._old))
            where, what, of = self._old.pop(at)
            with contextlib.suppress(FleetError):
                await super().store(where, what, stream=of, timeout=timeout)
        return await super().store(subject, data, stream=stream, timeout=timeout)


async def partition(
    folder: Path, seed: int, how: Harm, *, seconds: float | None = None
) -> dict[str, Any]:
    """Row 18: robots are cut off the broker, go on living, and the network heals."""
    rng = random.Random(seed)
    seconds = rng.uniform(2, 40) if seconds is None else seconds
    async with (
        plane(folder, robots=0) as here,
        Cable(int(here.broker.url.rsplit(":", 1)[1])).laid() as cable,
    ):
        found = await _parted(here, cable, how, seconds)
    return found | {"away": round(seconds, 1)}


async def _parted(here: Plane, cable: Cable, how: Harm, seconds: float) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        for one in here.more(ROBOTS):
            await stack.enter_async_context(one.sending(cable.url))
        for one in here.robots:
            one.live()
        await here.until(here.caught_up)
        await cable.harm(how)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for one in here.robots:
                one.live()
            await asyncio.sleep(0.25)
        await cable.heal()
        healed = time.monotonic()
        await here.until(here.caught_up, PATIENCE + HEALED)
        took = time.monotonic() - healed
        found = await judged(here)
    if took > HEALED:
        found["wrong"].append(f"caught up {took:.0f} s after the network was back")
    return found | {"caught_up": round(took, 1)}
