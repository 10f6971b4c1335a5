"""Which robots run the candidate: an exact number, chosen by a hash salted with the version."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from fleet_contract.resources import Step


class Robot(NamedTuple):
    """What the rollout must know of one robot."""

    name: str
    connected: bool = True
    suspended: bool = False
    pin: int | None = None

    @property
    def eligible(self) -> bool:
        """May take part in trials: at work, and nobody pinned it."""
        return not self.suspended and self.pin is None


def size(step: Step, fleet: int) -> int:
    """Robots in the stage, of ``fleet`` eligible ones; a share is rounded up."""
    if step.percent is not None:
        return -(-step.percent * fleet // 100)
    return min(step.robots or 0, fleet)


def choose(
    robots: Sequence[Robot], count: int, salt: str, current: Sequence[str] = ()
) -> list[str]:
    """Exactly ``count`` eligible robots (fewer where there are fewer), sorted by name.

    Those already in stay in; of the others, connected ones go first, so that one that is
    offline does not block the stage. The same salt always ranks robots the same way.
    """
    kept = frozenset(current)

    def rank(robot: Robot) -> tuple[bool, bool, str]:
        mixed = hashlib.sha256(f"{salt}/{robot.name}".encode()).hexdigest()
        return (robot.name not in kept, not robot.connected, mixed)

    eligible = sorted((one for one in robots if one.eligible), key=rank)
    return sorted(robot.name for robot in eligible[:count])


def maintain(robots: Sequence[Robot], step: Step, salt: str, current: Sequence[str]) -> list[str]:
    """The cohort after robots came and went in the middle of a stage.

    Places of robots that were deleted, suspended or pinned are filled, and a shrunken fleet
    shrinks the cohort; it never grows beyond what it began with, for robots that join get the
    stable version.
    """
    target = size(step, sum(robot.eligible for robot in robots))
    if current:
        target = min(target, len(current))
    return choose(robots, target, salt, current)
