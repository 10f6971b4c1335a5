"""One cell of a table: an arm lived through from one seed, then measured with nobody helping."""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

from benchmarks.papers import world
from benchmarks.papers.fleet import Fleet
from benchmarks.papers.learner import Learner
from benchmarks.papers.start import start
from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.replay.sampler import SamplerSettings
from fleet_runtime.robot.evaluate import evaluate
from fleet_runtime.robot.metaworld import EVALUATION_SEED

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.papers.plan import Arm, Plan
    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.policies.base import Policy

LANES = 8
"""Simulators that step side by side behind one inference."""


class Cell:
    """An arm at its start: the data from before, the supervised policy, the fleet."""

    def __init__(
        self, arm: Arm, common: Plan, seed: int, make: Callable[..., Any] | None = None
    ) -> None:
        self.arm, self.plan, self.seed = arm, arm.plan(common), seed
        make = make or world.WORLDS[self.plan.world]
        self._make = functools.partial(make, self.plan)
        self._lanes: list[Any] = []
        plan, sampling = self.plan, SamplerSettings(**self.plan.sampler)
        begun = start(plan, seed, make)
        self.spaces, self.base = begun.spaces, begun.base
        offline = begun.demonstrations + begun.history
        self.learner = Learner(self.spaces, self.algorithm(), sampling, seed=seed)
        self.learner.add(offline, Side.OFFLINE)
        self.offline_frames = sum(map(len, offline))
        self.failed_frames = sum(len(one) for one in offline if not one.success)
        self._robots = [self._make(world.named(seed, "robot", n)) for n in range(plan.robots)]
        helped = [
            (robot, world.human(robot, plan.gate, world.named(seed, "human", n)))
            for n, robot in enumerate(self._robots)
        ]
        self.fleet = Fleet(self.learner, helped, plan, seed=seed)

    def algorithm(self) -> Algorithm:
        """The arm's algorithm at its start from the supervised policy."""
        parameters = self.plan.size | self.arm.parameters
        kind = algorithms.find(self.arm.algorithm)
        return kind.create(self.spaces, parameters, initial=self.base, seed=self.seed)

    def measure(self, policy: Policy, attempts: int) -> dict[str, list[int]]:
        """Task → successes, attempts, steps of successes, steps of all."""
        if not self._lanes:
            self._lanes = [self._make(0) for _ in range(LANES)]
        tasks, seed = self.plan.tasks, EVALUATION_SEED
        scores = evaluate(policy, self._lanes, tasks, attempts, seed=seed)
        return {
            task: [s.successes, s.episodes, round(s.steps * s.successes), s.all_steps]
            for task, s in scores.items()
        }

    def close(self) -> None:
        """Give the simulators back; each holds tens of megabytes."""
        for robot in self._robots + self._lanes:
            robot.close()
        self._lanes.clear()

    def live(self) -> list[list[float]]:
        """All phases; evaluations on the way, as [simulated minutes, success]."""
        curve: list[list[float]] = []
        fleet, every = self.fleet, self.plan.watch_every * 60

        def look() -> None:
            found = self.measure(_apart(fleet.version.policy), self.plan.watched)
            curve.append([round(fleet.clock.now / 60, 6), rate(found)])
            if self.plan.until_target and reached(curve, self.plan.target) is not None:
                fleet.stop()

        for phase in self.arm.phases:
            if phase.refit:
                self.learner.begin(self.algorithm())
            self.learner.algorithm.online = phase.online
            if every and phase.minutes < math.inf:
                for number in range(round(phase.minutes * 60 / every)):
                    fleet.watch((number + 1) * every, look)
            fleet.run(phase)
        return curve


def live(
    arm: Arm, common: Plan, seed: int, make: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """The figures of a cell, as JSON has them; the same for the same arguments."""
    cell = Cell(arm, common, seed, make)
    try:
        return _found(cell)
    finally:
        cell.close()


def _found(cell: Cell) -> dict[str, Any]:
    curve = cell.live()
    lived = cell.fleet.lived
    return {
        "final": cell.measure(cell.learner.policy(cell.seed), cell.plan.attempts),
        "curve": curve,
        "reached": reached(curve, cell.plan.target),
        "minutes": round(cell.fleet.clock.now / 60, 3),
        "hz": cell.plan.control_hz,
        "episodes": len(lived),
        "updates": cell.fleet.updates,
        "versions": len(cell.fleet.made),
        "offline_frames": cell.offline_frames,
        "failed_frames": cell.failed_frames,
        "frames": sum(one.frames for one in lived),
        "human_frames": sum(one.human_frames for one in lived),
    }


def rate(found: dict[str, list[int]]) -> float:
    """Mean success over tasks, each counting alike."""
    return sum(row[0] / row[1] for row in found.values()) / len(found)


def reached(curve: list[list[float]], target: float) -> float | None:
    """Minutes until the first of two evaluations in a row at the target; None if it never was."""
    for (minute, first), (_, second) in itertools.pairwise(curve):
        if min(first, second) > target - 1e-9:  # a mean of exactly 0.8 may come out a bit below
            return minute
    return None


def _apart(policy: Policy) -> Policy:
    """The same weights with noise of their own: watching must not change what is watched."""
    return type(policy).build(policy.config(), policy.tensors(), policy.statistics())
