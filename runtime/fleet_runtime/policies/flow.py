"""A flow-matching policy over action chunks, the action expert of SOP's pi0.5 in small.

A chunk x¹ and noise x⁰ ~ N(0, I) are joined by the line x^w = (1 − w) x⁰ + w x¹; the network learns
its velocity x¹ − x⁰ (Lipman et al., arXiv 2210.02747, the optimal-transport path), and acting
integrates it from noise with Euler steps. SOP (arXiv 2601.03044) and LWD (2605.00416) train this
kind of policy; sizes here are ours.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleet_runtime.experience.spaces import Spaces  # noqa: TC001 (pydantic reads it)
from fleet_runtime.policies.networks import VelocityNet
from fleet_runtime.policies.normalization import Normalization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Float


class FlowPolicy:
    """Chunks by integrating a learned velocity field. Shapes as in `policies.base.Policy`."""

    architecture = "flow"

    def __init__(
        self, config: FlowConfig, normalization: Normalization, device: str = "cpu"
    ) -> None:
        self.settings = config
        self.spaces = config.spaces
        self.horizon = config.horizon
        self.execute = config.execute
        self.device = torch.device(device)
        self.normalization = normalization.to(self.device)
        self.net = VelocityNet(
            chunk=config.horizon * config.spaces.action_size,
            observation=config.spaces.observation_size,
            tasks=len(config.spaces.tasks),
            hidden=config.hidden,
            layers=config.layers,
        ).to(self.device)
        self._low = torch.tensor(config.spaces.action_low, device=self.device)
        self._high = torch.tensor(config.spaces.action_high, device=self.device)
        self._noise = torch.Generator(self.device)
        self._noise.manual_seed(0)

    @torch.no_grad()
    def act(self, observation: Float, task: NDArray[np.integer]) -> Float:
        """(B, O) and task ids (B,) → chunks (B, H, A), clipped to the action bounds."""
        seen = torch.from_numpy(np.ascontiguousarray(observation, np.float32)).to(self.device)
        ids = torch.from_numpy(np.asarray(task, np.int64)).to(self.device)
        context = self.net.context(self.normalization.observation(seen), ids)
        shape = (len(seen), self.horizon * self.spaces.action_size)
        x = torch.randn(shape, generator=self._noise, device=self.device)
        x *= self.settings.noise
        step = 1.0 / self.settings.euler_steps
        for i in range(self.settings.euler_steps):
            w = torch.full((len(x), 1), i * step, device=self.device)
            x = x + step * self.net(x, w, context)
        chunk = x.view(len(x), self.horizon, self.spaces.action_size)
        action = self.normalization.action_back(chunk).clamp(self._low, self._high)
        out: Float = action.cpu().numpy()
        return out

    def loss(
        self,
        observation: torch.Tensor,
        task: torch.Tensor,
        action: torch.Tensor,
        valid: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Flow-matching loss per row (B,): mean over valid actions of |v − (x¹ − x⁰)|² / A.

        Observation (B, O), task ids (B,), action (B, H, A) in their own units, valid (B, H).
        """
        rows = len(observation)
        x1 = self.normalization.action(action).reshape(rows, -1)
        x0 = torch.randn(x1.shape, generator=generator, device=self.device)
        w = torch.rand((rows, 1), generator=generator, device=self.device)
        context = self.net.context(self.normalization.observation(observation), task)
        target = x1 - x0
        error = self.net(x0 + w * target, w, context) - target
        per_action = error.square().view(rows, self.horizon, -1).mean(dim=2)
        weight = valid.to(per_action.dtype)
        loss: torch.Tensor = (per_action * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return loss

    def seed(self, seed: int) -> None:
        """Restart the noise that chunks are integrated from."""
        self._noise.manual_seed(seed)

    def copy(self) -> Self:
        """A policy of its own with the same weights, for acting while this one trains on."""
        twin = type(self)(self.settings, self.normalization, str(self.device))
        twin.net.load_state_dict(copy.deepcopy(self.net.state_dict()))
        return twin

    def config(self) -> dict[str, object]:
        """The settings as JSON."""
        return {"architecture": self.architecture, **self.settings.model_dump(mode="json")}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights by name, on the CPU."""
        return {k: v.detach().cpu().contiguous() for k, v in self.net.state_dict().items()}

    def statistics(self) -> dict[str, torch.Tensor]:
        """Normalisation statistics by name, on the CPU."""
        return self.normalization.tensors()

    @classmethod
    def build(
        cls,
        config: Mapping[str, object],
        tensors: Mapping[str, torch.Tensor],
        statistics: Mapping[str, torch.Tensor],
    ) -> Self:
        """The policy from its parts; ValueError names the part that does not fit."""
        settings = FlowConfig.model_validate(
            {k: v for k, v in config.items() if k != "architecture"}
        )
        spaces = settings.spaces
        normalization = Normalization.from_tensors(
            statistics, spaces.observation_size, spaces.action_size
        )
        policy = cls(settings, normalization)
        wanted = policy.net.state_dict()
        if set(tensors) != set(wanted):
            raise ValueError(f"weights hold {sorted(tensors)}, wanted {sorted(wanted)}")
        for name, tensor in tensors.items():
            there = wanted[name]
            if tensor.shape != there.shape or tensor.dtype != there.dtype:
                got = f"{tensor.dtype} {tuple(tensor.shape)}"
                message = f"{name} is {got}, wanted {there.dtype} {tuple(there.shape)}"
                raise ValueError(message)
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name} holds a number that is not finite")
        policy.net.load_state_dict(dict(tensors))
        return policy


class FlowConfig(BaseModel):
    """Settings of a flow policy; limits keep a hostile bundle from allocating without end."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    spaces: Spaces
    """The embodiment's interface and its tasks."""
    horizon: Annotated[int, Field(ge=1, le=256)] = 8
    """H: actions in a chunk, in control steps."""
    execute: Annotated[int, Field(ge=1, le=256)] = 4
    """Actions executed before the next chunk is asked for; at most `horizon`."""
    hidden: Annotated[int, Field(ge=1, le=4096)] = 256
    """Width of each hidden layer."""
    layers: Annotated[int, Field(ge=1, le=16)] = 3
    """Hidden layers."""
    euler_steps: Annotated[int, Field(ge=1, le=100)] = 10
    """Integration steps when acting (QAM's study: 10 suffice, 1 and 3 collapse)."""
    noise: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Scale of the initial noise when acting: 1 samples the learned law, 0 its central path."""

    @model_validator(mode="after")
    def _executes_what_it_has(self) -> Self:
        if self.execute > self.horizon:
            raise ValueError(f"execute {self.execute} exceeds the horizon {self.horizon}")
        return self
