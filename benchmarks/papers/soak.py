"""36 simulated hours of work (SOP, arXiv 2601.03044): does a policy that is good stay good?

    python -m benchmarks.papers.soak [--smoke] [--plan JSON]

Slow robots and a slow learner, so that a day and a half fits: an attempt every two minutes, ten
updates a minute. The paper says "no degradation" and shows no curve; here the mean of the last
quarter of all evaluations is held against that of the quarter after the first.
"""

from __future__ import annotations

import math
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

LOSS = 0.05
"""Success that may go before it is called degradation."""


def arms(plan: Plan) -> tuple[Arm, ...]:
    """One."""
    lasting = Phase(episodes=math.inf, updates=math.inf, minutes=plan.minutes)
    return (Arm(name="SOP+HG-DAgger", phases=(lasting,)),)


def goal(rows: Rows) -> tuple[str, bool]:
    """The end is no worse than what came after the beginning."""
    early, late = [], []
    for found in (found for by_seed in rows.values() for found in by_seed.values()):
        curve = [rate for _, rate in found["curve"]]
        quarter = max(1, len(curve) // 4)
        early += curve[quarter : 2 * quarter]
        late += curve[-quarter:]
    if not early:
        return "nothing was watched", False
    before, after = statistics.mean(early), statistics.mean(late)
    words = f"second quarter {before:.3f}, last {after:.3f} (goal: at most {LOSS} less)"
    return words, after >= before - LOSS


TABLE = Table(
    name="soak",
    title="36 simulated hours",
    arms=arms,
    baseline="SOP+HG-DAgger",
    goal=goal,
    plan=Plan(
        robots=2,
        people=1,
        reset_s=120.0,
        updates_per_minute=10.0,
        minutes=36 * 60.0,
        watch_every=120.0,
        publish_delay_s=60.0,
    ),
    smoke=Plan(
        seeds=(0,),
        tasks=("drawer-open",),
        robots=2,
        people=1,
        reset_s=60.0,
        updates_per_minute=20.0,
        first_updates=100,
        minutes=12.0,
        watch_every=3.0,
        watched=8,
        attempts=8,
        publish_delay_s=30.0,
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
