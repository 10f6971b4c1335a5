"""OGBench's UR5e arm as a robot: cubes, a scene with a drawer and a window, a puzzle of buttons.

A task is one of OGBench's single tasks, `cube-single-task1` for short; its own names
(`cube-single-singletask-task1-v0`, or with a dataset's `-play`) are understood too. Nothing is
downloaded. What the arm should do is no part of the observation: the task's name says it. Tasks of
different families show the robot different things, so a job has one family.

Success is OGBench's own, and so is the reward (−1 for each unfinished part), but for the way that
is left in the part at hand: without that the scripted human would never see headway.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet_contract.parameters import unknown
from fleet_runtime.robot.env import Channel, RobotSpec
from fleet_runtime.robot.gym import GymnasiumRobot
from fleet_runtime.robot.ogbench_expert import Expert, distance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_runtime.experience.types import Float

CONTROL_HZ = 20.0
"""One step is 0.05 s of simulated time."""
DEFAULT_TASKS = ("cube-single-task1",)
_NAME = re.compile(r"(?P<family>.+?)(-play|-noisy)?(-singletask)?-task(?P<number>[1-5])(-v0)?")


class Family(NamedTuple):
    """Tasks that look alike to the robot."""

    horizon: int  # control steps before an attempt is a timeout: OGBench's own
    cubes: int = 0
    buttons: int = 0
    slides: tuple[str, ...] = ()


FAMILIES = {
    "cube-single": Family(200, cubes=1),
    "cube-double": Family(500, cubes=2),
    "scene": Family(750, cubes=1, buttons=2, slides=("drawer", "window")),
    "puzzle-3x3": Family(500, buttons=9),
}
_ARM = (
    Channel("joint", 6, "rad"),
    Channel("joint_velocity", 6, "rad/s"),
    Channel("hand", 3, "dm"),
    Channel("yaw", 2),
    Channel("gripper", 1),
    Channel("contact", 1),
)


def parse(task: str) -> tuple[str, int]:
    """Family and number of a task's name; ValueError for one that is not there."""
    found = _NAME.fullmatch(task)
    if not found or found["family"] not in FAMILIES:
        there = [f"{family}-task{number}" for family in FAMILIES for number in range(1, 6)]
        raise ValueError(f"among OGBench's tasks {unknown(task, there)}")
    return found["family"], int(found["number"])


def spec(tasks: Sequence[str] = DEFAULT_TASKS) -> RobotSpec:
    """The arm's interface for tasks of one family; ValueError where they are of several."""
    names = sorted({parse(task)[0] for task in tasks})
    if len(names) != 1:
        raise ValueError(f"the families {names} show a robot different things: one job, one family")
    family = FAMILIES[names[0]]
    parts = [
        *((f"cube_{n}", 9) for n in range(family.cubes)),
        *((f"button_{n}", 4) for n in range(family.buttons)),
        *((name, 2) for name in family.slides),
    ]
    return RobotSpec(
        tasks=tuple(tasks),
        observation=(*_ARM, *(Channel(name, size) for name, size in parts)),
        action=(Channel("hand_motion", 3), Channel("yaw_motion", 1), Channel("gripper_motion", 1)),
        action_low=(-1.0,) * 5,
        action_high=(1.0,) * 5,
        horizon=family.horizon,
        control_hz=CONTROL_HZ,
    )


class OGBench(GymnasiumRobot):
    """A simulated UR5e arm for any of `tasks`, with OGBench's scripted oracles as its experts."""

    def __init__(self, tasks: Sequence[str] = DEFAULT_TASKS, *, seed: int = 0) -> None:
        super().__init__(spec(tasks), _make, seed=seed)

    def reset_environment(self, environment: Any, seed: int) -> Any:
        """A start drawn from `seed` alone: the two random steps of a reset follow from it too."""
        environment.action_space.seed(seed)
        return super().reset_environment(environment, seed)

    def reward(self, reward: float, info: dict[str, Any]) -> float:
        """OGBench's, less the way that is left in the part at hand (m)."""
        return reward - distance(self._current, info)

    def expert(self, task: str) -> Callable[[Float], Float]:
        """An expert for the attempt that was reset last, which must be at `task`."""
        if task not in self._environments or self._environments[task] is not self._current:
            raise ValueError(f"the arm is not set up for {task!r}: reset it first")
        return Expert(self._current)


def _make(task: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports use what their libraries deprecated
        import gymnasium
        import ogbench.manipspace  # noqa: F401 - registers its environments
        from gymnasium.envs.registration import load_env_creator

        family, number = parse(task)
        made = gymnasium.spec(f"{family}-singletask-task{number}-v0")
        kind: Any = load_env_creator(str(made.entry_point))

    class Seeded(kind):  # type: ignore[misc]
        # Its own makes an unseeded one at every use, also inside a reset.
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32)

    return Seeded(**made.kwargs)
