"""LWD's tables (arXiv 2605.00416): what reinforcement learning makes of a fleet's whole past.

    python -m benchmarks.papers.lwd [--smoke] [--plan JSON]

All arms start from one supervised policy, beside the same offline data: demonstrations, rollouts of
that policy, good and bad, and play that counts as failure; about 35 % of the frames are failures.
Offline arms go on from it without robots; all others then have the same episodes and updates.
On `assembly` a person who takes over late often fails, too, so helping alone does not saturate.

λ, γ and n are ours: LWD's λ = 2 does nothing to a Q between 0 and 1, and attempts here are short.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.report import success
from benchmarks.papers.runner import main

if TYPE_CHECKING:
    from benchmarks.papers.results import Rows

QAM: dict[str, Any] = {
    # The supervised policy is the reference already: the stage that makes one is passed at once.
    "bc_steps": 1,
    "learning_rate": 1e-6,
    "temperature": 0.05,
    "n_step": 5,
}
EVERY_SUCCESS = {"online": ("human", "policy-alone-success", "policy-helped-success")}
CONSTANT = {"tau_alpha": 0.0, "tau_base_offline": 0.52}


def arms(plan: Plan) -> tuple[Arm, ...]:
    """The rows of the main table, then those of the study of DIVL."""
    half, episodes = plan.updates // 2, plan.episodes
    offline = (Phase(updates=half, online=False),)
    online = (*offline, Phase(episodes=episodes, updates=half))
    recap = (
        Phase(episodes=episodes // 2, online=False),
        Phase(updates=half, online=False, refit=True),
    )

    def divl(name: str, phases: tuple[Phase, ...], **parameters: object) -> Arm:
        return Arm(name=name, algorithm="divl-qam", parameters=QAM | parameters, phases=phases)

    return (
        Arm(name="SFT"),
        Arm(name="filtered BC", algorithm="bc", parameters=EVERY_SUCCESS, phases=online),
        Arm(
            name="RECAP",
            algorithm="recap",
            parameters={"longest": plan.horizon, "value_steps": half // 10},
            phases=recap * 2,
        ),
        Arm(name="HG-DAgger", phases=online),
        divl("LWD offline", offline),
        divl("LWD online", online),
        divl("expectile offline", offline, value="expectile"),
        divl("expectile online", online, value="expectile"),
        divl("constant tau offline", offline, **CONSTANT),
    )


def goal(rows: Rows) -> tuple[str, bool]:
    """LWD online is above the supervised start and above its own offline stage."""
    means = {arm: sum(map(success, by.values())) / len(by) for arm, by in rows.items()}
    start, before, after = (means.get(arm, 0.0) for arm in ("SFT", "LWD offline", "LWD online"))
    words = f"SFT {start:.3f}, LWD offline {before:.3f}, online {after:.3f}"
    return f"{words} (goal: above both)", after > start and after > before


SMALL = {"batch_size": 64, "hidden": 128}

TABLE = Table(
    name="lwd",
    title="LWD: offline to online",
    arms=arms,
    baseline="SFT",
    goal=goal,
    plan=Plan(
        tasks=("push", "pick-place", "coffee-pull", "assembly"),
        demonstrations=12,
        rollouts=3,
        play=1,
        updates=8000,
        publish_every=50,
        size=SMALL,
        sampler={"low": 0.5, "high": 0.5},
    ),
    smoke=Plan(
        seeds=(0,),
        tasks=("drawer-open",),
        demonstrations=2,
        rollouts=1,
        play=1,
        first_updates=40,
        episodes=6,
        updates=60,
        updates_per_minute=300,
        publish_every=10,
        horizon=120,
        attempts=4,
        size={"batch_size": 16, "hidden": 32, "layers": 2},
        sampler={"low": 0.5, "high": 0.5},
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE))
