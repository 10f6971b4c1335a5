"""Replay beside lerobot's, torchrl's and cpprb's: rows a second, bytes a row, and what a mix costs.

Everyone stores the same transitions and draws batches of 256: state, action and next state as torch
tensors on the CPU, one thread. A state is Meta-World's 39 numbers, or a frame of 3 × 128 × 128
bytes; frames come as uint8 from everyone but lerobot, which keeps float32, so ours are measured
converted too. Bytes are how much the process grew while a buffer was filled. Repeats are
interleaved; told are the median and, in brackets, the quartiles, by the time of the processor and
not of the wall, so that a busy machine does not choose the winner.

    .venv/bin/python -m benchmarks.replay --setup    # others' libraries, into a folder of their own
    .venv/bin/python -m benchmarks.replay [--smoke]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.peers import replay as peers
from fleet_runtime.experience.batch import EVERYTHING, SampleSpec, Side
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from learning.makers import episode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from benchmarks.peers.replay import Data, Draw, Tensors
    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.experience.types import Episode

ROWS, LENGTH, TASKS = 256, 100, 8
STATE, ACTION, FRAME = 39, 4, (128, 128, 3)
PAGE = os.sysconf("SC_PAGE_SIZE")
IMAGE_GOALS = {"lerobot": 25.0, "torchrl": 8.0, "cpprb": 3.0}
"""Times as many rows of frames as theirs; ALIKE where ours become float32, as lerobot's are."""
ALIKE, BYTES, BALANCE, GROWTH = 3.0, 0.125, 1.1, 0.9


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    states: int = 100_000  # transitions
    frames: int = 3_000
    large: int = 10_000_000  # to be drawn from as fast as from `states`
    repeats: int = 15
    seconds: float = 0.2  # of drawing, a repeat


SMOKE = Plan(frames=1_000, large=1_000_000, repeats=7, seconds=0.05)


