"""Few people for many robots: who is helped when not all can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_runtime.robot.human import Control

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Float
    from fleet_runtime.robot.human import Human


class Crew:
    """So many people, each of whom helps one robot at a time; first come, first served."""

    def __init__(self, people: int) -> None:
        self.people = people
        self._helped: set[str] = set()

    def help(self, robot: str, *, wanted: bool) -> bool:
        """Whether somebody is at this robot now. Not wanted: they are free for another."""
        if not wanted:
            self._helped.discard(robot)
        elif len(self._helped) < self.people:
            self._helped.add(robot)
        return robot in self._helped


class Shared:
    """A robot's human who comes only while somebody of the crew is free.

    Who is wanted but busy comes later, if still wanted then; the policy goes on until that.
    """

    def __init__(self, human: Human, crew: Crew, robot: str) -> None:
        self._human, self._crew, self._robot = human, crew, robot

    def begin(self, task: str) -> None:
        """A new attempt."""
        self._human.begin(task)

    def control(self, step: int, reward: float) -> Control:
        """What the human wants, where somebody is there to do it."""
        why = self._human.control(step, reward)
        there = self._crew.help(self._robot, wanted=why is not Control.POLICY)
        return why if there else Control.POLICY

    def act(self, observation: Float) -> Float:
        """The human's action."""
        return self._human.act(observation)

    def leave(self) -> None:
        """The attempt is over."""
        self._crew.help(self._robot, wanted=False)
