"""Demonstrations: whole attempts by a human, the supervised stage's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_runtime.robot.episode import EpisodeRun, Stamp
from fleet_runtime.robot.human import Control

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_runtime.experience.types import Episode, Float
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.human import Human

ATTEMPTS = 20
"""Attempts at one wanted demonstration before giving up on the expert."""


class _Always:
    """A human who takes over, as scheduled, at the first step and never lets go."""

    def __init__(self, human: Human) -> None:
        self._human = human

    def begin(self, task: str) -> None:
        self._human.begin(task)

    def control(self, step: int, reward: float) -> Control:  # noqa: ARG002
        return Control.SCHEDULED

    def act(self, observation: Float) -> Float:
        return self._human.act(observation)


def record(
    robot: Robot,
    human: Human,
    tasks: Sequence[str],
    count: int,
    *,
    name: str = "demonstrator",
    seed: int = 0,
) -> list[Episode]:
    """`count` successful demonstrations of each task; every frame is a human's.

    A failed attempt is thrown away and tried from another start, as a person would. The starts
    follow from `seed`; RuntimeError when an expert keeps failing.
    """
    found = []
    for position, task in enumerate(tasks):
        kept = 0
        for attempt in range(ATTEMPTS * count):
            if kept == count:
                break
            episode_seed = seed * 1_000_003 + position * 10_007 + attempt
            stamp = Stamp(id=f"{name}-{seed}-{task}-{attempt}", robot=name)
            run = EpisodeRun(
                robot, task, stamp=stamp, execute=1, human=_Always(human), seed=episode_seed
            )
            while not run.done:
                run.tick()
            episode = run.episode()
            if episode.success:
                found.append(episode)
                kept += 1
        if kept < count:
            raise RuntimeError(f"the expert for {task} succeeded {kept} times in {attempt + 1}")
    return found
