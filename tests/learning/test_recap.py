"""RECAP's labels: returns, thresholds and who is positive whatever the value says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from fleet_runtime.algorithms.recap import RECAP, RECAPConfig, Thresholds, returns
from fleet_runtime.experience.batch import SOURCES, Source
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from learning.makers import SPACES, batch


@pytest.mark.parametrize(
    ("remaining", "success", "value"),
    [(1, True, 0.0), (11, True, -0.1), (101, True, -1.0), (200, True, -1.0), (1, False, -1.0)],
)
def test_a_return_counts_the_steps_to_success(remaining: int, success: bool, value: float) -> None:
    found = returns(batch(1, remaining=remaining, success=success), longest=100)
    assert found == pytest.approx(value)


def test_a_threshold_leaves_the_wanted_share_of_each_task_above_it() -> None:
    thresholds = Thresholds(3, 100)
    advantage = torch.arange(200.0)
    task = torch.arange(200) % 2
    thresholds.observe(advantage, task)
    epsilon = thresholds.epsilon(0.3)
    for number in (0, 1):
        share = (advantage[task == number] > epsilon[number]).float().mean()
        assert float(share) == pytest.approx(0.3, abs=0.01)
    assert epsilon[2] == -torch.inf


def test_a_threshold_forgets_what_is_long_gone() -> None:
    thresholds = Thresholds(1, 10)
    thresholds.observe(torch.full((25,), 9.0), torch.zeros(25, dtype=torch.int64))
    thresholds.observe(torch.ones(10), torch.zeros(10, dtype=torch.int64))
    assert float(thresholds.epsilon(0.5)) == 1.0


def recap(**settings: object) -> RECAP:
    config = RECAPConfig.model_validate({"hidden": 16, "layers": 1, "longest": 100} | settings)
    policy = FlowPolicy(
        FlowConfig(spaces=SPACES, hidden=16, layers=1, guidance=1.0), Normalization.identity(2, 1)
    )
    return RECAP(config, policy)


def test_a_humans_frame_is_positive_and_the_rest_is_parted_by_advantage() -> None:
    algorithm = recap(value_steps=0, positive=0.5)
    rows = batch(100, remaining=np.arange(1, 101), success=False, windows=(50,))
    human = SOURCES.index(Source.HUMAN)
    source = np.full(100, SOURCES.index(Source.POLICY_FAILURE))
    source[::10] = human
    labels = algorithm._labels(dataclasses.replace(rows, source=source)).numpy()
    assert set(labels[source == human]) == {1}
    assert 0.3 < (labels[source != human] > 0).mean() < 0.7


def test_each_task_has_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the easy task would be all good and the hard one all bad."""
    algorithm = recap(value_steps=0, positive=0.4)
    rows = batch(400, windows=(50,))
    advantage = torch.linspace(-1, 1, 400) + 100 * torch.from_numpy(rows.task)
    monkeypatch.setattr(algorithm, "_advantage", lambda _: advantage)
    good = algorithm._labels(rows).numpy() > 0
    for task in (0, 1):
        assert good[rows.task == task].mean() == pytest.approx(0.4, abs=0.01)


def test_an_advantage_is_what_was_walked_and_what_is_left_less_what_was_expected() -> None:
    """In units of the longest episode, 100 steps; V of a state is its first number."""
    algorithm = recap(value_steps=0)
    algorithm.v = _Told()  # type: ignore[assignment]
    rows = batch(4, remaining=[80, 80, 30, 30], success=[True, True, True, False], windows=(50,))
    observation, later = rows.observation.copy(), rows.later.copy()
    observation[:, 0], later[:, 0, 0] = -0.6, -0.25
    # The second was cut short after 20 steps, as where a person took over.
    ahead = np.array([[50], [20], [30], [30]])
    rows = dataclasses.replace(rows, observation=observation, later=later, ahead=ahead)
    expected = [-0.5 - 0.25 + 0.6, -0.2 - 0.25 + 0.6, -0.29 + 0.6, -1 + 0.6]
    assert algorithm._advantage(rows).tolist() == pytest.approx(expected, abs=1e-5)


class _Told(torch.nn.Module):
    """A law on the 201 atoms of [−1, 0], all of it at what the observation says."""

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(context), 201), -100.0)
        place = ((context[:, 0] + 1) * 200).round().long()
        return logits.scatter(1, place[:, None], 100.0)


@pytest.mark.parametrize("dropout", [0.0, 0.3, 1.0])
def test_a_label_is_left_out_as_often_as_asked_whatever_it_is(
    dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = recap(value_steps=0, dropout=dropout)
    rows, told = batch(8000, windows=(50,)), []
    labels = torch.where(torch.arange(8000) % 2 == 0, 1, -1)
    monkeypatch.setattr(algorithm, "_labels", lambda _: labels)
    plain = algorithm.imitation_loss

    def loss(*given: Any, advantage: torch.Tensor) -> torch.Tensor:
        told.append(advantage)
        return plain(*given, advantage=advantage)

    monkeypatch.setattr(algorithm, "imitation_loss", loss)
    algorithm.update(iter([rows]))
    (shown,) = told
    kept = shown != 0
    assert torch.equal(shown[kept], labels[kept])
    for label in (1, -1):
        left_out = 1 - kept[labels == label].double().mean()
        assert float(left_out) == pytest.approx(dropout, abs=0.03)


def test_before_the_value_has_learned_everything_is_good() -> None:
    rows = batch(8, success=False, windows=(50,))
    assert set(recap(value_steps=1)._labels(rows).tolist()) == {1}


def test_online_the_value_is_frozen() -> None:
    algorithm = recap(value_steps=0)
    rows = batch(8, windows=(50,))
    before = parameters_to_vector(algorithm.v.parameters())
    algorithm.online = True
    algorithm.update(iter([rows]))
    assert torch.equal(parameters_to_vector(algorithm.v.parameters()), before)
    algorithm.online = False
    algorithm.update(iter([rows]))
    assert not torch.equal(parameters_to_vector(algorithm.v.parameters()), before)
