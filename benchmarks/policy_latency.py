"""How long from a learner's snapshot to robots that have it in place?

A flow policy of 25 million weights, of which one in a hundred moves from version to version. The
learner's own publishing, signatures and all, into a real S3 server; the announcement and, in the
operator's stead and at once, the assignment over a real nats-server; at the robots their own
following, fetching, rebuilding and flipping, in a process for each, standing between two episodes.
First on loopback, then with all that robots send and fetch through one link of 100 Mbit/s, which
they share. In turn with it, to one client, the full push that LeRobot's actor gets
(`benchmarks.peers.full_push`, not lerobot itself). A line each; the last one says figure, goal and
`ok` or `short`.

    .venv/bin/python -m benchmarks.policy_latency [--smoke] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np
import torch

from benchmarks.peers import full_push
from fleet_contract import names
from fleet_contract.messages import Lineage
from fleet_contract.names import Signatory
from fleet_contract.resources.learning import Weights
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.publish import Snapshot, Versions
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.robot.desk import Desk
from fleet_runtime.robot.fetch import Library, Memory
from fleet_runtime.robot.follower import Follower
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.swap import Slot
from fleet_runtime.trust import verifier
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.link import Link
from helpers.nats import make_streams, running_broker
from helpers.s3 import running_object_server
from helpers.world import SPEC, TASKS, assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from fleet_contract.messages import PolicyRef

RATE = 100e6 / 8  # bytes a second
MOVED = 0.01  # of the weights, from version to version
MOST_ULP = 3  # by how many representable numbers at most
TIMES = {"loopback": 8.0, "100 Mbit/s": 50.0}  # goals: how many times sooner than a full push
SPREAD = 2.0  # goal: the most robots, times one


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    hidden: int = 2048
    layers: int = 7
    robots: tuple[int, ...] = (1, 4, 16)
    repeats: int = 5


SMOKE = Plan(hidden=1448, robots=(1, 4), repeats=1)
FORK = multiprocessing.get_context("forkserver")
PRELOAD = ["benchmarks.peers.full_push", "fleet_runtime.robot.follower", "s3fs", "helpers.world"]
"""What is imported once for all processes."""


def policy(plan: Plan, seed: int) -> FlowPolicy:
    """Random weights that bfloat16 can tell."""
    spaces = SPEC.spaces()
    config = FlowConfig(spaces=spaces, hidden=plan.hidden, layers=plan.layers)
    identity = Normalization.identity(spaces.observation_size, spaces.action_size)
    torch.manual_seed(seed)
    made = FlowPolicy(config, identity)
    with torch.no_grad():
        for weight in made.net.parameters():
            weight.copy_(weight.bfloat16())
    return made


def step(before: FlowPolicy, rng: np.random.Generator) -> FlowPolicy:
    """What training might make of it."""
    after = before.copy()
    with torch.no_grad():
        for weight in after.net.parameters():
            bits = weight.bfloat16().view(torch.int16).numpy().copy().reshape(-1)
            where = np.flatnonzero(rng.random(len(bits), np.float32) < MOVED)
            up = rng.integers(1, MOST_ULP + 1, len(where)) * rng.choice((-1, 1), len(where))
            bits[where] += up.astype(np.int16)
            weight.copy_(torch.from_numpy(bits).view(torch.bfloat16).view(weight.shape))
    return after


class Told(NamedTuple):
    """One robot has it: monotonic seconds."""

    sequence: int
    heard: float
    applied: float


class Boundary(Desk):
    """Of a robot that stands between two episodes: what is offered drives at once."""

    def __init__(self, tell: Callable[[Told], None]) -> None:
        super().__init__()
        self._tell = tell

    def change(self, move: Callable[[Slot], Slot]) -> Slot:
        """As a desk's."""
        slot = super().change(move)
        if slot.pending is None:
            return slot
        slot = super().change(Slot.begin)
        applied = time.monotonic()
        assert slot.active is not None
        self._tell(Told(slot.active.ref.sequence, slot.active.heard, applied))
        return super().change(lambda slot: slot.end(clean=True))


class Place(NamedTuple):
    """Where a process finds the rest."""

    folder: Path
    environment: dict[str, str]
    bucket: str
    nats: str
    port: int  # of full pushes
    trust: Path


