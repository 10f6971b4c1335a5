"""A fleet's data plane to do harm to: robots' spools, a real broker, and a learner that takes.

Robots are their spools and uploaders; the streams are kept by the operator's own code; the learner
is `faults.taker`, a process. What may never happen is looked for in the journal and in the replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from faults import taker
from fleet_contract.errors import FleetError, Retry
from fleet_contract.messages import digest_of
from fleet_operator.bus import Bus
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.journal import Journal
from fleet_runtime.learner.recall import Experience
from fleet_runtime.learner.retention import Base
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.spool import Spool
from fleet_runtime.robot.uploader import Uploader
from fleet_runtime.wire import Wire
from helpers.learner import JOB, JOB_UID, NAMESPACE, episode, parts
from helpers.nats import Broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TESTS = str(Path(__file__).parents[1])
PATIENCE = 120.0
"""Seconds for anything to come about."""
CREDIT = 64
POLL = 1.0
STEPS = 8
CUTS = (3, 6)
"""Steps before which an episode is cut where it travels in parts."""


class Made(NamedTuple):
    """What a robot spooled."""

    episode: str  # "" of a part that others follow
    digest: str  # of the payload
    content: str  # of what trains


class Sender:
    """One robot's spool and uploader."""

    def __init__(self, name: str, folder: Path, store: Store, cuts: tuple[int, ...]) -> None:
        self.name = name
        self.spool = Spool(folder, job_uid=JOB_UID)
        self.made: dict[int, Made] = {}
        self._store, self._cuts, self._lived = store, cuts, 0

    @asynccontextmanager
    async def sending(
        self, url: str, disguise: Callable[[Wire], Wire] = lambda wire: wire
    ) -> AsyncIterator[None]:
        wire = await Wire.connect(url, self.name)
        who = Identity(NAMESPACE, self.name, f"{self.name}-uid", JOB, JOB_UID)
        self.uploader = Uploader(
            who, self.spool, disguise(wire), self._store, credit=CREDIT, poll=POLL
        )
        task = asyncio.create_task(self.uploader.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await wire.close()
            self.spool.close()

    def live(self) -> None:
        """One episode, spooled."""
        self._lived = number = self._lived + 1
        made = episode(f"{self.name}-{number}", robot=self.name, steps=STEPS, seed=number)
        for draft, payload in parts(made, *self._cuts):
            kept = self.spool.append(draft, payload)
            told = made.id if kept.last else ""
            self.made[kept.n] = Made(told, kept.digest, taker.content(made))
        self.uploader.wake()

    @property
    def receipted(self) -> set[int]:
        """What it let go of."""
        return set(self.made) - set(self.spool.pending())


class Learner:
    """The taker's processes, one after the other."""

    def __init__(self, folder: Path, url: str, storage: str, *sizes: int) -> None:
        self._folder, self._arguments = folder, [url, storage]
        self._sizes = [str(size) for size in sizes]
        self._process: subprocess.Popen[bytes] | None = None
        self.lives = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Returns when it takes."""
        self.lives += 1
        with (self._folder / "taker.log").open("a") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [
                    sys.executable,
                    "-m",
                    "faults.taker",
                    *self._arguments,
                    str(self._life),
                    *self._sizes,
                ],
                stderr=log,
                env=os.environ
                | {"PYTHONPATH": ":".join([TESTS, os.environ.get("PYTHONPATH", "")])},
            )
        async with asyncio.timeout(PATIENCE):
            while taker.READY not in self.told():
                assert self.alive, (self._folder / "taker.log").read_text()[-2000:]
                await asyncio.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def succeeded(self) -> subprocess.Popen[bytes]:
        """Its successor starts while it stands still; the process of before, which then goes on."""
        assert self._process is not None
        before = self._process
        before.send_signal(signal.SIGSTOP)
        await self.start()
        before.send_signal(signal.SIGCONT)
        return before

    def kill(self) -> None:
        """kill -9, and it is gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def end(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, PATIENCE)

    def told(self) -> list[str]:
        """The lines of this life."""
        return self._life.read_text().splitlines() if self._life.exists() else []

    @property
    def _life(self) -> Path:
        return self._folder / f"life-{self.lives}"


class Plane:
    """All of it in one folder."""

    def __init__(self, folder: Path, broker: Broker, robots: int, cuts: tuple[int, ...]) -> None:
        self.folder, self.broker, self._cuts = folder, broker, cuts
        self.store = Store(f"file://{folder}/store")
        self.robots: list[Sender] = []
        self.more(robots)
        self.bus = Bus(broker.url)
        self.refused = ""  # why the streams are not as they should be, when last looked at
        self.learner = Learner(folder, broker.url, self.store.url)

    def more(self, count: int) -> list[Sender]:
        """Further robots, not yet sending."""
        numbers = range(len(self.robots), len(self.robots) + count)
        made = [
            Sender(f"robot-{i}", self.folder / f"robot-{i}", self.store, self._cuts)
            for i in numbers
        ]
        self.robots += made
        return made

    async def keep(self) -> None:
        """The operator's part: streams that are gone are made anew. Until cancelled."""
        while True:
            try:
                await self.bus.ensure(NAMESPACE, JOB, JOB_UID, "installation")
                self.refused = ""
            except FleetError as fault:
                self.refused = str(fault)
            await asyncio.sleep(0.5)

    async def streams(self) -> None:
        """Returns when they are there."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(Retry):
                    await self.bus.ensure(NAMESPACE, JOB, JOB_UID, "installation")
                    return
                await asyncio.sleep(0.05)

    @property
    def settled(self) -> int:
        return sum(len(one.receipted) for one in self.robots)

    async def until(self, holds: Callable[[], object], within: float = PATIENCE) -> bool:
        """Whether it came about in time; files and spools announce nothing."""
        end = time.monotonic() + within
        while not holds():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    def caught_up(self) -> bool:
        return not any(one.spool.depth for one in self.robots)


@asynccontextmanager
async def plane(
    folder: Path,
    *,
    robots: int,
    disguise: Callable[[Wire], Wire] = lambda wire: wire,
    cuts: tuple[int, ...] = (),
) -> AsyncIterator[Plane]:
    """At work; `cuts` of each episode, where it travels in parts."""
    with Broker(folder / "nats") as broker:
        here = Plane(folder, broker, robots, cuts)
        await here.streams()
        await here.learner.start()
        keeping = asyncio.create_task(here.keep())
        try:
            async with contextlib.AsyncExitStack() as stack:
                for one in here.robots:
                    await stack.enter_async_context(one.sending(broker.url, disguise))
                yield here
        finally:
            here.learner.kill()
            keeping.cancel()
            await asyncio.wait([keeping])
            await here.bus.close()


async def judged(here: Plane) -> dict[str, Any]:
    """What is wrong once all is quiet: lost, twice, or other than it was. Ends the learner.

    Receipted and lost is told apart from late: what no receipt settled is still in its spool.
    """
    code = await here.learner.end()
    journal = Journal(here.store, JOB_UID, here.learner.lives + 1)
    experience = Experience.since(Base(), here.store, JOB_UID, here.learner.lives + 1)
    times: Counter[tuple[str, int]] = Counter()
    lost, other, refused = 0, 0, 0
    for segment in journal.replay():
        for entry, place in zip(segment.entries, segment.places, strict=True):
            times[entry.record.robot, entry.record.n] += 1
            refused += entry.refusal is not None
            other += digest_of(experience.journal.payload(place)) != entry.record.digest
    made = {(one.name, n): what for one in here.robots for n, what in one.made.items()}
    for one in here.robots:
        lost += sum(not times[one.name, n] for n in one.receipted)
    lines = [line.split() for line in here.learner.told() if line != taker.READY]
    trained = Counter((line[1], line[2]) for line in lines if line[0] != "holds")
    wanted = Counter((what.episode, what.content) for what in made.values() if what.episode)
    holds = lines[-1] if lines and lines[-1][0] == "holds" else ["holds", "-1", "-1"]
    held, steps = int(holds[1]), int(holds[2])
    # An earlier life may have been killed between two lines, but told none twice.
    twice = sum((trained - wanted).values()) + sum(map(_again, _lives(here)))
    behind = sum(one.spool.depth for one in here.robots)
    rules = {
        f"the learner ended with {code}": code != 0,
        f"{lost} receipted records are in no journal": bool(lost),
        f"{other} payloads are not as they were sent": bool(other),
        f"{refused} sound records were refused": bool(refused),
        f"{sum(times.values()) - len(times)} records are journaled twice": max(
            times.values(), default=0
        )
        > 1,
        f"{twice} episodes trained twice or as others": bool(twice),
        f"{behind} records were never receipted": bool(behind),
        f"the replay holds {held} of {wanted.total()} episodes": not behind
        and held != wanted.total(),
        f"the replay draws from {steps} steps of {held * STEPS}": not behind
        and steps != held * STEPS,
        f"{sum((wanted - trained).values())} episodes do not train": not behind
        and bool(wanted - trained),
    }
    return {
        "wrong": [rule for rule, broken in rules.items() if broken],
        "records": len(made),
        "lost": lost,
        "twice": twice,
        "held": held,
        "lives": here.learner.lives,
        "streams_refused": here.refused,
    }


def _lives(here: Plane) -> list[Counter[str]]:
    return [
        Counter(line.split()[1] for line in path.read_text().splitlines() if line.count(" ") == 3)
        for path in here.folder.glob("life-*")
    ]


def _again(life: Counter[str]) -> int:
    """Episodes one life took in more than once."""
    return sum(count - 1 for count in life.values())
