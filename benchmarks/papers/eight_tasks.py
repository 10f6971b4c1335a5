"""One policy for eight tasks: how far people's help brings a fleet (SOP, arXiv 2601.03044).

    python -m benchmarks.papers.eight_tasks [--smoke] [--plan JSON]

`main_table` holds methods against each other on three tasks; this one asks the best of them for a
policy that does nearly everything it was shown once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.report import success
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

GOAL = 0.95
"""SOP's own tables end at .94 to .98."""


def arms(plan: Plan) -> tuple[Arm, ...]:
    """The supervised start, and the fleet that learns at work from there."""
    return (
        Arm(name="SFT"),
        Arm(
            name="SOP+HG-DAgger",
            phases=(Phase(episodes=plan.episodes, updates=plan.updates),),
        ),
    )


def goal(rows: Rows) -> tuple[str, bool]:
    """Mean over tasks and seeds."""
    means = {arm: sum(map(success, by.values())) / len(by) for arm, by in rows.items()}
    start, sop = means.get("SFT", 0.0), means.get("SOP+HG-DAgger", 0.0)
    return f"SFT {start:.3f}, SOP+HG-DAgger {sop:.3f} (goal: {GOAL})", sop >= GOAL


TABLE = Table(
    name="eight_tasks",
    title="Eight tasks, one policy",
    arms=arms,
    baseline="SFT",
    goal=goal,
    plan=Plan(
        tasks=(
            "push",
            "pick-place",
            "coffee-pull",
            "drawer-open",
            "door-open",
            "stick-push",
            "shelf-place",
            "button-press",
        ),
        first_updates=3000,
        episodes=960,
        updates=38_400,
    ),
    smoke=Plan(
        seeds=(0,),
        tasks=("drawer-open", "button-press"),
        first_updates=100,
        episodes=16,
        updates=320,
        updates_per_minute=300,
        publish_every=10,
        attempts=10,
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