def robot(name: str, place: Place, tell: Connection) -> None:
    """A robot's process, network side and desk."""
    os.environ.update(place.environment)
    torch.set_num_threads(1)
    asyncio.run(follow(name, place, tell))


async def follow(name: str, place: Place, tell: Connection) -> None:
    """Do as the fleet says, and tell."""
    wire = await Wire.connect(place.nats, name)
    library = Library(
        Store(place.bucket),
        place.folder,
        job_uid="uid-1",
        spec=SPEC,
        tasks=TASKS,
        verify=verifier(place.trust, Signatory.LEARNER),
    )
    await Follower(
        Identity("default", name, f"uid-{name}", "job", "uid-1"),
        wire,
        library,
        Memory(place.folder / "memory.json"),
        Boundary(tell.send),
        lambda *said: print(f"{name} refuses: {said}", flush=True),
        poll=60.0,
        verify=verifier(place.trust, Signatory.OPERATOR),
    ).run()


def client(plan: Plan, place: Place, tell: Connection) -> None:
    """LeRobot's actor, standing between two episodes."""
    torch.set_num_threads(1)
    net = policy(plan, 0).net
    with socket.create_connection(("127.0.0.1", place.port)) as connection:
        while (message := full_push.receive(connection)) is not None:
            tell.send(full_push.load(net, message))


def link(rate: float, targets: tuple[int, ...], tell: Connection) -> None:
    """The link's process."""
    with Link(rate=rate).running(*targets) as ports:
        tell.send(ports)
        with contextlib.suppress(EOFError):
            tell.recv()


class Child:
    """A process and what it tells."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self._ours, theirs = FORK.Pipe()
        self._process = FORK.Process(target=target, args=(*arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.terminate()
        self._process.join()

    def hear(self) -> object:
        """The next thing it tells."""
        return self._ours.recv()


class Row(NamedTuple):
    """Seconds of one version to so many robots; `push` to one client, where that was in turn."""

    publish: float  # snapshot → manifest and deltas in the store
    total: float  # … → in place at the last robot
    push: float | None
    size: int  # bytes of the delta


@dataclasses.dataclass
class Learner:
    """The side that publishes."""

    versions: Versions
    wire: Wire
    now: FlowPolicy
    rng: np.random.Generator
    epoch: int = 0

    async def publish(self) -> tuple[float, PolicyRef, int]:
        """A next version, announced and assigned: monotonic seconds when it was stored."""
        lineage = Lineage(first=0, through=0, episodes=0)
        made = await asyncio.to_thread(
            self.versions.publish, Snapshot(self.now, self.epoch, {}, lineage)
        )
        stored = time.monotonic()
        await self.assign(made.ref)
        return stored, made.ref, made.delta_size or 0

    async def assign(self, ref: PolicyRef) -> None:
        """Every robot runs it from now on."""
        self.epoch += 1
        document = assignment(self.epoch, ref).seal(keys.OPERATOR.sign)
        await self.wire.store(names.assign_subject("default", "job"), document)


async def versions(
    plan: Plan, learner: Learner, robots: list[Child], push: tuple[socket.socket, Child] | None
) -> list[Row]:
    """All repeats of one case."""
    rows = []
    for number in range(plan.repeats + 1):
        learner.now = step(learner.now, learner.rng)
        begun = time.monotonic()
        stored, ref, size = await learner.publish()
        told = [await asyncio.to_thread(one.hear) for one in robots]
        assert all(isinstance(one, Told) and one.sequence == ref.sequence for one in told)
        total = max(one.applied for one in told if isinstance(one, Told)) - begun
        pushed = None
        if push is not None:
            begun_push = time.monotonic()
            await asyncio.to_thread(full_push.push, push[0], learner.now.net)
            done = await asyncio.to_thread(push[1].hear)
            assert isinstance(done, float)
            pushed = done - begun_push
        if number:  # the first of all is slow everywhere: imports, connections, caches
            rows.append(Row(stored - begun, total, pushed, size))
    return rows


@contextlib.contextmanager
def way(name: str, targets: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Ports that robots use for these."""
    if name == "loopback":
        yield targets
        return
    with Child(link, RATE, targets) as between:
        ports = between.hear()
        assert isinstance(ports, list)
        yield tuple(ports)


