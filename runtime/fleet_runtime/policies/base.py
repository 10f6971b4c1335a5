"""What a policy is to the rest of the runtime: something that turns observations into chunks.

Axes as in `experience.types`: B rows, O observation, A action, H chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Float, Images


@runtime_checkable
class Policy(Protocol):
    """A frozen function from observation and task to an action chunk, with its own description."""

    architecture: str
    spaces: Spaces
    horizon: int  # H: actions in a chunk
    execute: int  # how many of them a robot executes before it asks again

    def act(
        self, observation: Float, task: NDArray[np.integer], images: Images | None = None
    ) -> Float:
        """(B, O) and task ids (B,) → chunks (B, H, A) within the action bounds.

        `images` holds a (B, Y, X, 3) for each camera of `spaces.images`; None where there is none.
        """
        ...

    def seed(self, seed: int) -> None:
        """Restart the policy's own randomness."""
        ...

    def config(self) -> dict[str, object]:
        """What JSON can hold of it: enough to build it anew around its tensors."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its weights by name, on the CPU."""
        ...

    def statistics(self) -> dict[str, torch.Tensor]:
        """Its normalisation statistics by name, on the CPU."""
        ...

    @classmethod
    def build(
        cls,
        config: Mapping[str, object],
        tensors: Mapping[str, torch.Tensor],
        statistics: Mapping[str, torch.Tensor],
    ) -> Self:
        """The policy from its three parts; raises ValueError for parts that do not fit."""
        ...
