"""What the learner's loop costs beside the updates it is there to make.

One learner program with all it does at work: a real broker, episodes arriving at a fleet's rate,
journal, receipts, versions, checkpoints. Its training thread takes turns: a plain loop of the same
updates while the fleet is silent, then the product's loop while it is not. The figure is the median
of the ratios of neighbouring turns, so what else this machine does weighs on both.

    .venv/bin/python -m benchmarks.learner [--smoke] [--rate N] [--seconds N] [--turns N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fleet_contract.agents import LearnerConfig
from fleet_runtime.experience import codec
from fleet_runtime.learner import loop as product
from fleet_runtime.learner import main as program
from fleet_runtime.settings import LearnerSettings
from helpers.learner import (
    JOB,
    JOB_UID,
    TASKS,
    episode,
    experience_subject,
    message,
    record,
)
from helpers.nats import connect, make_streams, running_broker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.loop import Training

GOAL, WAIT_GOAL = 0.95, 0.02
OBSERVATION, ACTION, STEPS = 39, 4, 100  # Meta-World's


class Pace(NamedTuple):
    """One turn."""

    rate: float  # updates per second
    cpu: float  # seconds of the training thread per update


class Turn(NamedTuple):
    """One pair of turns."""

    bare: Pace
    loop: Pace
    waited: float  # share of the loop's time
    taken: int  # episodes that became sampleable meanwhile


def lived(number: int, side: str) -> Episode:
    """An episode of Meta-World's size."""
    rng = np.random.default_rng(number)
    return episode(
        f"{side}-{number}",
        task=TASKS[number % len(TASKS)],
        steps=STEPS,
        observation=rng.normal(size=(STEPS + 1, OBSERVATION)).astype(np.float32),
        action=rng.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
        policy_action=np.zeros((STEPS, ACTION), np.float32),
    )


async def send(url: str, rate: float) -> None:
    """A fleet: `rate` episodes a second, from a `+` on stdin to the next `-`."""
    client = await connect(url)
    at_work, ended = asyncio.Event(), asyncio.Event()

    def listen() -> None:
        said = os.read(0, 1024)
        if not said:
            ended.set()
        if said.endswith(b"-"):
            at_work.clear()
        else:
            at_work.set()

    asyncio.get_running_loop().add_reader(0, listen)
    number = 0
    while await at_work.wait() and not ended.is_set():
        number += 1
        made = lived(number, "robot")
        payload = codec.encode(made)
        told = record(made, number, payload, ended_at=time.time())
        await client.publish(experience_subject(), message((told, payload)))
        await asyncio.sleep(1 / rate)
    await client.close()


class Turns:
    """Takes the place of the product's training loop, and calls it every other time."""

    def __init__(self, count: int, seconds: float, fleet: subprocess.Popen[bytes]) -> None:
        self._count, self._seconds, self._fleet = count, seconds, fleet
        self.found: list[Turn] = []

    def __call__(self, run: Training, stop: threading.Event) -> None:
        self._bare(run)  # the first updates are slow
        for _ in range(self._count):
            bare = self._bare(run)
            waited, taken = run.progress.waited, run.episodes
            loop = self._loop(run)
            waited = (run.progress.waited - waited) / self._seconds
            self.found.append(Turn(bare, loop, waited, run.episodes - taken))
        stop.set()

    def _bare(self, run: Training) -> Pace:
        """Updates per second of a plain loop, nobody else at work in this process."""
        while run.publisher.busy or run.checkpointer.busy or run.handoff.take():
            time.sleep(0.01)
        made, busy, started = 0, time.thread_time(), time.perf_counter()
        while (spent := time.perf_counter() - started) < self._seconds:
            run.sampler.observe(run.algorithm.update(run.feed).losses)
            made += 1
        return Pace(made / spent, (time.thread_time() - busy) / made)

    def _loop(self, run: Training) -> Pace:
        """Updates per second of the product's loop while the fleet sends."""
        enough, ended = threading.Event(), [0.0]

        def end() -> None:
            ended[0] = time.perf_counter()
            enough.set()

        self._tell(b"+")
        timer = threading.Timer(self._seconds, end)
        before, busy, started = run.algorithm.updates, time.thread_time(), time.perf_counter()
        timer.start()
        product.train(run, enough)
        self._tell(b"-")
        made, busy = run.algorithm.updates - before, time.thread_time() - busy
        return Pace(made / (ended[0] - started), busy / made)

    def _tell(self, word: bytes) -> None:
        assert self._fleet.stdin is not None
        self._fleet.stdin.write(word)
        self._fleet.stdin.flush()


