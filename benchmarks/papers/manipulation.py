"""QAM against FQL and behaviour cloning on OGBench (arXiv 2601.14234), in small.

    python -m benchmarks.papers.manipulation [--smoke] [--plan JSON]

OGBench's oracles, with a trembling hand, demonstrate; beside that stand rollouts of the policy that
imitates them, for what goes wrong. Each method has the same updates on it, then as many again with
the fleet. The papers' data sets are far larger and need a download: compare methods, not figures.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.papers.lwd import EVERY_SUCCESS, QAM, SMALL
from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.report import success
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "BC": ("bc", EVERY_SUCCESS),
    "FQL": ("fql", {}),
    "QAM": ("divl-qam", QAM),
}


def arms(plan: Plan) -> tuple[Arm, ...]:
    """Each method before and after the fleet's experience."""
    warm = {"QAM": {"critic_steps": plan.updates // 4}}
    offline = (Phase(updates=plan.updates // 2, online=False),)
    online = (*offline, Phase(episodes=plan.episodes, updates=plan.updates // 2))
    return (
        Arm(name="SFT"),
        *(
            Arm(
                name=f"{name} {stage}",
                algorithm=kind,
                parameters=parameters | warm.get(name, {}),
                phases=phases,
            )
            for stage, phases in (("offline", offline), ("online", online))
            for name, (kind, parameters) in METHODS.items()
        ),
    )


def goal(rows: Rows) -> tuple[str, bool]:
    """Online, QAM is above both."""
    means = {arm: sum(map(success, by.values())) / len(by) for arm, by in rows.items()}
    found = {name: means.get(f"{name} online", 0.0) for name in METHODS}
    words = ", ".join(f"{name} online {value:.3f}" for name, value in found.items())
    return f"{words} (goal: QAM above)", found["QAM"] > max(found["BC"], found["FQL"])


TABLE = Table(
    name="manipulation",
    title="QAM, FQL and imitation on OGBench",
    arms=arms,
    baseline="SFT",
    goal=goal,
    plan=Plan(
        world="ogbench",
        tasks=("cube-single-task1", "cube-single-task2"),
        horizon=200,
        control_hz=20.0,
        demonstrations=10,
        rollouts=10,
        episodes=120,
        updates=8000,
        updates_per_minute=300.0,
        size=SMALL,
        sampler={"low": 0.5, "high": 0.5},
    ),
    smoke=Plan(
        world="ogbench",
        seeds=(0,),
        tasks=("cube-single-task1",),
        horizon=200,
        control_hz=20.0,
        demonstrations=1,
        demonstration_noise=0.05,
        rollouts=1,
        robots=2,
        first_updates=30,
        episodes=2,
        updates=40,
        updates_per_minute=120.0,
        publish_every=10,
        attempts=2,
        size={"batch_size": 16, "hidden": 32, "layers": 2},
        sampler={"low": 0.5, "high": 0.5},
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
