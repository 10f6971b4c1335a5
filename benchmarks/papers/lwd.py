"""LWD's tables (arXiv 2605.00416): what reinforcement learning makes of a fleet's whole past.

    python -m benchmarks.papers.lwd [--smoke] [--plan JSON]

All arms start from one supervised policy, beside the same offline data: demonstrations, rollouts of
that policy, good and bad, and play that counts as failure. Offline arms go on from it without
robots; all others then have the same episodes and updates.

Where people help much, imitating them is all that is needed, and a Q that sees every bad start
rescued cannot tell it from a good one. So most of the offline data are attempts of the policy
alone, and at work one person, who comes when nothing goes on, serves four robots.

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
    "bc_steps": 0,  # the supervised policy is the reference
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
        own = QAM | {"critic_steps": half // 2} | parameters
        return Arm(name=name, algorithm="divl-qam", parameters=own, phases=phases)

    return (
        Arm(name="SFT"),
        Arm(name="filtered BC offline", algorithm="bc", phases=offline),
        Arm(name="filtered BC online", algorithm="bc", parameters=EVERY_SUCCESS, phases=online),
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
    """At both stages LWD is above the start and above imitating what went well."""
    means = {arm: sum(map(success, by.values())) / len(by) for arm, by in rows.items()}
    start = means.get("SFT", 0.0)
    words, good = [f"SFT {start:.3f}"], True
    for stage in ("offline", "online"):
        twin, lwd = (means.get(f"{name} {stage}", 0.0) for name in ("filtered BC", "LWD"))
        words.append(f"{stage}: filtered BC {twin:.3f}, LWD {lwd:.3f}")
        good = good and lwd > max(start, twin)
    return f"{'; '.join(words)} (goal: LWD above both)", good


SMALL = {"batch_size": 64, "hidden": 128}

TABLE = Table(
    name="lwd",
    title="LWD: offline to online",
    arms=arms,
    baseline="SFT",
    goal=goal,
    plan=Plan(
        tasks=("push", "assembly"),
        people=1,
        gate={"scheduled_fraction": 0.0},
        demonstrations=8,
        rollouts=40,
        play=2,
        episodes=200,
        updates=9000,
        updates_per_minute=1000,
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
