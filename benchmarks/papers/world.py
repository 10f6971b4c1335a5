"""Where a table plays: arms, demonstrators, and data from before the fleet's time."""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.env import Robot, Scripted
from fleet_runtime.robot.episode import Stamp, finish, run_episode
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from fleet_runtime.robot.metaworld import MetaWorld
from fleet_runtime.robot.ogbench import OGBench

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.papers.plan import Plan
    from fleet_runtime.experience.types import Episode, Float
    from fleet_runtime.policies.base import Policy


class Simulated(Robot, Scripted, Protocol):
    """A robot that brings its experts."""


class Narrow(MetaWorld):
    """Meta-World whose starts and goals come from the middle of their regions."""

    def __init__(self, plan: Plan, seed: int, share: float) -> None:
        super().__init__(plan.tasks, horizon=plan.horizon, seed=seed)
        self._share = share

    def reset_environment(self, environment: Any, seed: int) -> Float:
        """A start drawn from this share of each side of the region."""
        space = environment._random_reset_space  # noqa: SLF001 (there is no public name)
        whole = environment.__dict__.setdefault("_whole", (space.low.copy(), space.high.copy()))
        middle, half = (whole[0] + whole[1]) / 2, (whole[1] - whole[0]) / 2 * self._share
        space.low[:], space.high[:] = middle - half, middle + half
        return super().reset_environment(environment, seed)


def metaworld(plan: Plan, seed: int, *, region: float = 1.0) -> Simulated:
    """The arm of these tables."""
    if region < 1:
        return Narrow(plan, seed, region)
    return MetaWorld(plan.tasks, horizon=plan.horizon, seed=seed)


def ogbench(plan: Plan, seed: int, *, region: float = 1.0) -> Simulated:  # noqa: ARG001
    """OGBench's arm; horizon and region are its own."""
    return OGBench(plan.tasks, seed=seed)


WORLDS: dict[str, Callable[..., Simulated]] = {"metaworld": metaworld, "ogbench": ogbench}


def named(seed: int, *path: object) -> int:
    """A seed for one use, below those of evaluation; the same in every run and process."""
    return zlib.crc32(repr((seed, *path)).encode()) % 2**31


def human(robot: Simulated, gate: dict[str, Any], seed: int) -> ScriptedHuman:
    """The robot's own expert, who takes over as `gate` says."""
    return ScriptedHuman(robot.expert, GateSettings(**gate), seed=seed)


def demonstrations(plan: Plan, robot: Simulated, seed: int) -> list[Episode]:
    """What the supervised start learns from."""
    hand = human(robot, {"noise": plan.demonstration_noise}, named(seed, "demonstrator"))
    return record(robot, hand, plan.tasks, plan.demonstrations, seed=seed)


def history(plan: Plan, robot: Simulated, policy: Policy, seed: int) -> list[Episode]:
    """What a deployed policy and people at play left behind: rollouts, good and bad, and play.

    LWD's offline data (arXiv 2605.00416): play is labelled a failure, whatever came of it.
    """
    policy.seed(named(seed, "history"))
    always = {"scheduled_fraction": 1.0, "scheduled_before": 1, "takeovers": 1}
    player = human(robot, always | {"noise": plan.play_noise}, named(seed, "player"))
    found = []
    for kind, count, hand in (("rollout", plan.rollouts, None), ("play", plan.play, player)):
        for task in plan.tasks:
            for number in range(count):
                stamp = Stamp(id=f"{kind}-{task}-{number}", robot=kind)
                start = named(seed, kind, task, number)
                running = run_episode(robot, policy, task, stamp=stamp, human=hand, seed=start)
                episode = finish(running)
                found.append(_played(episode) if hand else episode)
    return found


def _played(episode: Episode) -> Episode:
    """Play is nobody's example: its frames count as a policy's that failed."""
    nobody = np.zeros(len(episode), bool)
    return dataclasses.replace(
        episode, outcome="failure", intervention=nobody, scheduled=nobody.copy()
    )
