"""SOP's main table (arXiv 2601.03044): offline iterations against learning while at work.

    python -m benchmarks.papers.main_table [--smoke] [--plan JSON]

All arms start from one supervised policy and have the same episodes and updates. Offline arms
collect with a policy that stands still, then train with robots that stand still: HG-DAgger in four
rounds, RECAP in two, each of which refits value and policy from the supervised start on all data
(arXiv 2511.14759). SOP's arms do both at once. SOP+RECAP needs a value before it goes online, where
it is frozen: it learns it from the first fifth of its episodes and updates.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.report import success
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

ROUNDS = 4
OFFLINE = 0.2


def arms(plan: Plan) -> tuple[Arm, ...]:
    """The five rows of the paper."""
    episodes, updates = plan.episodes, plan.updates
    # RECAP's returns are in units of its longest episode, its value is trusted after a while.
    recap = {"longest": plan.horizon, "value_steps": updates // 20}
    return (
        Arm(name="SFT"),
        Arm(name="HG-DAgger", phases=_rounds(plan, ROUNDS, refit=False)),
        Arm(
            name="RECAP",
            algorithm="recap",
            parameters=recap,
            phases=_rounds(plan, 2, refit=True),
        ),
        Arm(name="SOP+HG-DAgger", phases=(Phase(episodes=episodes, updates=updates),)),
        Arm(
            name="SOP+RECAP",
            algorithm="recap",
            parameters=recap,
            phases=(
                Phase(episodes=int(OFFLINE * episodes)),
                Phase(updates=int(OFFLINE * updates), online=False),
                Phase(
                    episodes=episodes - int(OFFLINE * episodes),
                    updates=updates - int(OFFLINE * updates),
                ),
            ),
        ),
    )


def _rounds(plan: Plan, count: int, *, refit: bool) -> tuple[Phase, ...]:
    episodes, updates = plan.episodes // count, plan.updates // count
    turn = (
        Phase(episodes=episodes, online=not refit),
        Phase(updates=updates, online=not refit, refit=refit),
    )
    return turn * count


def goal(rows: Rows) -> tuple[str, bool]:
    """SOP+HG-DAgger beats the supervised start and its offline twin, in the mean of all seeds."""
    means = {arm: sum(map(success, by.values())) / len(by) for arm, by in rows.items()}
    start, twin, sop = (means.get(arm, 0.0) for arm in ("SFT", "HG-DAgger", "SOP+HG-DAgger"))
    words = f"SFT {start:.3f}, HG-DAgger {twin:.3f}, SOP+HG-DAgger {sop:.3f} (goal: above both)"
    return words, sop > start and sop > twin


TABLE = Table(
    name="main_table",
    title="SOP's main table",
    arms=arms,
    baseline="SFT",
    goal=goal,
    smoke=Plan(
        seeds=(0,),
        tasks=("drawer-open",),
        first_updates=100,
        episodes=12,
        updates=240,
        updates_per_minute=300,
        publish_every=10,
        attempts=10,
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
