"""FQL's three losses: who is imitated, what Q learns from, where the one-step policy goes."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from fleet_runtime.algorithms.fql import FQL, FQLConfig
from fleet_runtime.experience.batch import SOURCES, Source
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from learning.makers import SPACES, batch

if TYPE_CHECKING:
    from fleet_runtime.experience.batch import Batch

ROWS = batch(64, remaining=np.arange(64) % 16 + 1, success=np.arange(64) % 3 > 0, windows=(8,))


def fql(**settings: object) -> FQL:
    config = FQLConfig.model_validate({"hidden": 16, "layers": 1} | settings)
    flow = FlowConfig(spaces=SPACES, hidden=16, layers=1)
    return FQL(config, FlowPolicy(flow, Normalization.identity(2, 1)))


def of(rows: Batch, source: Source) -> Batch:
    return dataclasses.replace(rows, source=np.full(len(rows), SOURCES.index(source)))


@pytest.mark.parametrize("source", Source)
def test_the_flow_imitates_what_it_is_to_and_nothing_else(source: Source) -> None:
    algorithm = fql()
    before = parameters_to_vector(algorithm.imitator.net.parameters())
    algorithm.update(iter([of(ROWS, source)]))
    stood = torch.equal(parameters_to_vector(algorithm.imitator.net.parameters()), before)
    assert stood == (source not in {Source.HUMAN, Source.POLICY_ALONE_SUCCESS})


def test_q_learns_from_the_mean_of_both_heads_where_the_policy_would_act_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    algorithm = fql()
    with torch.no_grad():  # heads that disagree
        for head in algorithm.target_q.heads:
            head.body[-1].weight.mul_(5)  # type: ignore[index, union-attr]
    monkeypatch.setattr(algorithm, "_act", lambda context, z: (0 * z + 2) * context[:, :1])
    old_q, old_target = copy.deepcopy(algorithm.q), copy.deepcopy(algorithm.target_q)
    context, later = algorithm.context(ROWS), algorithm.later(ROWS, 0)
    executed = torch.from_numpy(ROWS.action).flatten(1)
    found = algorithm._criticise(ROWS, context, executed)

    chunk = (2 * later[:, :1]).clamp(-1, 1).expand(-1, 8)  # what a robot can do of it
    ahead = old_target(later, chunk).detach().mean(dim=0)
    left = torch.from_numpy(ROWS.remaining)
    won = torch.from_numpy(ROWS.success) & (left <= 8)
    y = torch.where(won, 0.99 ** (left - 1), 0) + torch.where(left <= 8, 0, 0.99**8) * ahead
    wanted = (old_q(context, executed) - y).square().mean().detach()
    assert found == pytest.approx(float(wanted), rel=1e-4)
    before, now, moved_to = (
        parameters_to_vector(net.parameters())
        for net in (old_target, algorithm.q, algorithm.target_q)
    )
    torch.testing.assert_close(moved_to, 0.995 * before + 0.005 * now)


def test_the_policy_goes_where_q_rises_or_stays_with_the_flow_as_alpha_says() -> None:
    def course(alpha: float, name: str) -> list[float]:
        algorithm = fql(alpha=alpha, critic_learning_rate=1e-12)
        return [algorithm.update(iter([ROWS])).metrics[name] for _ in range(60)]

    rising, nearing = course(0.0, "q"), course(1e6, "distance")
    assert np.mean(rising[-5:]) > max(rising[:5])
    assert np.mean(nearing[-5:]) < min(nearing[:5])
