"""Does ingest take more memory the more waits for it? A learner that finds a backlog at the broker.

Episodes of 400 steps lie in the stream before the learner's half (`faults.taker`, the program of
`make torture`) comes to take them: once so many, once some times as many, each in a folder and a
process of its own. Then it dies, and its successor reads them all in the journal. Told are the
median of many looks at its memory while it takes, and the most that either ever had: that is what a
pod's limit must allow, so the goal is of these. The smaller backlog is more already than ingest
takes at a time, so more of it must not show (the room between ingest and training, 256 MiB in the
product, is 32 MiB here, the journal's cache half a MiB in place of 32). What a settled episode
leaves behind for good, some 800 bytes in ledger, library and replay, is in the figure. The last
line says figures, goal and `ok` or `short`, and the exit status says the same.

    .venv/bin/python -m benchmarks.ingest_memory [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from faults.stream import Learner
from fleet_runtime.experience import codec
from helpers.counts import peak, resident
from helpers.learner import TASKS, episode, experience_subject, message, record
from helpers.nats import connect, make_streams, running_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_contract.messages import Record
    from fleet_runtime.experience.types import Episode

OBSERVATION, ACTION, STEPS = 39, 4, 400
TOGETHER = 10  # episodes in a message of 0.7 MB


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    episodes: int = 3_000  # 200 MB
    times: int = 4
    growth: float = 0.10
    within: float = 900.0  # seconds


SMOKE = Plan(episodes=1_200, times=3)


def lived(number: int) -> Episode:
    """An episode that hardly packs, as those of real robots."""
    rng = np.random.default_rng(number)
    return episode(
        f"ada-{number}",
        task=TASKS[number % len(TASKS)],
        steps=STEPS,
        observation=rng.normal(size=(STEPS + 1, OBSERVATION)).astype(np.float32),
        action=rng.uniform(-1, 1, (STEPS, ACTION)).astype(np.float32),
        policy_action=np.zeros((STEPS, ACTION), np.float32),
    )


def records(count: int) -> Iterator[tuple[Record, bytes]]:
    """Of one robot, numbered from 1."""
    for number in range(1, count + 1):
        made = lived(number)
        payload = codec.encode(made)
        yield record(made, number, payload), payload


async def left(url: str, count: int) -> float:
    """So many episodes in the stream; MB of them."""
    client = await connect(url)
    size, entries = 0, records(count)
    while some := tuple(itertools.islice(entries, TOGETHER)):
        data = message(*some)
        await client.jetstream().publish(experience_subject(), data)
        size += len(data)
    await client.close()
    return size / 1e6


class Row(NamedTuple):
    """One backlog."""

    waited: float  # MB
    median: float  # MiB that the learner had while it took them
    most: float  # … ever
    again: float  # the most that the one had which read them in the journal


async def taken(folder: Path, count: int, within: float) -> Row:
    """A learner that takes so many."""
    with running_broker(folder / "nats") as broker:
        await make_streams(broker.url)
        size = await left(broker.url, count)
        learner = Learner(folder, broker.url, f"file://{folder}/store", OBSERVATION, ACTION)
        await learner.start()
        seen = []
        try:
            async with asyncio.timeout(within):
                while len(learner.told()) <= count:  # the first line says that it is ready
                    assert learner.alive
                    seen.append(resident(learner.pid))
                    await asyncio.sleep(0.1)
            most = peak(learner.pid)
            learner.kill()
            await learner.start()  # returns once the journal is read
            return Row(size, statistics.median(seen), most, peak(learner.pid))
        finally:
            learner.kill()


async def measure(plan: Plan) -> list[Row]:
    """Of both backlogs."""
    found = []
    for count in (plan.episodes, plan.episodes * plan.times):
        with TemporaryDirectory() as folder:
            found.append(await taken(Path(folder), count, plan.within))
        waited, median, most, again = found[-1]
        print(
            f"{count} episodes, {waited:.0f} MB: {median:.0f} MiB, at most {most:.0f}; "
            f"read again: at most {again:.0f}",
            flush=True,
        )
    return found


def main() -> int:
    """Run the benchmark; 0 when it reached its goal."""
    parser = argparse.ArgumentParser(prog="benchmarks.ingest_memory")
    parser.add_argument("--smoke", action="store_true", help="smaller, under a minute")
    plan = SMOKE if parser.parse_args().smoke else Plan()
    print(f"{plan}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    less, more = asyncio.run(measure(plan))
    growths = more.most / less.most - 1, more.again / less.again - 1
    good = max(growths) < plan.growth
    print(
        f"ingest's RSS at most {less.most:.0f} MiB with {less.waited:.0f} MB waiting, "
        f"{more.most:.0f} MiB with {more.waited:.0f} MB: {growths[0]:+.1%}; after a restart "
        f"{less.again:.0f} and {more.again:.0f} MiB: {growths[1]:+.1%} "
        f"(goal less than {plan.growth:+.0%}): {'ok' if good else 'short'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
