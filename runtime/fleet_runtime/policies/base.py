"""What a policy is to the rest of the runtime: something that turns observations into chunks.

Axes as in `experience.types`: B rows, O observation, A action, H chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import nn

    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Float, Images
    from fleet_runtime.policies.lora import LoRA
    from fleet_runtime.policies.normalization import Normalization


class Acting(Protocol):
    """The part of a policy that runs it."""

    @property
    def spaces(self) -> Spaces:
        """What it takes and gives."""
        ...

    @property
    def execute(self) -> int:
        """How many actions of a chunk a robot executes before it asks again."""
        ...

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


@runtime_checkable
class Policy(Acting, Protocol):
    """A frozen function from observation and task to an action chunk, with its own description."""

    architecture: str
    spaces: Spaces
    horizon: int  # H: actions in a chunk
    execute: int

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


@runtime_checkable
class Trainable(Policy, Protocol):
    """A policy that imitation can train: what `fleetloop.policies` registers.

    Its class is told `spec.policy.parameters`; what it holds frozen by itself stays frozen.
    """

    parameters: ClassVar[type[BaseModel]]  # of spec.policy.parameters, every field described

    @property
    def net(self) -> nn.Module:
        """Everything that can learn. Its state names tensors as `tensors` does, adapters apart."""
        ...

    @property
    def heads(self) -> tuple[str, ...]:
        """Modules of `net` that learn where `trainable` is `heads`."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        ...

    @classmethod
    def create(
        cls,
        spaces: Spaces,
        config: Mapping[str, object],
        *,
        normalization: Normalization | None = None,
        instructions: Sequence[str] = (),
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """A policy before any training; an unknown parameter is refused (ValueError).

        `instructions` say in words what each of `spaces.tasks` asks for.
        """
        ...

    def loss(
        self,
        observation: torch.Tensor,
        task: torch.Tensor,
        action: torch.Tensor,
        valid: torch.Tensor,
        generator: torch.Generator | None = None,
        *,
        images: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Imitation loss per row (B,) with gradient, over valid actions alone.

        Observation (B, O), task ids (B,), action (B, H, A) in their own units, valid (B, H),
        images as in `act`.
        """
        ...

    def copy(self) -> Self:
        """A policy of its own with the same weights."""
        ...

    def to_train(self, device: str, lora: LoRA | None) -> Self:
        """A copy to train there, with fresh adapters or none; those it had are merged."""
        ...

    def calibrate(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Take other normalisation statistics; ValueError for what does not fit."""
        ...
