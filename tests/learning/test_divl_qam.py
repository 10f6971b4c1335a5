"""DIVL+QAM's stages: what moves in which."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from fleet_runtime.algorithms import divl, qam
from fleet_runtime.algorithms.divl_qam import DIVLQAM, DIVLQAMConfig
from fleet_runtime.experience.batch import SOURCES, SampleSpec, Side, Source
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from learning.makers import SPACES, batch

ROWS = batch(8, windows=(8, 16))


def divl_qam(**settings: object) -> DIVLQAM:
    size = {"hidden": 16, "layers": 1, "bc_steps": 0}
    config = DIVLQAMConfig.model_validate(size | settings)
    flow = FlowConfig(spaces=SPACES, hidden=16, layers=1)
    return DIVLQAM(config, FlowPolicy(flow, Normalization.identity(2, 1)))


def weights(algorithm: DIVLQAM, *names: str) -> dict[str, torch.Tensor]:
    return {
        name: parameters_to_vector(algorithm.modules[name].parameters()).detach() for name in names
    }


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, then in before.items() if not torch.equal(then, after[name])}


def test_while_the_critics_warm_up_the_policy_stands_still() -> None:
    algorithm = divl_qam(critic_steps=2)
    parts = "trained", "average", "reference", "v", "q", "target_q"
    seen = [weights(algorithm, *parts)]
    for _ in range(3):
        algorithm.update(iter([ROWS]))
        seen.append(weights(algorithm, *parts))
    critics = {"v", "q", "target_q"}
    steps = [moved(before, after) for before, after in itertools.pairwise(seen)]
    assert steps == [critics, critics, critics | {"trained", "average"}]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("source", Source)
def test_the_first_stage_imitates_the_successes_of_the_offline_side_alone(
    source: Source, side: Side
) -> None:
    algorithm = divl_qam(bc_steps=2)
    told = np.full(8, SOURCES.index(source))
    rows = dataclasses.replace(ROWS, source=told, side=np.full(8, side.value))
    before = weights(algorithm, "trained", "v", "q")
    algorithm.update(iter([rows]))
    shown = side is Side.OFFLINE and source in {Source.HUMAN, Source.POLICY_ALONE_SUCCESS}
    assert moved(before, weights(algorithm, *before)) == ({"trained"} if shown else set())


def test_without_behaviour_cloning_the_reference_is_the_policy_it_begins_with() -> None:
    algorithm = divl_qam()
    first = weights(algorithm, "trained")["trained"]
    for _ in range(2):
        algorithm.update(iter([ROWS]))
    assert torch.equal(weights(algorithm, "reference")["reference"], first)
    assert not torch.equal(weights(algorithm, "trained")["trained"], first)


def test_windows_are_a_chunk_and_n_of_them_whoever_acted() -> None:
    found = divl_qam(n_step=3).sample_spec
    everything = frozenset(Source)
    assert found == SampleSpec(
        8, 256, everything, everything, windows=(8, 24), through_takeovers=True
    )


@pytest.mark.parametrize(
    ("online", "window", "steps", "base"), [(False, 1, 16, 0.6), (True, 0, 8, 0.9)]
)
@pytest.mark.parametrize("value", ["divl", "expectile"])
def test_the_critics_learn_from_what_the_paper_says(
    value: str, online: bool, window: int, steps: int, base: float
) -> None:
    """V from the lower target head; y by the new V, its τ from the state at the window's end."""
    algorithm = divl_qam(value=value, critic_steps=1, critic_learning_rate=0.3, tau_low=0.05)
    algorithm.online = online
    with torch.no_grad():  # laws that are sharp here and vague there, heads that disagree
        algorithm.v.body[-1].weight.mul_(40)  # type: ignore[operator]
        for head in algorithm.target_q.heads:
            head.body[-1].weight.mul_(3)  # type: ignore[index, union-attr]
    left_then = np.concatenate([np.full(64, 20), np.arange(64) % 16 + 1])  # half go on
    rows = batch(128, remaining=left_then, success=np.arange(128) % 3 > 0, windows=(8, 16))
    old_v, old_q, old_target = map(copy.deepcopy, (algorithm.v, algorithm.q, algorithm.target_q))
    found = algorithm.update(iter([rows])).metrics

    context, later = algorithm.context(rows), algorithm.later(rows, window)
    chunk = torch.from_numpy(rows.action).flatten(1)
    label = torch.minimum(*old_target(context, chunk)).detach()
    lost = old_v(context).detach()
    if value == "divl":
        wanted = divl.cross_entropy(lost, divl.project(label, algorithm.atoms))
    else:
        wanted = divl.expectile_loss(label - lost[:, 0], base)
    assert found["v_loss"] == pytest.approx(float(wanted.mean()), rel=1e-4)

    def q_loss(v: torch.nn.Module) -> tuple[float, float]:
        out = v(later).detach()
        tau, worth = torch.full((128,), base), out[:, 0]
        if value == "divl":
            p = torch.softmax(out, dim=1)
            vague = -(p * p.clamp(min=1e-38).log()).sum(dim=1) / np.log(201)
            tau = (base - 0.3 * vague).clamp(0.05, 0.9)
            worth = algorithm.atoms[(p.cumsum(dim=1) < tau[:, None]).sum(dim=1).clamp(max=200)]
        left = torch.from_numpy(rows.remaining)
        ended = left <= steps
        won = torch.from_numpy(rows.success) & ended
        y = torch.where(won, 0.99 ** (left - 1), 0) + torch.where(ended, 0, 0.99**steps) * worth
        return float((old_q(context, chunk) - y).square().mean().detach()), float(tau.mean())

    new, old = q_loss(algorithm.v), q_loss(old_v)
    assert (found["q_loss"], found["tau"]) == pytest.approx(new, rel=1e-3)
    assert old != pytest.approx(new, rel=1e-2)  # else the order would not show

    before, now, moved_to = (
        parameters_to_vector(net.parameters())
        for net in (old_target, algorithm.q, algorithm.target_q)
    )
    torch.testing.assert_close(moved_to, 0.995 * before + 0.005 * now)


