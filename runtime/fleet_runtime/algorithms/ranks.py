"""Several processes that train one policy, as an algorithm sees them; here: one process, alone.

Each rank draws rows of its own and computes gradients from them; every optimiser steps on their
mean, so weights that start equal stay equal. The averaging is a call before the step, not a wrapper
around each network (torch's DDP): algorithms have several optimisers, take gradients that are not
for the weights, and name their tensors in checkpoints; one call serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray


class Order(NamedTuple):
    """What all ranks do next, as the first of them decides."""

    updates: int = 0
    """To be made before the next order; 0 while there is nothing to do."""
    online: bool = False
    """The fleet's experience flows."""
    through: int = 0
    """The journal position up to which all have indexed by then."""
    stop: bool = False
    """The end: no order comes after this one."""


class Ranks:
    """One learner's processes. This one has no companions, and nothing to say to any."""

    number = 0
    count = 1
    stride = 1
    """Most updates of one order."""

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Each tensor becomes its mean over all ranks, in place."""

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows (B, …) of every rank, in their order: (ranks · B, …)."""
        return rows

    def mean(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means over the ranks that have a number; NaN where none has."""
        return table

    def agree(self, order: Order) -> tuple[Order, bool]:
        """The first rank's order, and whether any rank was asked to leave."""
        return order, False


ALONE = Ranks()
