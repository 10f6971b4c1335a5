"""How often what only goes on as it should is looked at, and written. Pure.

A status is written at once where it means something else. What a robot or a job counts, and that a
robot follows the fleet from version to version, is written in turn: of a small fleet soon, of a
large one a few robots a second, however many there are. Metrics tell all of it, live.
"""

from fleet_contract.names import Reason

LOOKS = 5.0  # robots a second, of the whole fleet
LEAST = 15.0  # seconds between two writes of a robot that only counts on
FEW = int(LOOKS * LEAST)
"""Robots whose new version is written as soon as they tell of it."""
JOB_LEAST = 2.0  # seconds between two writes of a job that only counts on
JOB_ROBOTS = 500.0  # its status names the robots of a stage: the longer it is, the rarer

FOLLOWING = frozenset(
    {Reason.NOT_ASSIGNED, Reason.AWAITING_EPISODE_END, Reason.ON_ASSIGNED_VERSION}
)
"""Reasons of PolicySynced that come and go with every version."""


def counting(robots: int) -> float:
    """Seconds between two writes of a robot's counters, in a fleet of so many."""
    return max(LEAST, robots / LOOKS)


def following(robots: int) -> float:
    """Seconds that may pass before a robot's status names the version it has taken up."""
    return 0.0 if robots <= FEW else counting(robots)


def resync(robots: int, least: float) -> float:
    """Seconds until a robot of which nothing is heard is looked at again."""
    return max(least, 2 * robots / LOOKS)


def job(robots: int) -> float:
    """Seconds between two writes of a job that only counts on."""
    return max(JOB_LEAST, robots / JOB_ROBOTS)