def test_the_adjoint_ends_in_less_of_the_lower_target_q_by_lambda() -> None:
    algorithm = divl_qam(temperature=0.05)
    algorithm.target_q = copy.deepcopy(algorithm.q).double()
    with torch.no_grad():  # another one than Q itself
        for number, weight in enumerate(algorithm.target_q.parameters()):
            generator = torch.Generator().manual_seed(number)
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    context = algorithm.context(ROWS).double()
    generator = torch.Generator().manual_seed(1)
    chunk = 0.5 * torch.randn((8, 8), generator=generator).double().clamp(-1.9, 1.9)
    chunk[:, 0] = 1.5  # no robot can do that: Q sees the bound, and does not change with it
    slope = algorithm._slope(context, chunk)
    assert slope[:, 0].tolist() == [0.0] * 8

    def lower(at: torch.Tensor) -> torch.Tensor:
        q: torch.Tensor = algorithm.target_q(context, at.clamp(-1, 1))
        return torch.minimum(q[0], q[1]).detach()

    for place in range(1, 8):
        step = torch.zeros(8).double()
        step[place] = 1e-5
        rise = (lower(chunk + step) - lower(chunk - step)) / 2e-5
        torch.testing.assert_close(slope[:, place], -rise / 0.05, rtol=1e-4, atol=1e-6)


def test_each_row_is_matched_in_its_own_context() -> None:
    """The loss asks for all steps at once; a row alone must find what it finds among others."""
    algorithm, steps = divl_qam(), 4
    contexts = algorithm.context(ROWS)
    generator = torch.Generator().manual_seed(0)
    path = torch.randn((steps + 1, 8, 8), generator=generator)
    adjoint = torch.randn((steps, 8, 8), generator=generator)

    def found(rows: slice) -> torch.Tensor:
        flow = algorithm._flow(_Leaning(), contexts[rows])
        return qam.loss(flow, lambda x, _: x, path[:, rows], adjoint[:, rows])

    together = found(slice(0, 8))
    alone = torch.cat([found(slice(row, row + 1)) for row in range(8)])
    torch.testing.assert_close(together, alone)


class _Leaning(torch.nn.Module):
    """A flow whose velocity follows from its context and time."""

    def forward(self, x: torch.Tensor, w: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return x * w + context[:, :1]
