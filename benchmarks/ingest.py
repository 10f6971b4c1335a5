"""How fast experience becomes durable, and how soon it can be sampled?

Agents in processes of their own live episodes of Meta-World's size and send them as the product
does: spool, uploader, real broker, ingest, journal, receipt; the learner's half is the program of
`make torture`. A step counts when its record is receipted. Beside it, in turns, what one writes
first (`peers.nats_json`): each step an awaited publish of pydantic JSON, durable with the broker's
ack, consumed when it was validated. Both with the broker's default flush and with `sync always`.
Then ours again with the broker killed once by kill -9: what is lost or there twice. And at a calm
rate, the time from an episode's end to sampleable; a step waits for its episode's end, too.

    .venv/bin/python -m benchmarks.ingest [--smoke] [--agents N] [--episodes N] [--turns N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.peers import nats_json
from faults.stream import Learner
from fleet_contract.messages import Record, digest_of
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.learner.journal import Journal
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.spool import Spool
from fleet_runtime.robot.uploader import Uploader
from fleet_runtime.wire import Wire
from helpers.counts import burned
from helpers.learner import JOB, JOB_UID, NAMESPACE, TASKS, episode, record
from helpers.nats import Broker, make_streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Episode

OBSERVATION, ACTION, STEPS = 39, 4, 100  # Meta-World's
CREDIT, BACKLOG = 64, 256
FASTER = {"default": 100.0, "always": 50.0}  # goals: steps a second, times the peer's
SAMPLEABLE, EPISODE = 1.0, 60.0  # goal: seconds at p99, of steps of episodes of so many seconds
CALM = 10.0  # episodes a second of all agents
ROOT = Path(__file__).parents[1]


class Plan(NamedTuple):
    """Sizes of one run."""

    agents: int = 10
    episodes: int = 200  # of an agent, ours
    theirs: int = 10  # … the peer's, which are 100 messages each
    turns: int = 3
    calm: int = 30  # episodes of an agent at the calm rate


SMOKE = Plan(agents=2, episodes=150, theirs=8, turns=1, calm=15)


def lived(name: str, number: int) -> Episode:
    rng = np.random.default_rng(number)
    return episode(
        f"{name}-{number}",
        robot=name,
        task=TASKS[number % len(TASKS)],
        steps=STEPS,
        observation=rng.normal(size=(STEPS + 1, OBSERVATION)).astype(np.float32),
        action=rng.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
        policy_action=np.zeros((STEPS, ACTION), np.float32),
    )


def go() -> None:
    """Ready, and wait for the others."""
    print("ready", flush=True)
    sys.stdin.readline()


async def agent(url: str, storage: str, folder: Path, name: str, count: int, rate: float) -> None:
    """One robot that lives as fast as its spool takes it, or `rate` episodes a second."""
    made: list[tuple[Record, bytes]] = []
    for number in range(1, count + 1):
        one = lived(name, number)
        payload = codec.encode(one)
        made.append((record(one, number, payload), payload))
    spool = Spool(folder / name, job_uid=JOB_UID)
    wire = await Wire.connect(url, name)
    who = Identity(NAMESPACE, name, f"{name}-uid", JOB, JOB_UID)
    uploader = Uploader(who, spool, wire, Store(storage), credit=CREDIT, poll=1.0)
    await asyncio.to_thread(go)
    began = time.process_time()
    task = asyncio.create_task(uploader.run())
    for told, payload in made:
        while spool.depth >= BACKLOG:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        ended = told.model_copy(update={"ended_at": time.time()})
        await asyncio.to_thread(spool.append, ended, payload)
        uploader.wake()
        if rate:
            await asyncio.sleep(1 / rate)
    while spool.depth:  # noqa: ASYNC110 - a spool announces nothing
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    await wire.close()
    print(time.process_time() - began)


class Crew:
    """Processes that begin together."""

    def __init__(self, *commands: list[str]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.ingest", "--role", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for words in commands
        ]

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> tuple[float, list[str]]:
        """Seconds until all have ended, and what each said last."""
        for one in self._processes:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        began = time.perf_counter()
        for one in self._processes:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        meanwhile()
        said = [one.communicate(timeout=600)[0].strip() for one in self._processes]
        spent = time.perf_counter() - began
        assert not any(one.returncode for one in self._processes)
        return spent, said


class Ours(NamedTuple):
    """One turn of the product's."""

    rate: float  # steps a second
    lost: int
    twice: int
    ages: list[float]  # seconds from episodes' ends to sampleable
    cost: dict[str, float]  # seconds of a core for an episode, by who had them


def broker_in(folder: Path, sync: str) -> Broker:
    path = folder / "nats.conf"
    path.write_text(f"jetstream {{ sync_interval: {sync} }}\n")
    return Broker(folder / "nats", "-c", str(path))


