"""Networks that judge, and the sparse return they learn from. They never leave the learner.

A context (B, C) is what `FlowLearner.seen` makes of an observation and its task; a chunk is flat
and normalised, (B, H·A).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fleet_runtime.experience.batch import Batch


class Critic(nn.Module):
    """A perceptron with layer norms, which keep values from running away off the data."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * layers]
        body: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            body += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU()]
        self.body = nn.Sequential(*body, nn.Linear(sizes[-1], outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, inputs) → (B, outputs)."""
        out: torch.Tensor = self.body(inputs)
        return out


class TwinQ(nn.Module):
    """Two scalar heads Q(context, chunk), apart down to their inputs."""

    def __init__(self, context: int, chunk: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            Critic(context + chunk, 1, hidden=hidden, layers=layers) for _ in range(2)
        )

    def forward(self, context: torch.Tensor, chunk: torch.Tensor) -> torch.Tensor:
        """(B, C), (B, H·A) → (2, B)."""
        inputs = torch.cat([context, chunk], dim=1)
        return torch.stack([head(inputs)[:, 0] for head in self.heads])

    def least(self, context: torch.Tensor, chunk: torch.Tensor) -> torch.Tensor:
        """The lower of the two heads (B,)."""
        return self.forward(context, chunk).amin(dim=0)


class Return(NamedTuple):
    """What a window brought, and how much of the value at its end still counts."""

    reward: NDArray[np.float32]  # (B,) discounted to the window's start
    discount: NDArray[np.float32]  # (B,) γ^steps, 0 where the episode ended inside the window


def sparse_return(batch: Batch, window: int, gamma: float) -> Return:
    """LWD's reward (arXiv 2605.00416): 1 at the last step of a success, 0 elsewhere.

    `window` is a column of the batch's windows. γ is per control step. An episode that ends inside
    the window, however it ends, leaves nothing to bootstrap from: a timeout is a failure here.
    """
    ahead = batch.ahead[:, window]
    ended = batch.remaining <= ahead
    power = np.float64(gamma)
    reward = np.where(ended & batch.success, power ** (batch.remaining - 1), 0.0)
    discount = np.where(ended, 0.0, power**ahead)
    return Return(reward.astype(np.float32), discount.astype(np.float32))
