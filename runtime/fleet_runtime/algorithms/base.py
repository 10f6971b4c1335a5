"""What the learner asks of an algorithm. The loop knows no names; SOP's G (arXiv 2601.03044)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from fleet_runtime.experience.batch import Batch, SampleSpec, Side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from fleet_runtime.algorithms.ranks import Ranks
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.policies.normalization import Normalization


class Update(NamedTuple):
    """What one update reports."""

    metrics: dict[str, float]  # named numbers for people; never logged by the algorithm itself
    losses: NDArray[np.float64]  # mean policy loss (tasks, sides); NaN where no row was drawn


@runtime_checkable
class Algorithm(Protocol):
    """A way to improve one shared policy from batches of experience."""

    parameters: ClassVar[type[BaseModel]]  # its config, every field described
    sample_spec: SampleSpec
    updates: int  # made so far, over all runs
    online: bool  # the fleet's experience flows; false in the offline stage. Set by the loop.

    @classmethod
    def create(
        cls,
        spaces: Spaces,
        config: Mapping[str, object],
        *,
        normalization: Normalization | None = None,
        initial: Policy | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """A learner at its start; an unknown parameter is refused (pydantic's ValidationError).

        With `initial` it starts from that policy, statistics included; else from random weights
        with `normalization` (identity where none is given, which `load` then replaces).
        """
        ...

    def tune(self, *, bfloat16: bool, compiled: bool) -> None:
        """Have its networks compute in bfloat16, or compiled; call it once, before `update`."""
        ...

    def join(self, ranks: Ranks, seed: int | None = None) -> None:
        """Work as one of several ranks from now on: gradients are averaged over them.

        `seed` gives this rank noise of its own; without it the noise goes on.
        """
        ...

    def update(self, batches: Iterator[Batch]) -> Update:
        """One step of the optimiser, drawing as many batches as the algorithm needs."""
        ...

    def policy(self) -> Policy:
        """The policy to publish now: a copy, which later updates leave alone."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Everything `load` needs, as named tensors on the CPU (safetensors can hold it)."""
        ...

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on exactly where `state` was taken; ValueError when it does not fit."""
        ...


def losses_by_pool(loss: NDArray[np.floating], batch: Batch, tasks: int) -> NDArray[np.float64]:
    """Per-row losses (B,) → means (tasks, sides), NaN where a pool has no row."""
    pool = batch.task * len(Side) + batch.side
    size = tasks * len(Side)
    count = np.bincount(pool, minlength=size)
    total = np.bincount(pool, weights=loss, minlength=size)
    means: NDArray[np.float64] = np.full(size, np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means.reshape(tasks, len(Side))