async def ours(
    plan: Plan, *, sync: str, rate: float = 0.0, kill: bool = False, count: int = 0
) -> Ours:
    """From the first episode spooled to the last receipt."""
    count = count or plan.episodes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage = f"file://{folder}/store"
        with broker_in(folder, "2m" if sync == "default" else sync) as broker:
            await make_streams(broker.url)
            learner = Learner(folder, broker.url, storage, OBSERVATION, ACTION)
            await learner.start()
            agents = Crew(
                *(
                    ["ours", broker.url, storage, name, f"robot-{i}", str(count), str(rate)]
                    for i in range(plan.agents)
                )
            )

            def harm() -> None:
                folder = Store(storage)
                while kill and not folder.list(f"jobs/{JOB_UID}/journal"):
                    time.sleep(0.01)
                if kill:
                    broker.kill()
                    broker.start()

            before = [burned(pid) for pid in (learner.pid, broker.pid)]
            spent, said = await asyncio.to_thread(agents.run, harm)
            taker, server = (
                burned(pid) - had
                for pid, had in zip((learner.pid, broker.pid), before, strict=True)
            )
            await learner.end()
            lines = [line.split() for line in learner.told()]
        ids = [line[1] for line in lines if line[0] == "ingest"]
        wanted = {f"robot-{i}-{n}" for i in range(plan.agents) for n in range(1, count + 1)}
        sound = 0
        for segment in Journal(Store(storage), JOB_UID, 99).replay():
            sound += sum(digest_of(e.payload) == e.record.digest for e in segment.entries)
        return Ours(
            plan.agents * count * STEPS / spent,
            lost=max(len(wanted - set(ids)), len(wanted) - sound),
            twice=len(ids) - len(set(ids)) + max(0, sound - len(wanted)),
            ages=[float(line[3]) for line in lines if line[0] == "ingest"],
            cost={
                who: seconds / len(wanted)
                for who, seconds in (
                    ("robots", sum(map(float, said))),
                    ("broker", server),
                    ("learner", taker),
                )
            },
        )


async def theirs(plan: Plan, sync: str) -> float:
    """Steps a second, from the first publish to the last step validated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with broker_in(folder, "2m" if sync == "default" else sync) as broker:
            await nats_json.prepare(broker.url)
            steps = plan.agents * plan.theirs * STEPS
            crew = Crew(
                ["take", broker.url, str(steps)],
                *(
                    ["theirs", broker.url, f"robot-{i}", str(plan.theirs)]
                    for i in range(plan.agents)
                ),
            )
            spent, _ = await asyncio.to_thread(crew.run)
    return steps / spent


async def measure(plan: Plan) -> bool:
    said, good = [], True
    for sync, goal in FASTER.items():
        turns = [(await ours(plan, sync=sync), await theirs(plan, sync)) for _ in range(plan.turns)]
        mine, other = (
            statistics.median(one.rate for one, _ in turns),
            statistics.median(one for _, one in turns),
        )
        ratio = statistics.median(one.rate / peer for one, peer in turns)
        lost = sum(one.lost + one.twice for one, _ in turns)
        print(
            f"sync {sync}: ours {mine:,.0f} steps/s ({mine / STEPS:,.0f} episodes/s), awaited JSON "
            f"{other:,.0f} steps/s; lost or twice {lost}; of a core for an episode: "
            + ", ".join(f"{who} {1e3 * cost:.2f} ms" for who, cost in turns[0][0].cost.items())
        )
        said.append(f"sync {sync} {ratio:.0f} × the peer's steps/s (goal {goal:g})")
        good &= ratio >= goal and not lost
    killed = await ours(plan, sync="default", kill=True)
    print(
        f"broker killed once: lost {killed.lost}, twice {killed.twice}; {killed.rate:,.0f} steps/s"
    )
    said.append(f"broker killed: lost {killed.lost}, twice {killed.twice} (goal 0, 0)")
    good &= not killed.lost and not killed.twice
    calm = await ours(plan, sync="default", rate=CALM / plan.agents, count=plan.calm)
    ends = np.array(calm.ages)
    steps = (ends[:, None] + np.linspace(0, EPISODE, 600)).ravel()
    low, high = np.percentile(ends, [50, 99])
    step_low, step_high = np.percentile(steps, [50, 99])
    print(
        f"at {CALM:g} episodes/s, from an episode's end to sampleable: p50 {low:.3f} s, p99 "
        f"{high:.3f} s, {len(ends)} episodes"
    )
    said.append(
        f"a step of a {EPISODE:g} s episode, computed, for it waits for the end: p50 "
        f"{step_low:.1f} s, p99 {step_high:.1f} s (goal {SAMPLEABLE:g})"
    )
    good &= bool(step_high <= SAMPLEABLE)
    print("; ".join(said) + ": " + ("ok" if good else "short"))
    return good


def played(role: str, words: list[str]) -> None:
    """One of the processes."""
    if role == "ours":
        url, storage, folder, name, count, rate = words
        asyncio.run(agent(url, storage, Path(folder), name, int(count), float(rate)))
    elif role == "theirs":
        url, name, count = words
        made = [lived(name, number) for number in range(1, int(count) + 1)]
        asyncio.run(nats_json.agent(url, name, made, go))
    else:
        url, count = words
        print(len(asyncio.run(nats_json.take(url, int(count), go))))


def main() -> int:
    """Run the benchmark; 0 when it reached its goals."""
    parser = argparse.ArgumentParser(prog="benchmarks.ingest")
    parser.add_argument("--smoke", action="store_true", help="under a minute")
    parser.add_argument("--agents", type=int, default=Plan().agents)
    parser.add_argument("--episodes", type=int, default=Plan().episodes)
    parser.add_argument("--turns", type=int, default=Plan().turns)
    parser.add_argument("--role", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        played(options.role[0], options.role[1:])
        return 0
    plan = SMOKE
    if not options.smoke:
        plan = Plan(agents=options.agents, episodes=options.episodes, turns=options.turns)
    print(f"{plan}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0 if asyncio.run(measure(plan)) else 1


if __name__ == "__main__":
    sys.exit(main())
