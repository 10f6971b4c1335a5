"""Adjoint matching where the answer is known: a Gaussian reference and a linear Q."""

from __future__ import annotations

import pytest
import torch

from fleet_runtime.algorithms import qam


def gaussian(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The flow whose law is N(0, 1) at both ends: E[x¹ − x⁰ | x^w]."""
    return x * (2 * w - 1) / ((1 - w) ** 2 + w**2)


class Shifted(torch.nn.Module):
    """The reference plus a free velocity at each of T steps: all that a linear Q asks for."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.velocity = torch.nn.Parameter(torch.zeros(steps))

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        step = (w * self.steps).round().long().clamp(max=self.steps - 1)
        return gaussian(x, w) + self.velocity[step]


def learned_shift(steps: int, gain: float, rows: int = 256) -> float:
    """Mean of the chunks that the trained flow's ODE ends in, where exp(gain · a) tilts N(0, 1)."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    flow = Shifted(steps)
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.1)
    for _ in range(120):
        path = qam.paths(flow, gaussian, torch.randn(rows, 1), steps, generator)
        adjoint = qam.lean_adjoint(gaussian, path, torch.full((rows, 1), -gain))
        optimiser.zero_grad()
        qam.loss(flow, gaussian, path, adjoint).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    x = torch.zeros(1, 1)  # the flow is linear: the mean goes where zero goes
    with torch.no_grad():
        for i in range(steps):
            x = x + flow(x, torch.full((1, 1), i / steps)) / steps
    return float(x)


@pytest.mark.parametrize(("steps", "reached"), [(10, 0.88), (20, 0.92)])
def test_a_linear_q_shifts_the_gaussian_by_its_slope_over_lambda(
    steps: int, reached: float
) -> None:
    assert learned_shift(steps, gain=1.0) == pytest.approx(reached, abs=0.02)
    assert learned_shift(steps, gain=-0.5) == pytest.approx(-0.5 * reached, abs=0.02)


def test_the_printed_schedule_would_reach_a_fifth_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qam, "sigma", lambda w, h: (2 * (1 - w) * w + 1e-6) ** 0.5)
    assert learned_shift(10, gain=1.0) < 0.25


def test_a_flat_q_leaves_the_reference_alone() -> None:
    assert learned_shift(10, gain=0.0) == pytest.approx(0.0, abs=1e-6)


def test_the_adjoint_is_the_gradient_of_the_end_along_the_noiseless_reference() -> None:
    """For a drift linear in x, the lean adjoint is the product of its step matrices."""
    path = torch.randn(5, 3, 1)
    adjoint = qam.lean_adjoint(gaussian, path, torch.ones(3, 1))
    slope, found = 1.0, []
    for i in reversed(range(4)):
        w = (i + 1) / 4
        slope += slope / 4 * (2 * (2 * w - 1) / ((1 - w) ** 2 + w**2) - 1 / w)
        found.append(slope)
    assert adjoint[:, 0, 0].tolist() == pytest.approx(found[::-1], rel=1e-5)


@pytest.mark.parametrize(("steps", "variance"), [(10, 1.226), (50, 1.059)])
def test_paths_of_the_reference_end_in_its_law_and_forget_where_they_began(
    steps: int, variance: float
) -> None:
    """The SDE is memoryless. Its end has the variance that the steps' recursion leads to, near 1:
    a² ← a² (1 + h (2k − 1/(w + h)))² + h σ², k the reference's slope at w."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((20_000, 1), generator=generator)
    path = qam.paths(gaussian, gaussian, noise, steps, generator)
    assert float(path[-1].var()) == pytest.approx(variance, abs=0.05)
    together = torch.corrcoef(torch.cat([path[0], path[-1]], dim=1).T)
    assert float(together[0, 1]) == pytest.approx(0.0, abs=0.03)


def test_the_last_step_is_the_references_own_without_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    path = qam.paths(Shifted(5), lambda x, w: 3 * x + w, torch.randn(8, 1), 5, generator)
    torch.testing.assert_close(path[-1], path[-2] + (3 * path[-2] + 0.8) / 5)


def test_no_gradient_reaches_the_reference_or_the_sampling() -> None:
    reference, flow = Shifted(4), Shifted(4)
    generator = torch.Generator().manual_seed(0)
    path = qam.paths(flow, reference, torch.randn(8, 1), 4, generator)
    adjoint = qam.lean_adjoint(reference, path, torch.ones(8, 1))
    qam.loss(flow, reference, path, adjoint).sum().backward()  # type: ignore[no-untyped-call]
    assert not path.requires_grad
    assert not adjoint.requires_grad
    assert reference.velocity.grad is None
    assert flow.velocity.grad is not None