async def measure(folder: Path, rate: float, seconds: float, turns: int) -> list[Turn]:
    """The learner at work on what a fleet in another process sends."""
    demos = folder / "demos"
    demos.mkdir()
    for number in range(8):
        made = codec.encode(lived(number, "demo"))
        (demos / f"{number}.episode").write_bytes(made)
    with running_broker(folder / "nats") as broker:
        await make_streams(broker.url)
        config = {
            "tasks": [{"name": task} for task in TASKS],
            "offline": {"datasets": [{"uri": f"file://{demos}"}], "steps": 1},
            "checkpoint": {"interval": "10s"},
        }
        settings = LearnerSettings(
            job=JOB,
            job_uid=JOB_UID,
            nats_url=broker.url,
            storage_url=f"file://{folder}/store",
            spec=LearnerConfig.model_validate(config),
        )
        command = [sys.executable, "-m", "benchmarks.learner", "--fleet", broker.url]
        with subprocess.Popen([*command, "--rate", str(rate)], stdin=subprocess.PIPE) as fleet:  # noqa: ASYNC220
            work = Turns(turns, seconds, fleet)
            setattr(program, "train", work)  # noqa: B010 - in the program's own place
            await program.Learner(settings).run()
        return work.found


def main() -> int:
    """Run the benchmark; 0 when it reached its goal."""
    parser = argparse.ArgumentParser(prog="benchmarks.learner")
    parser.add_argument("--smoke", action="store_true", help="under a minute")
    parser.add_argument("--rate", type=float, default=10.0, help="episodes a second")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--fleet", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fleet:
        asyncio.run(send(options.fleet, options.rate))
        return 0
    torch.set_num_threads(1)
    sys.setswitchinterval(program.SWITCH_INTERVAL)
    seconds, turns = (2.0, 8) if options.smoke else (options.seconds, options.turns)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(__file__).parents[1]):
        found = asyncio.run(measure(Path(folder), options.rate, seconds, turns))
    for turn in found:
        print(
            f"plain {turn.bare.rate:6.1f}/s, loop {turn.loop.rate:6.1f}/s, waited "
            f"{turn.waited:.1%}, {turn.taken} episodes"
        )

    def middle(values: Iterable[float]) -> float:
        return statistics.median(values)

    ratio = middle(turn.loop.rate / turn.bare.rate for turn in found)
    whole = sum(turn.loop.rate for turn in found) / sum(turn.bare.rate for turn in found)
    cpu = middle(turn.bare.cpu / turn.loop.cpu for turn in found)
    bare, loop = (middle(getattr(turn, k).rate for turn in found) for k in ("bare", "loop"))
    waited = middle(turn.waited for turn in found)
    arrived = sum(turn.taken for turn in found) / (seconds * len(found))
    print(f"over all turns {whole:.3f}; by the training thread's own CPU time {cpu:.3f}")
    good = ratio >= GOAL and waited <= WAIT_GOAL and arrived > 0
    print(
        f"plain loop {bare:.0f} updates/s, learner {loop:.0f} with {arrived:.1f} episodes/s "
        f"arriving: {ratio:.3f} of it (goal at least {GOAL}), data wait {waited:.1%} (goal at most "
        f"{WAIT_GOAL:.0%}): " + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
