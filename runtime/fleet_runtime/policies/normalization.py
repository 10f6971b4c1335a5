"""Statistics that put observations and actions on one scale.

They are measured once, on the demonstrations of the supervised stage, and then stay frozen: a
robot and a learner that normalise differently disagree silently.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet_runtime.experience.types import Episode

OBSERVATION_FLOOR = 1e-2
"""Least deviation of an observation (its own unit). A number that never moved in the
demonstrations would otherwise turn sensor noise into huge inputs."""
ACTION_FLOOR = 5e-2
"""Least deviation of an action (its own unit)."""
CLIP = 5.0
"""Normalised observations are cut to ± this many deviations."""

NAMES = ("observation_mean", "observation_std", "action_mean", "action_std")


@dataclasses.dataclass(frozen=True, eq=False)
class Normalization:
    """Means and deviations: observation (O,), action (A,), float32."""

    observation_mean: torch.Tensor
    observation_std: torch.Tensor
    action_mean: torch.Tensor
    action_std: torch.Tensor

    @classmethod
    def measure(cls, episodes: Iterable[Episode]) -> Self:
        """Statistics of these episodes, each task counting alike however long its episodes are."""
        by_task: dict[str, list[Episode]] = {}
        for episode in episodes:
            by_task.setdefault(episode.task, []).append(episode)
        if not by_task:
            raise ValueError("no episodes to measure")

        def moments(name: str, floor: float) -> tuple[torch.Tensor, torch.Tensor]:
            groups = [
                np.concatenate([getattr(e, name).astype(np.float64) for e in group])
                for group in by_task.values()
            ]
            mean = np.mean([g.mean(axis=0) for g in groups], axis=0)
            square = np.mean([((g - mean) ** 2).mean(axis=0) for g in groups], axis=0)
            std = np.maximum(np.sqrt(square), floor)
            return torch.from_numpy(mean).float(), torch.from_numpy(std).float()

        return cls(*moments("observation", OBSERVATION_FLOOR), *moments("action", ACTION_FLOOR))

    @classmethod
    def identity(cls, observation_size: int, action_size: int) -> Self:
        """Statistics that change nothing (apart from the clip)."""
        zeros, ones = torch.zeros, torch.ones
        return cls(
            zeros(observation_size), ones(observation_size), zeros(action_size), ones(action_size)
        )

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], observation_size: int, action_size: int
    ) -> Self:
        """Statistics by name; ValueError unless names, shapes and values are sound."""
        if set(tensors) != set(NAMES):
            raise ValueError(f"normalisation holds {sorted(tensors)}, wanted {sorted(NAMES)}")
        for name, tensor in tensors.items():
            size = observation_size if name.startswith("observation") else action_size
            if tuple(tensor.shape) != (size,) or tensor.dtype != torch.float32:
                message = (
                    f"{name} is {tensor.dtype} {tuple(tensor.shape)}, wanted float32 ({size},)"
                )
                raise ValueError(message)
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name} holds a number that is not finite")
            if name.endswith("std") and not bool((tensor > 0).all()):
                raise ValueError(f"{name} holds a deviation that is not positive")
        return cls(**{name: tensors[name].clone() for name in NAMES})

    def tensors(self) -> dict[str, torch.Tensor]:
        """The statistics by name, on the CPU."""
        return {name: getattr(self, name).cpu() for name in NAMES}

    def to(self, device: torch.device | str) -> Self:
        """The same statistics on another device."""
        return type(self)(*(getattr(self, name).to(device) for name in NAMES))

    def observation(self, value: torch.Tensor) -> torch.Tensor:
        """(…, O) in its own units → clipped deviations."""
        return ((value - self.observation_mean) / self.observation_std).clamp(-CLIP, CLIP)

    def action(self, value: torch.Tensor) -> torch.Tensor:
        """(…, A) in its own units → deviations."""
        return (value - self.action_mean) / self.action_std

    def action_back(self, value: torch.Tensor) -> torch.Tensor:
        """(…, A) deviations → its own units."""
        return value * self.action_std + self.action_mean
