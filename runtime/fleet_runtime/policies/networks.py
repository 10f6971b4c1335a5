"""The networks policies are made of."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """A perceptron: sizes are input, hidden layers, output; SiLU between, the output linear."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class VelocityNet(nn.Module):
    """v(x, w | observation, task): the velocity of a flow over flattened action chunks.

    The task enters as a one-hot vector, the flow's time w ∈ [0, 1] as itself and a few
    harmonics, so that a small network can tell early from late.
    """

    FREQUENCIES = 4

    def __init__(
        self, *, chunk: int, observation: int, tasks: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        self.tasks = tasks
        inputs = chunk + 1 + 2 * self.FREQUENCIES + observation + tasks
        self.body = mlp([inputs, *[hidden] * layers, chunk])
        self.frequencies: torch.Tensor
        harmonics = torch.pi * 2.0 ** torch.arange(self.FREQUENCIES)
        self.register_buffer("frequencies", harmonics, persistent=False)

    def forward(self, x: torch.Tensor, w: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """X (B, H·A), w (B, 1), context (B, O + M) → velocity (B, H·A)."""
        angles = w * self.frequencies
        out: torch.Tensor = self.body(
            torch.cat([x, w, torch.sin(angles), torch.cos(angles), context], dim=1)
        )
        return out

    def context(self, observation: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Normalised observation (B, O) and task ids (B,) → (B, O + M)."""
        one_hot = nn.functional.one_hot(task, self.tasks).to(observation.dtype)
        return torch.cat([observation, one_hot], dim=1)
