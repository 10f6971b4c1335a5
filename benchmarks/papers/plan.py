"""What a table is made of: sizes, arms, phases."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.papers.pace import Budget, Pace
from fleet_runtime.robot.metaworld import HORIZON

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.papers.results import Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Pace):
    """Sizes and constants of a table; an arm may change any of them but the seeds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    world: str = "metaworld"  # one of `world.WORLDS`
    tasks: tuple[str, ...] = ("push", "pick-place", "coffee-pull")
    horizon: int = HORIZON  # control steps until a timeout
    demonstrations: int = 1  # of each task
    demonstration_noise: float = 0.2  # of the demonstrator's hand, in action units
    region: float = 1.0  # share of each task's start region that demonstrations come from
    rollouts: int = 0  # of the supervised policy and of each task, among the offline data
    play: int = 0  # of each task: an expert who trembles too much to do it
    play_noise: float = 2.0
    first_updates: int = 2000  # of the supervised start
    episodes: int = 320  # an arm has, over all tasks
    updates: int = 12_800  # an arm has, after the supervised start
    minutes: float = 0.0  # simulated, where a phase is measured by time
    watch_every: float = 0.0  # simulated minutes between evaluations on the way; 0: none
    watched: int = 20  # attempts at each task in such an evaluation
    target: float = 0.8  # success that two of them in a row must have
    until_target: bool = False  # an arm ends as soon as they have
    attempts: int = 50  # at each task in the last evaluation
    size: dict[str, Any] = dataclasses.field(default_factory=dict)  # every arm's parameters
    sampler: dict[str, Any] = dataclasses.field(default_factory=dict)
    gate: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase(Budget):
    """A stretch of an arm's life: robots and learner side by side, or one of them alone."""

    online: bool = True  # what the algorithm is told of the stage
    refit: bool = False  # begin anew from the supervised policy, on all that is known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A row of a table. It starts from the same supervised policy as its neighbours."""

    name: str
    algorithm: str = "hg-dagger"
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the plan

    def plan(self, common: Plan) -> Plan:
        """The table's plan as this arm has it."""
        return dataclasses.replace(common, **self.changes)

    def total(self, what: Literal["episodes", "updates"], common: Plan) -> float:
        """About how many it will have over all phases, for an estimate of the time."""
        plan = self.plan(common)
        frames = 0.6 * plan.horizon  # of an attempt
        return float(
            sum(
                min(phase.updates, phase.minutes * plan.updates_per_minute)
                if what == "updates"
                else min(
                    phase.episodes,
                    phase.frames / frames,
                    phase.human_frames / (0.25 * frames),
                    phase.minutes * 60 * plan.robots / (plan.reset_s + frames / plan.control_hz),
                )
                for phase in self.phases
            )
        )

    def key(self, common: Plan, seed: int) -> str:
        """What a finished cell is known by: all that its figures follow from."""
        # What a table adds to a plan is which arms there are; no arm's figures follow from that.
        own, sizes = self.plan(common), {field.name for field in dataclasses.fields(Plan)}
        plan = {k: v for k, v in vars(own).items() if k in sizes - {"seeds"}}
        phases = [vars(phase) for phase in self.phases]
        facts = [self.name, self.algorithm, self.parameters, phases, plan, seed]
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper: its arms by plan, and what it must show to be called reproduced."""

    name: str
    title: str
    arms: Callable[[Plan], tuple[Arm, ...]]
    baseline: str  # the arm that differences are taken to
    goal: Callable[[Rows], tuple[str, bool]]  # a figure beside its goal, and whether it is met
    plan: Plan = Plan()
    smoke: Plan = Plan()
