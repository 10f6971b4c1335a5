"""A robot whose tasks go by the job's names: an environment has names of its own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet_runtime.robot.env import Attended, Scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet_runtime.experience.types import Float
    from fleet_runtime.robot.env import Events, Observation, Robot, RobotSpec
    from fleet_runtime.robot.human import Human


class Renamed:
    """Passes everything on, with the task's other name."""

    def __init__(self, robot: Robot, tasks: Mapping[str, str]) -> None:
        """`tasks`: the job's name → the robot's. Two of the job's may be one of the robot's."""
        self._robot = robot
        self._tasks = dict(tasks)
        self._spec = dataclasses.replace(robot.spec, tasks=tuple(tasks))

    @property
    def spec(self) -> RobotSpec:
        """The robot's, with the job's tasks."""
        return self._spec

    def connect(self) -> None:
        """As the robot does."""
        self._robot.connect()

    def close(self) -> None:
        """As the robot does."""
        self._robot.close()

    def reset(self, task: str, seed: int | None = None) -> None:
        """As the robot does."""
        self._robot.reset(self._tasks[task], seed)

    def observe(self) -> Observation:
        """As the robot does."""
        return self._robot.observe()

    def act(self, action: Float) -> Float:
        """As the robot does."""
        return self._robot.act(action)

    def poll_events(self) -> Events:
        """As the robot does."""
        return self._robot.poll_events()

    def safe_stop(self) -> None:
        """As the robot does."""
        self._robot.safe_stop()


class _Scripted(Renamed):
    """One that brings experts."""

    def __init__(self, robot: Robot, tasks: Mapping[str, str], experts: Scripted) -> None:
        super().__init__(robot, tasks)
        self._experts = experts

    def expert(self, task: str) -> Callable[[Float], Float]:
        """As the robot does."""
        return self._experts.expert(self._tasks[task])


class _Attended(Renamed):
    """One that somebody stands by."""

    def __init__(self, robot: Robot, tasks: Mapping[str, str], attended: Attended) -> None:
        super().__init__(robot, tasks)
        self._attended = attended

    def human(self) -> Human:
        """As the robot does."""
        return self._attended.human()


def renamed(robot: Robot, tasks: Mapping[str, str]) -> Robot:
    """The robot under the job's task names, with its person or its experts, where it has some."""
    if isinstance(robot, Attended):
        return _Attended(robot, tasks, robot)
    if isinstance(robot, Scripted):
        return _Scripted(robot, tasks, robot)
    return Renamed(robot, tasks)
