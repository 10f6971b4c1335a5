"""SOP's scaling table (arXiv 2601.03044): how soon N robots get a shared policy to 0.8.

    python -m benchmarks.papers.actor_scaling [--smoke] [--plan JSON]

Between attempts a robot waits for its scene to be made ready, as robots do: `reset_s` decides
whether a fleet is short of experience or of updates, so one of the fleets meets a learner half and
one twice as fast as well. Every `watch_every` robot-minutes, so about as many attempts whatever the
fleet, the version it acts by is evaluated, which takes no simulated time; the target is reached at
the first of two evaluations in a row that are there, and with it the run ends. A run that never is
counts with all its `minutes`. Each robot has a person.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

GOAL = 3.2
PAPER = 2.4
"""SOP's four robots against its one: 173.6 minutes to 71.7."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingPlan(Plan):
    """A plan with a grid."""

    fleets: tuple[int, ...] = (1, 2, 4, 8)
    rates: tuple[float, ...] = (0.5, 1, 2)  # of the learner
    swept: tuple[int, ...] = (4,)  # fleets that meet other learners than the plan's


def arms(plan: Plan) -> tuple[Arm, ...]:
    """One for each size of the fleet and speed of the learner."""
    assert isinstance(plan, ScalingPlan)
    lasting = Phase(episodes=math.inf, updates=math.inf, minutes=plan.minutes)
    return tuple(
        Arm(
            name=_name(robots, rate),
            phases=(lasting,),
            changes={
                "robots": robots,
                "people": robots,
                "watch_every": plan.watch_every / robots,
                "updates_per_minute": plan.updates_per_minute * rate,
            },
        )
        for rate in sorted(plan.rates, key=lambda rate: abs(math.log(rate)))
        for robots in plan.fleets
        if rate == 1 or robots in plan.swept
    )


def _name(robots: int, rate: float) -> str:
    return f"N={robots} learner x{rate:g}"


def goal(rows: Rows) -> tuple[str, bool]:
    """The larger fleet is sooner there, or at least further when time is up."""
    times = {
        arm: statistics.mean(found["reached"] or found["minutes"] for found in by_seed.values())
        for arm, by_seed in rows.items()
    }
    one, most = _name(1, 1), max((_name(n, 1) for n in (2, 4) if _name(n, 1) in times), default="")
    if one not in times or not most:
        return "too few arms to compare", False
    ratio = times[one] / times[most]
    words = f"N=1 {times[one]:.2f} min, {most} {times[most]:.2f} min: {ratio:.1f} times sooner"
    return f"{words} (goal: {GOAL}; SOP: {PAPER} with four)", ratio >= GOAL


TABLE = Table(
    name="actor_scaling",
    title="Time to the target by size of the fleet",
    arms=arms,
    baseline=_name(1, 1),
    goal=goal,
    plan=ScalingPlan(
        reset_s=20.0,
        updates_per_minute=1000.0,
        minutes=60.0,
        watch_every=4.0,
        watched=30,
        until_target=True,
    ),
    smoke=ScalingPlan(
        seeds=(0,),
        tasks=("drawer-open",),
        fleets=(1, 2),
        rates=(1,),
        first_updates=40,
        updates_per_minute=200,
        publish_every=10,
        reset_s=3.0,
        minutes=1.0,
        watch_every=0.4,
        watched=8,
        attempts=8,
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
