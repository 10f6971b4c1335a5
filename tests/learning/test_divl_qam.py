"""DIVL+QAM's stages: what moves in which."""

from __future__ import annotations

import itertools

import torch
from torch.nn.utils import parameters_to_vector

from fleet_runtime.algorithms import qam
from fleet_runtime.algorithms.divl_qam import DIVLQAM, DIVLQAMConfig
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


def test_without_behaviour_cloning_the_reference_is_the_policy_it_begins_with() -> None:
    algorithm = divl_qam()
    first = weights(algorithm, "trained")["trained"]
    for _ in range(2):
        algorithm.update(iter([ROWS]))
    assert torch.equal(weights(algorithm, "reference")["reference"], first)
    assert not torch.equal(weights(algorithm, "trained")["trained"], first)


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
