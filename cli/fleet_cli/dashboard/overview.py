"""What the page shows of a job. Pure."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from fleet_cli.oncall import latency, look, views
from fleet_cli.oncall.status import status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_cli.oncall.world import World

Z = 1.96
"""Of a normal distribution 95 of 100 lie within so many deviations."""


def overview(world: World, scraped: Sequence[str]) -> views.Overview:
    """Of what was seen, and of what the operator's metrics say."""
    job = world.job.metadata.name
    shown = status(world, latency.quantiles(scraped, job))
    robots = [look.robot(one, world.now) for one in world.robots]
    return views.Overview(
        status=shown,
        robots=sorted(robots, key=lambda one: (not one.trouble, one.name)),
        cohorts=[_cohort(one) for one in shown.cohorts],
        versions=[
            _share(
                one.status.phase.value,
                one.spec.sequence,
                one.status.cohort.robots,
                one.status.cohort.successes,
                one.status.cohort.episodes,
            )
            for one in world.versions
        ],
        moved=latency.moved(scraped, job),
        at=world.now,
    )


def interval(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson's: (low, high) of a share; 0 to 1 without an episode."""
    if not episodes:
        return 0.0, 1.0
    share, spread = successes / episodes, Z * Z / episodes
    middle = (share + spread / 2) / (1 + spread)
    half = Z * sqrt(share * (1 - share) / episodes + spread / (4 * episodes)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _cohort(one: views.Cohort) -> views.Share:
    made = _share(one.role, one.version, one.robots, one.successes or 0, one.episodes or 0)
    # Without episodes of a trial there is the mean of its robots, which has no interval.
    return made if one.episodes else made.model_copy(update={"rate": one.success_rate})


def _share(
    name: str, version: int | None, robots: int, successes: int, episodes: int
) -> views.Share:
    made = views.Share(name=name, version=version, robots=robots, episodes=episodes)
    if not episodes:
        return made
    low, high = interval(successes, episodes)
    figures = {"rate": successes / episodes, "low": low, "high": high}
    return made.model_copy(update={key: f"{value:.2f}" for key, value in figures.items()})
