"""What tells reinforcement learning from imitation: it leaves the worse half of its data behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from learning.makers import SPACES, TASKS, episode

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode

SIZE = {"hidden": 64, "layers": 2, "batch_size": 128, "horizon": 1, "execute": 1}


def bandit(count: int = 64) -> list[Episode]:
    """Episodes of one step: going up succeeds, going down fails, and the data does both alike."""
    made = []
    rng = np.random.default_rng(0)
    for number in range(count):
        up = number % 2 == 0
        action = np.array([[(0.5 if up else -0.5) + rng.normal(scale=0.05)]], np.float32)
        made.append(
            episode(
                f"e{number}",
                steps=1,
                task=TASKS[number // 2 % 2],
                outcome="success" if up else "failure",
                observation=rng.normal(size=(2, 2)).astype(np.float32),
                action=action,
                policy_action=action,
            )
        )
    return made


def share_of_ups(name: str, parameters: dict[str, object], updates: int) -> float:
    """How often the trained policy goes up."""
    data = bandit()
    kept = {one.id: one for one in data}
    algorithm = algorithms.find(name).create(
        SPACES, SIZE | parameters, normalization=Normalization.measure(data)
    )
    index = ReplayIndex(SPACES, algorithm.sample_spec, kept.__getitem__)
    for one in data:
        index.add(one, Side.OFFLINE)
    batches = Feed(index, AdaptiveSampler(len(TASKS)))
    for _ in range(updates):
        algorithm.update(batches)
    seen = np.random.default_rng(1).normal(size=(400, 2)).astype(np.float32)
    acted = algorithm.policy().act(seen, np.arange(400) % 2)
    return float((acted[:, 0, 0] > 0).mean())


BOTH = ["policy-alone-success", "policy-failure"]


def test_imitating_everything_keeps_both_ways() -> None:
    assert 0.3 < share_of_ups("bc", {"offline": BOTH}, 300) < 0.7


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("recap", {"value_steps": 150, "longest": 10, "positive": 0.5}),
        ("divl-qam", {"bc_steps": 150, "imitates": BOTH, "critic_learning_rate": 1e-3}),
        ("divl-qam", {"bc_steps": 150, "imitates": BOTH, "value": "expectile"}),
        ("fql", {"alpha": 0.3, "imitates": BOTH, "critic_learning_rate": 1e-3}),
    ],
)
def test_it_goes_the_way_that_succeeds(name: str, parameters: dict[str, object]) -> None:
    assert share_of_ups(name, parameters, 450) > 0.85
