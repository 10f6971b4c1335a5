"""What an online frame is worth (SOP, arXiv 2601.03044): more demonstrations, or the fleet?

    python -m benchmarks.papers.offline_online [--smoke] [--plan JSON]

Demonstrations come from the middle of the start region only, as a laboratory's do. They are doubled
until that brings at most 0.05: the plateau is read off the rows `demos`. Beside the row `base`:

* `more demos` has as many more of them as `same frames` has frames of robots at work, and as
  `same human frames` has frames in which a person led;
* `pretrained` starts the fleet from an eighth, half and all of the demonstrations;
* `alone` gives each task a policy and its share of the budget, `together` all tasks one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.report import success
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

DEMONSTRATION_FRAMES = 80
"""A demonstration's frames, about, by which demonstrations and budgets are made alike."""
MANY = 1_000_000
"""Episodes no budget of frames here reaches."""


def arms(plan: Plan) -> tuple[Arm, ...]:
    """Rows in four groups, in the order of the text above."""
    base, share = plan.demonstrations, plan.episodes // len(plan.tasks)
    train = Phase(updates=plan.updates)
    frames = base * len(plan.tasks) * DEMONSTRATION_FRAMES
    doubled = [base // 8, base // 4, base // 2, base, 2 * base, 4 * base]

    def fleet(episodes: float = MANY, **frames: float) -> tuple[Phase, ...]:
        return (Phase(episodes=episodes, updates=plan.updates, **frames),)  # type: ignore[arg-type]

    return (
        *(
            Arm(name=f"demos {n}", algorithm="bc", phases=(train,), changes={"demonstrations": n})
            for n in doubled
            if n
        ),
        Arm(name="base", algorithm="bc"),
        Arm(
            name="more demos",
            algorithm="bc",
            phases=(train,),
            changes={"demonstrations": 2 * base},
        ),
        Arm(name="same frames", phases=fleet(frames=frames)),
        Arm(name="same human frames", phases=fleet(human_frames=frames)),
        *(
            Arm(
                name=f"pretrained 1/{part}",
                phases=fleet(episodes=plan.episodes),
                changes={"demonstrations": max(1, base // part)},
            )
            for part in (8, 2, 1)
        ),
        *(
            Arm(name=f"alone: {task}", phases=fleet(episodes=share), changes={"tasks": (task,)})
            for task in plan.tasks
        ),
        Arm(name="together", phases=fleet(episodes=share * len(plan.tasks))),
    )


def goal(rows: Rows) -> tuple[str, bool]:
    """A frame at work is worth more than a demonstrated one."""
    means = {arm: sum(map(success, by.values())) / len(by) for arm, by in rows.items()}
    more, same = means.get("more demos", 0.0), means.get("same frames", 0.0)
    return f"more demos {more:.3f}, same frames at work {same:.3f} (goal: more)", same > more


TABLE = Table(
    name="offline_online",
    title="Demonstrations or the fleet",
    arms=arms,
    baseline="base",
    goal=goal,
    plan=Plan(demonstrations=16, region=0.5, updates=8000),
    smoke=Plan(
        seeds=(0,),
        tasks=("drawer-open",),
        demonstrations=1,
        region=0.5,
        first_updates=60,
        episodes=4,
        updates=80,
        updates_per_minute=300,
        publish_every=10,
        horizon=120,
        attempts=4,
        size={"batch_size": 64},
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
