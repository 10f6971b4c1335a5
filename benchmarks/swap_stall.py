"""Does a new version make the control loop stumble?

The robot's own control loop at 50 Hz, on a world of no cost that does not wait for it, and a flow
policy of 25 million weights. In turn: nothing else at work; versions that come as deltas out of a
store, fetched, rebuilt, verified and offered by the robot's own library in a thread beside the
loop, each of which drives two episodes; and what LeRobot's actor does, a `torch.load` and
`load_state_dict` of all weights in the loop between two episodes. A line each; the last one says
figure, goal and `ok` or `short`.

    .venv/bin/python -m benchmarks.swap_stall [--smoke] [--seed N]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import os
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from benchmarks.peers import full_push
from benchmarks.policy_latency import step
from fleet_contract.messages import Event, EventKind, Lineage
from fleet_contract.names import Signatory
from fleet_contract.resources.learning import Weights
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.publish import Snapshot, Versions
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.robot.fetch import Library
from fleet_runtime.trust import verifier
from helpers import keys
from helpers.alone import Alone
from helpers.world import SPEC, TASKS, PointRobot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_contract.messages import PolicyRef
    from fleet_runtime.experience.types import Float

HZ = 50.0
EPISODES = 2  # that each version drives
PAUSE, P99 = 1e-3, 1.2  # goals: seconds, times idle
PATIENCE = 900.0  # seconds


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    hidden: int = 2048
    layers: int = 7
    steps: int = 50  # of an episode, all of one chunk
    swaps: int = 100
    turns: int = 4
    loads: int = 20  # of the peer


SMOKE = Plan(steps=30, swaps=8, turns=1, loads=5)


class Act(NamedTuple):
    """One action reached the robot."""

    at: float  # monotonic
    episode: int
    version: int


class Watched(PointRobot):
    """Times its actions and its resets; its world goes on whether it acts or not."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(dataclasses.replace(SPEC, horizon=plan.steps, waits=False), step=0.0)
        self.version: Callable[[], int] = lambda: 0
        self.before: Callable[[], None] = lambda: None
        self.acts: list[Act] = []
        self.resets: list[float] = []

    def reset(self, task: str, seed: int | None = None) -> None:
        """`before` is what a peer does here."""
        self.before()
        self.resets.append(time.monotonic())
        super().reset(task, seed)

    def act(self, action: Float) -> Float:
        """As any robot's."""
        self.acts.append(Act(time.monotonic(), len(self.resets), self.version()))
        return action


class Found(NamedTuple):
    """Of one turn or several, in seconds."""

    intervals: list[float]  # between two actions of an episode
    plain: list[float]  # from an episode's last action to the next reset, same version
    swapped: list[float]  # … another version
    mixed: int  # episodes under more than one version


def read(
    acts: Sequence[Act], resets: Sequence[float], at_work: Sequence[tuple[float, float]]
) -> Found:
    """What the robot saw; intervals only `at_work`, where anything was."""
    found = Found([], [], [], 0)
    versions: dict[int, set[int]] = {}
    for one in acts:
        versions.setdefault(one.episode, set()).add(one.version)
    for before, after in pairwise(acts):
        if before.episode == after.episode:
            if not at_work or any(a <= after.at and before.at <= b for a, b in at_work):
                found.intervals.append(after.at - before.at)
        else:
            gap = resets[after.episode - 1] - before.at
            (found.plain if before.version == after.version else found.swapped).append(gap)
    return found._replace(mixed=sum(len(one) > 1 for one in versions.values()))


def together(turns: Sequence[Found]) -> Found:
    """Several turns as one."""
    return Found(
        [one for turn in turns for one in turn.intervals],
        [one for turn in turns for one in turn.plain],
        [one for turn in turns for one in turn.swapped],
        sum(turn.mixed for turn in turns),
    )


def policy(plan: Plan, seed: int) -> FlowPolicy:
    """One chunk an episode, in one step of integration: thinking is not what is measured."""
    spaces = SPEC.spaces()
    config = FlowConfig(
        spaces=spaces,
        horizon=plan.steps,
        execute=plan.steps,
        hidden=plan.hidden,
        layers=plan.layers,
        euler_steps=1,
    )
    torch.manual_seed(seed)
    made = FlowPolicy(config, Normalization.identity(spaces.observation_size, spaces.action_size))
    with torch.no_grad():
        for weight in made.net.parameters():
            weight.copy_(weight.bfloat16())
    return made