async def run(plan: Plan, folder: Path, seed: int) -> dict[tuple[str, int], list[Row]]:
    """All rows, printed as they come."""
    found: dict[tuple[str, int], list[Row]] = {}
    with (
        running_object_server(folder / "s3") as server,
        running_broker(folder / "nats") as broker,
        socket.create_server(("127.0.0.1", 0)) as pushes,
    ):
        os.environ.update(server.environment)
        await make_streams(broker.url)
        store = Store(server.url)
        sign = keys.LEARNER.sign
        published = Versions(store, "uid-1", 1, 20.0, Weights.BFLOAT16, sign=sign)
        wire = await Wire.connect(broker.url, "learner")
        learner = Learner(published, wire, policy(plan, seed), np.random.default_rng(seed))
        trust = keys.trust(folder / "trust")
        targets = (
            urlsplit(server.endpoint).port or 0,
            urlsplit(broker.url).port or 0,
            pushes.getsockname()[1],
        )
        for name in TIMES:
            for count in plan.robots:
                with way(name, targets) as (s3, nats, push), contextlib.ExitStack() as stack:
                    _, ref, _ = await learner.publish()
                    environment = {
                        **server.environment,
                        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
                    }
                    base = folder / f"{name.split()[0]}-{count}"
                    place = Place(
                        base / "0", environment, server.url, f"nats://127.0.0.1:{nats}", push, trust
                    )
                    # What they have before is no part of this.
                    first = Library(store, place.folder, job_uid="uid-1", spec=SPEC, tasks=TASKS)
                    await asyncio.to_thread(first.load, ref, 1)
                    robots = []
                    for number in range(count):
                        own = place._replace(folder=base / str(number))
                        if number:
                            shutil.copytree(place.folder, own.folder, copy_function=os.link)
                        robots.append(stack.enter_context(Child(robot, f"robot-{number}", own)))
                    for one in robots:
                        await asyncio.to_thread(one.hear)
                    pushed = None
                    if count == 1:
                        receiver = stack.enter_context(Child(client, plan, place))
                        connection, _ = await asyncio.to_thread(pushes.accept)
                        pushed = stack.enter_context(connection), receiver
                    rows = await versions(plan, learner, robots, pushed)
                    found[name, count] = rows
                    print(line(name, count, rows), flush=True)
                shutil.rmtree(base)
        await wire.close()
    return found


def middle(values: list[float]) -> str:
    """Median and interquartile range."""
    if len(values) < 2:
        return f"{values[0]:.2f} s"
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{statistics.median(values):.2f} s ({low:.2f} to {high:.2f})"


def line(name: str, count: int, rows: list[Row]) -> str:
    """A case in words."""
    pushes = [row.push for row in rows if row.push is not None]
    return (
        f"{name}, {count} robot{'s' * (count > 1)}: snapshot to in place "
        f"{middle([row.total for row in rows])}, of which publishing "
        f"{middle([row.publish for row in rows])}; delta "
        f"{statistics.median(row.size for row in rows) / 1e6:.2f} MB"
        + (f"; full push to one client {middle(pushes)}" if pushes else "")
        + f"; load {os.getloadavg()[0]:.1f}"
    )


def judged(found: dict[tuple[str, int], list[Row]]) -> tuple[str, bool]:
    """The last line: figures beside their goals."""
    most = max(count for _, count in found)
    said, good = [], True
    for name, goal in TIMES.items():
        rows = found[name, 1]
        times = statistics.median(row.push / row.total for row in rows if row.push is not None)
        one, many = (
            statistics.median(row.total for row in found[name, count]) for count in (1, most)
        )
        good = good and times >= goal and many <= SPREAD * one
        said.append(
            f"{name} {times:.2g} times sooner than a full push (goal {goal:.0f}), {most} robots "
            f"{many / one:.2g} times one (goal at most {SPREAD:.0f})"
        )
    return "; ".join(said) + ": " + ("ok" if good else "short"), good


def main() -> int:
    """Run the benchmark; 0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="benchmarks.policy_latency")
    parser.add_argument(
        "--smoke", action="store_true", help="half the weights, fewer robots, under a minute"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    FORK.set_forkserver_preload(PRELOAD)
    with TemporaryDirectory() as folder:
        found = asyncio.run(run(SMOKE if options.smoke else Plan(), Path(folder), options.seed))
    said, good = judged(found)
    print(said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