def index_of(data: Data, tasks: int, rows: int | None = None) -> ReplayIndex:
    """Our replay of episodes of LENGTH steps, tasks and sides in turn; `rows` repeats the data."""
    frames = data.state.ndim > 2
    names = tuple(f"task-{n}" for n in range(tasks))
    spaces = Spaces(
        tasks=names,
        observation_size=1 if frames else data.state.shape[1],
        action_low=(-1.0,) * ACTION,
        action_high=(1.0,) * ACTION,
        images={"camera": FRAME} if frames else {},
    )
    spec = SampleSpec(1, ROWS, EVERYTHING, EVERYTHING, windows=(1,))
    total = rows or len(data.state)
    index = ReplayIndex(
        spaces, spec, _never, cache_steps=total, cache_bytes=2**62, max_steps=2 * total
    )
    for number in range(total // LENGTH):
        first = number * LENGTH % len(data.state)
        rows_ = np.arange(first, first + LENGTH + 1) % len(data.state)
        made = episode(
            f"{number}",
            steps=LENGTH,
            task=names[number % tasks],
            observation=np.zeros((LENGTH + 1, 1), np.float32) if frames else data.state[rows_],
            action=data.action[first : first + LENGTH],
            policy_action=data.action[first : first + LENGTH],
            images={"camera": data.state[rows_]} if frames else {},
        )
        index.add(made, Side(number // tasks % 2))
    return index


def _never(name: str) -> Episode:
    raise AssertionError(f"{name} is in memory")


def tensors(batch: Batch) -> Tensors:
    """Ours as the peers' come: no copy."""
    seen: NDArray[Any] = batch.images.get("camera", batch.observation)
    later: NDArray[Any] = batch.later_images.get("camera", batch.later)
    return [torch.from_numpy(part) for part in (seen, batch.action[:, 0], later[:, 0])]


def uniform(index: ReplayIndex) -> Draw:
    """All rows from one pool: an index of one task, all its episodes on one side or the other."""
    rng, sizes = np.random.default_rng(0), index.eligible().ravel()

    def draw(rows: int) -> Tensors:
        online = int(rng.binomial(rows, sizes[1] / sizes.sum()))
        return tensors(index.sample(np.array([[rows - online, online]]), rng))

    return draw


def balanced(index: ReplayIndex) -> Draw:
    """SOP's mix over tasks and sides, its losses observed after every batch as in training."""
    tasks = len(index.spaces.tasks)
    sampler = AdaptiveSampler(tasks)
    feed = Feed(index, sampler)
    losses = np.random.default_rng(0).random((tasks, len(Side)))

    def draw(_: int) -> Tensors:
        sampler.observe(losses)
        return tensors(next(feed))

    return draw


def as_floats(draw: Draw) -> Draw:
    """The same with every tensor a float32, in memory that the next batch uses again."""
    kept: list[torch.Tensor] = []

    def converted(rows: int) -> Tensors:
        parts = draw(rows)
        if not kept:
            kept.extend(torch.empty(part.shape) for part in parts)
        return [out.copy_(part) for out, part in zip(kept, parts, strict=True)]

    return converted


def race(runners: Mapping[str, Draw], plan: Plan) -> dict[str, float]:
    """Median rows a second of each, printed with quartiles."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for draw in runners.values():
        draw(ROWS)  # warm
    for _ in range(plan.repeats):
        for name, draw in runners.items():
            batches, started = 0, time.process_time()
            while (spent := time.process_time() - started) < plan.seconds:
                draw(ROWS)
                batches += 1
            rates[name].append(batches * ROWS / spent)
    for name, found in rates.items():
        low, middle, high = np.percentile(found, [25, 50, 75])
        print(f"  {name:32s} {middle:12,.0f} rows/s  [{low:,.0f} … {high:,.0f}]", flush=True)
    return {name: float(np.median(found)) for name, found in rates.items()}


def filled(runners: dict[str, Draw], name: str, make: Callable[[], Draw], rows: int) -> float:
    """Add a runner; bytes a row it took. NaN, and no runner, where its library is absent."""
    before = _resident()
    try:
        runners[name] = make()
    except ModuleNotFoundError as fault:
        print(f"  {name:32s} absent ({fault}): `python -m benchmarks.replay --setup` adds it")
        return float("nan")
    runners[name](ROWS)
    return (_resident() - before) / rows


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def beside(data: Data, plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """Rates and bytes a row of everyone on the same data."""
    runners: dict[str, Draw] = {}
    few = peers.Data(data.state[:ROWS], data.action[:ROWS])
    made: dict[str, Callable[[Data], Draw]] = {
        "ours": lambda held: uniform(index_of(held, 1)),
        "lerobot": peers.lerobot,
        "torchrl": peers.torchrl,
        "cpprb": peers.cpprb,
    }
    sizes = {}
    for name, make in made.items():
        with contextlib.suppress(ModuleNotFoundError):
            make(few)(ROWS)  # what is needed once is no part of a row
        sizes[name] = filled(runners, name, partial(make, data), len(data.state))
    if data.state.dtype == np.uint8:
        runners["ours, as float32"] = as_floats(runners["ours"])
    rates = race(runners, plan)
    print("  bytes a row: " + ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items()))
    return rates, sizes


def mixed(data: Data, plan: Plan) -> tuple[float, float, float]:
    """What the mix costs over uniform, in µs a batch too; the rate from many rows over from few."""
    runners: dict[str, Draw] = {
        "ours, uniform": uniform(index_of(data, 1)),
        "ours, 8 tasks × 2 sides": balanced(index_of(data, TASKS)),
        f"ours, the same of {plan.large:,}": balanced(index_of(data, TASKS, plan.large)),
    }
    filled(runners, "lerobot, two buffers", lambda: peers.lerobot_mixed(data), 1)
    filled(runners, "torchrl, prioritized", lambda: peers.torchrl(data, prioritized=True), 1)
    alike, mix, large, *_ = race(runners, plan).values()
    return alike / mix, 1e6 * ROWS * (1 / mix - 1 / alike), large / mix


def main() -> int:
    """Run the benchmark; 0 when it reached its goals."""
    parser = argparse.ArgumentParser(prog="benchmarks.replay")
    parser.add_argument("--smoke", action="store_true", help="smaller, under a minute")
    parser.add_argument("--setup", action="store_true", help="install the peers and end")
    options = parser.parse_args()
    if options.setup:
        peers.setup()
        return 0
    peers.reach()
    torch.set_num_threads(1)
    plan, rng = SMOKE if options.smoke else Plan(), np.random.default_rng(0)
    print(f"{plan}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")

    def action(rows: int) -> np.ndarray:
        return rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32)

    print("states:")
    states = peers.Data(
        rng.normal(size=(plan.states, STATE)).astype(np.float32), action(plan.states)
    )
    beside(states, plan)
    print("task-balanced, online and offline:")
    cost, extra, growth = mixed(states, plan)
    print("frames:")
    shape = (plan.frames, *FRAME)
    rates, sizes = beside(
        peers.Data(rng.integers(0, 256, shape, np.uint8), action(plan.frames)), plan
    )

    said, good = [], cost <= BALANCE and growth >= GROWTH
    for name, goal in IMAGE_GOALS.items():
        if name in rates:
            ratio = rates["ours"] / rates[name]
            said.append(f"{ratio:.1f} × {name} (goal {goal:g})")
            good &= ratio >= goal
    if "lerobot" in rates:
        alike = rates["ours, as float32"] / rates["lerobot"]
        smaller = sizes["ours"] / sizes["lerobot"]
        said += [f"as float32 {alike:.1f} × lerobot (goal {ALIKE:g})"]
        said += [f"{smaller:.3f} of its bytes (goal {BYTES})"]
        good &= alike >= ALIKE and smaller <= BYTES
    print(
        f"mix {cost:.2f} × uniform (goal at most {BALANCE}; {extra:.0f} µs a batch of states), "
        f"{plan.large:,} rows as fast as "
        f"{plan.states:,} by {growth:.2f} (goal {GROWTH}); frames: "
        f"{', '.join(said) or 'no peer is installed'}: " + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
