"""What a policy is to the rest of the runtime: something that turns observations into chunks.

Axes as in `experience.types`: B rows, O observation, A action, H chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Float


class Spaces(BaseModel):
    """The interface of one embodiment: what goes in, what comes out, for which tasks.

    A policy's task id is the position of the task's name in `tasks`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tasks: Annotated[tuple[str, ...], Field(min_length=1, max_length=4096)]
    observation_size: Annotated[int, Field(ge=1, le=1_000_000)]
    action_low: Annotated[tuple[float, ...], Field(min_length=1, max_length=10_000)]
    action_high: tuple[float, ...]

    @property
    def action_size(self) -> int:
        """A."""
        return len(self.action_low)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(self.action_high) != len(self.action_low):
            raise ValueError("action_low and action_high differ in length")
        if any(low >= high for low, high in zip(self.action_low, self.action_high, strict=True)):
            raise ValueError("action_low must lie below action_high")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("a task is named twice")
        return self

    def task_id(self, task: str) -> int:
        """The id of a task's name; raises ValueError for one the policy was not made for."""
        return self.tasks.index(task)


@runtime_checkable
class Policy(Protocol):
    """A frozen function from observation and task to an action chunk, with its own description."""

    architecture: str
    spaces: Spaces
    horizon: int  # H: actions in a chunk
    execute: int  # how many of them a robot executes before it asks again

    def act(self, observation: Float, task: NDArray[np.integer]) -> Float:
        """(B, O) and task ids (B,) → chunks (B, H, A) within the action bounds."""
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
