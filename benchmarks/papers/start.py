"""What all arms of a seed begin with: data from before the fleet's time, the supervised policy."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

from benchmarks.papers import world
from benchmarks.papers.learner import Learner
from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.sampler import SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.papers.plan import Plan
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.policies.base import Policy


@dataclasses.dataclass(frozen=True)
class Start:
    """Shared by the arms, so nobody may change it."""

    spaces: Spaces
    demonstrations: list[Episode]
    history: list[Episode]
    base: Policy


def start(plan: Plan, seed: int, make: Callable[..., Any]) -> Start:
    """The start of this plan and seed; `make` as in `world.WORLDS`. The last one made is kept."""
    return _start(_Asked(plan, seed, make))


class _Asked:
    """A question that is known by all it names."""

    def __init__(self, plan: Plan, seed: int, make: Callable[..., Any]) -> None:
        self.plan, self.seed, self.make = plan, seed, make
        self._key = json.dumps([vars(plan), seed], sort_keys=True), make

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self._key == other._key


@functools.lru_cache(maxsize=1)
def _start(asked: _Asked) -> Start:
    plan, seed, make = asked.plan, asked.seed, functools.partial(asked.make, asked.plan)
    shown, robot = make(world.named(seed, "shown"), region=plan.region), make(0)
    try:
        spaces = robot.spec.spaces()
        demonstrations = world.demonstrations(plan, shown, seed)
        imitation = algorithms.find("bc").create(
            spaces, plan.size, normalization=Normalization.measure(demonstrations), seed=seed
        )
        supervised = Learner(spaces, imitation, SamplerSettings(**plan.sampler), seed=seed)
        supervised.add(demonstrations, Side.OFFLINE)
        for _ in range(plan.first_updates):
            supervised.update()
        history = world.history(plan, robot, supervised.policy(seed), seed)
    finally:
        shown.close()
        robot.close()
    return Start(spaces, demonstrations, history, supervised.policy(seed))
