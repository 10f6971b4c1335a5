"""Which robots run the candidate: an exact number, chosen by a hash salted with the version."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from fleet_contract.resources import Selector, Step

AWAY = 120.0
"""Seconds unheard of after which a robot's place in a stage goes to one that is connected."""


class Robot(NamedTuple):
    """What the rollout must know of one robot."""

    name: str
    connected: bool = True
    suspended: bool = False
    pin: int | None = None
    site: str = ""
    groups: tuple[str, ...] = ()
    away: float = 0.0
    """Seconds for which it is not connected."""

    @property
    def eligible(self) -> bool:
        """May take part in trials: at work, and nobody pinned it."""
        return not self.suspended and self.pin is None

    def matches(self, selector: Selector) -> bool:
        """Stands at one of its sites and is of one of its groups, where it asks for them."""
        here = not selector.sites or self.site in selector.sites
        return here and (not selector.groups or not set(self.groups).isdisjoint(selector.groups))


def able(robots: Iterable[Robot], step: Step) -> list[Robot]:
    """The robots that a stage is chosen from."""
    return [one for one in robots if one.eligible and one.matches(step.selector)]


def size(step: Step, fleet: int) -> int:
    """Robots in the stage, of ``fleet`` that it is chosen from; a share is rounded up."""
    if step.percent is not None:
        return -(-step.percent * fleet // 100)
    return min(step.robots or 0, fleet)


def choose(
    robots: Sequence[Robot], count: int, salt: str, current: Sequence[str] = ()
) -> list[str]:
    """Exactly ``count`` eligible robots (fewer where there are fewer), sorted by name.

    Those already in stay in, but for one that stays away; of the others, connected ones go first,
    so that one that is offline does not block the stage. The same salt always ranks robots the
    same way.
    """
    kept = frozenset(current)

    def rank(robot: Robot) -> tuple[bool, bool, bool, str]:
        there = robot.connected or (robot.name in kept and robot.away < AWAY)
        return (not there, robot.name not in kept, not robot.connected, _mixed(salt, robot.name))

    eligible = sorted((one for one in robots if one.eligible), key=rank)
    return sorted(robot.name for robot in eligible[:count])


@lru_cache(maxsize=32_768)
def _mixed(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()


def maintain(
    robots: Sequence[Robot], step: Step, salt: str, current: Sequence[str], *, grow: bool = True
) -> list[str]:
    """The cohort after robots came and went in the middle of a stage: as many as the step says.

    Places of robots that were deleted, suspended or pinned, or that stay away, are filled, and a
    share follows the fleet. With ``grow`` false nobody comes in.
    """
    there = able(robots, step)
    count = size(step, len(there))
    if not grow:
        there = [one for one in there if one.name in set(current)]
    return choose(there, count, salt, current)