class Bench:
    """One robot at work, and versions for it."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        self._plan = plan
        self._folder = folder
        store = Store(f"file://{folder}/objects")
        self._versions = Versions(store, "uid-1", 1, HZ, Weights.BFLOAT16, sign=keys.LEARNER.sign)
        self.policies = [policy(plan, seed)]
        rng = np.random.default_rng(seed)
        # In turn, and so many that a robot has none of them on its disk when it comes again.
        while len(self.policies) < 4:
            self.policies.append(step(self.policies[-1], rng))
        trusted = keys.trust(folder / "trust")
        self._library = Library(
            store,
            folder / "kept",
            job_uid="uid-1",
            spec=SPEC,
            tasks=TASKS,
            verify=verifier(trusted, Signatory.LEARNER),
        )
        self._published = 0
        self.robot = Watched(plan)
        self.ended = 0
        self._news = threading.Condition()

    def publish(self) -> PolicyRef:
        """The next version."""
        self._published += 1
        lineage = Lineage(first=0, through=0, episodes=0)
        made = self.policies[self._published % len(self.policies)]
        return self._versions.publish(Snapshot(made, self._published, {}, lineage)).ref

    def hear(self, event: Event) -> None:
        """In the control thread."""
        if event.kind is EventKind.OUTCOME:
            with self._news:
                self.ended += 1
                self._news.notify_all()

    def lived(self, episodes: int) -> None:
        """Wait for so many more."""
        with self._news:
            wanted = self.ended + episodes
            assert self._news.wait_for(lambda: self.ended >= wanted, PATIENCE)

    def load(self, alone: Alone, ref: PolicyRef, epoch: int) -> tuple[float, float]:
        """As the follower does it; from when to when."""
        begun = time.monotonic()
        loaded = self._library.load(ref, epoch)
        alone.desk.change(lambda slot: slot.offer(loaded))
        held = (alone.desk.slot.active, alone.desk.slot.pending, alone.desk.slot.good)
        self._library.keep([one.ref for one in held if one is not None])
        return begun, time.monotonic()

    def turn(self, work: Callable[[], list[tuple[float, float]]]) -> Found:
        """What the robot sees while that is done."""
        begun = len(self.robot.acts)
        at_work = work()
        return read(self.robot.acts[begun:], self.robot.resets, at_work)

    def run(self) -> tuple[Found, Found, Found]:
        """Idle, swapping, loading in the loop."""
        plan = self._plan
        idle, swapping, loading = [], [], []
        with Alone(
            self._folder / "spool", self.robot, hz=HZ, hear=self.hear, patience=PATIENCE
        ) as alone:
            desk = alone.desk

            def version() -> int:
                return desk.slot.active.ref.sequence if desk.slot.active else 0

            self.robot.version = version
            self.load(alone, self.publish(), 1)
            self.lived(2)
            each = plan.swaps // plan.turns
            for _ in range(plan.turns):

                def rest() -> list[tuple[float, float]]:
                    self.lived(EPISODES * each)
                    return []

                def swap(refs: Sequence[PolicyRef]) -> list[tuple[float, float]]:
                    spans = []
                    for ref in refs:
                        spans.append(self.load(alone, ref, ref.sequence))
                        self.lived(EPISODES)
                    return spans

                idle.append(self.turn(rest))
                refs = [self.publish() for _ in range(each)]
                swapping.append(self.turn(functools.partial(swap, refs)))
            message = io.BytesIO()
            torch.save(self.policies[0].net.state_dict(), message)

            def load() -> None:
                message.seek(0)
                full_push.load(self.policies[1].net, message)

            def loads() -> list[tuple[float, float]]:
                self.robot.before = load
                self.lived(plan.loads)
                self.robot.before = lambda: None
                return []

            loading.append(self.turn(loads))
        return together(idle), together(swapping), together(loading)


def p99(values: Sequence[float]) -> float:
    """Of intervals."""
    return float(np.quantile(values, 0.99))


def main() -> int:
    """Run the benchmark; 0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="benchmarks.swap_stall")
    parser.add_argument("--smoke", action="store_true", help="fewer swaps, under a minute")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        plan = SMOKE if options.smoke else Plan()
        idle, swapping, loading = Bench(plan, Path(folder), options.seed).run()
    for name, found in (("idle", idle), ("versions beside it", swapping), ("in the loop", loading)):
        cuts = [f"{1e3 * np.quantile(found.intervals, q):.1f}" for q in (0.5, 0.99, 1.0)]
        gap = median(found.swapped or found.plain)
        print(
            f"{name}: {len(found.intervals)} intervals, ms at 50, 99, 100 % {' / '.join(cuts)}; "
            f"{len(found.swapped)} swaps; last action to reset {1e3 * gap:.1f} ms; load "
            f"{os.getloadavg()[0]:.1f}"
        )
    # A version's second episode begins as its first, the swap apart.
    pause = median(swapping.swapped) - median(swapping.plain)
    peer = median(loading.plain) - median(idle.plain)
    times = p99(swapping.intervals) / p99(idle.intervals)
    good = pause <= PAUSE and times <= P99 and not swapping.mixed
    print(
        f"a swap adds {1e3 * pause:.2f} ms between two episodes (goal {1e3 * PAUSE:.0f}; "
        f"load_state_dict in the loop {1e3 * peer:.0f}); p99 of the loop while a version comes "
        f"{times:.2f} times idle (goal {P99}); {swapping.mixed} episodes under two versions "
        f"(goal 0): " + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
