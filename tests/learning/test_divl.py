"""DIVL's arithmetic and the sparse return, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fleet_runtime.algorithms import divl
from fleet_runtime.algorithms.critics import sparse_return
from learning.makers import batch

ATOMS = torch.linspace(-0.1, 1.1, 13)  # 0.1 apart


def test_a_value_between_two_atoms_is_split_between_them() -> None:
    mass = divl.project(torch.tensor([0.0, 0.125, 1.1]), ATOMS)
    expected = torch.zeros(3, 13)
    expected[0, 1] = 1
    expected[1, 2], expected[1, 3] = 0.75, 0.25
    expected[2, 12] = 1
    torch.testing.assert_close(mass, expected, atol=1e-5, rtol=0)


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8))
def test_the_projection_keeps_mass_one_and_the_mean_of_what_the_atoms_cover(
    values: list[float],
) -> None:
    value = torch.tensor(values)
    mass = divl.project(value, ATOMS)
    torch.testing.assert_close(mass.sum(dim=1), torch.ones(len(values)))
    torch.testing.assert_close(mass @ ATOMS, value.clamp(-0.1, 1.1), atol=1e-5, rtol=0)
    assert int((mass > 0).sum(dim=1).max()) <= 2


def test_a_vague_law_lowers_tau_and_a_sharp_one_does_not() -> None:
    uniform = torch.zeros(1, 13)
    sharp = torch.full((1, 13), -100.0)
    sharp[0, 4] = 100.0
    logits = torch.cat([uniform, sharp])
    torch.testing.assert_close(divl.entropy(logits), torch.tensor([1.0, 0.0]))
    tau = divl.adaptive_tau(logits, base=0.6, alpha=0.3, low=0.1, high=0.9)
    torch.testing.assert_close(tau, torch.tensor([0.3, 0.6]))
    limited = divl.adaptive_tau(logits, base=0.6, alpha=0.3, low=0.4, high=0.5)
    torch.testing.assert_close(limited, torch.tensor([0.4, 0.5]))


@pytest.mark.parametrize(
    ("tau", "atom"), [(0.05, 0.0), (0.25, 0.0), (0.26, 0.3), (0.75, 0.3), (0.76, 1.0), (1.0, 1.0)]
)
def test_a_quantile_is_the_first_atom_that_reaches_tau(tau: float, atom: float) -> None:
    """A quarter at 0, half at 0.3, a quarter at 1."""
    logits = torch.full((1, 13), -100.0)
    logits[0, [1, 4, 11]] = torch.tensor([0.25, 0.5, 0.25]).log()
    found = divl.quantile(logits, ATOMS, torch.tensor([tau]))
    assert float(found) == pytest.approx(atom, abs=1e-6)


def test_fitting_a_law_and_taking_its_quantile_finds_the_quantile_of_the_labels() -> None:
    """LWD's proposition 1 for p = 1, in one state with ten values."""
    labels = torch.linspace(0.05, 0.95, 10)
    logits = torch.zeros(1, 201, requires_grad=True)
    atoms = torch.linspace(-0.1, 1.1, 201)
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(300):
        optimiser.zero_grad()
        loss = divl.cross_entropy(logits.expand(10, -1), divl.project(labels, atoms)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for tau in (0.35, 0.65, 0.85):
        found = divl.quantile(logits.detach(), atoms, torch.tensor([tau]))
        assert float(found) == pytest.approx(float(torch.quantile(labels, tau)), abs=0.06)


def test_an_expectile_of_one_half_is_the_mean_and_a_high_one_nears_the_greatest() -> None:
    labels = torch.tensor([0.0, 0.0, 1.0])
    values = torch.linspace(0, 1, 1001)
    for tau, expected in ((0.5, 1 / 3), (0.9, 9 / 11)):
        loss = divl.expectile_loss(labels - values.unsqueeze(1), tau).mean(dim=1)
        assert float(values[loss.argmin()]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("what", "remaining", "success", "reward", "discount"),
    [
        ("it goes on past the window", 9, True, 0.0, 0.9**4),
        ("it ends well at the window's last step", 4, True, 0.9**3, 0.0),
        ("it ends well at once", 1, True, 1.0, 0.0),
        ("it fails inside the window", 2, False, 0.0, 0.0),
    ],
)
def test_a_window_brings_the_discounted_success_or_leaves_it_to_the_value(
    what: str, remaining: int, success: bool, reward: float, discount: float
) -> None:
    row = batch(1, remaining=remaining, success=success, windows=(4,))
    found = sparse_return(row, 0, 0.9)
    assert found.reward == pytest.approx(reward), what
    assert found.discount == pytest.approx(discount), what


def test_entropy_is_measured_in_units_of_the_uniform_law() -> None:
    two_of_four = torch.tensor([[0.0, 0.0, -100.0, -100.0]])
    assert float(divl.entropy(two_of_four)) == pytest.approx(math.log(2) / math.log(4), abs=1e-6)
    assert np.isfinite(float(divl.entropy(two_of_four)))
