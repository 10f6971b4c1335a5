"""The networks policies are made of."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleet_runtime.policies.vision import Eyes


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """A perceptron: sizes are input, hidden layers, output; SiLU between, the output linear."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def finite(tensor: torch.Tensor) -> bool:
    """Whether every number is; several times sooner than asking of each."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())  # a NaN is both


class Unfilled(TorchFunctionMode):
    """Within it, in this thread, new layers draw no random weights: `fill` follows."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Do what torch was asked, unless it is to draw."""
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


_DRAWS = frozenset({nn.init.kaiming_uniform_, nn.init.uniform_})


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load weights by name; ValueError, before anything is loaded, says what does not fit.

    Weights that came as bfloat16 fit where float32 is wanted: they widen exactly.
    """
    wanted = module.state_dict()
    if set(tensors) != set(wanted):
        raise ValueError(f"weights hold {sorted(tensors)}, wanted {sorted(wanted)}")
    for name, tensor in tensors.items():
        there = wanted[name]
        widens = (tensor.dtype, there.dtype) == (torch.bfloat16, torch.float32)
        if tensor.shape != there.shape or not (widens or tensor.dtype == there.dtype):
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} is {got}, wanted {there.dtype} {tuple(there.shape)}")
        if not finite(tensor):
            raise ValueError(f"{name} holds a number that is not finite")
    module.load_state_dict(dict(tensors))


class VelocityNet(nn.Module):
    """v(x, w | observation, task, advantage): the velocity of a flow over flattened action chunks.

    The task enters as a one-hot vector, the flow's time w ∈ [0, 1] as itself and a few
    harmonics, so that a small network can tell early from late. With `conditioned`, two more
    inputs say whether the action is to be better or worse than usual; both zero say nothing.
    With `eyes`, an observation is what the robot feels and what they make of its frames.
    """

    FREQUENCIES = 4

    def __init__(
        self,
        *,
        chunk: int,
        observation: int,
        tasks: int,
        hidden: int,
        layers: int,
        conditioned: bool = False,
        eyes: Eyes | None = None,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.conditions = 2 if conditioned else 0
        seen = observation + (eyes.size if eyes else 0)
        inputs = chunk + 1 + 2 * self.FREQUENCIES + seen + tasks + self.conditions
        self.body = mlp([inputs, *[hidden] * layers, chunk])
        self.eyes = eyes
        # What learns as heads: all behind the eyes, or what tells velocities from features.
        self.heads = ("body",) if eyes else (f"body.{len(self.body) - 1}",)
        self.frequencies: torch.Tensor
        harmonics = torch.pi * 2.0 ** torch.arange(self.FREQUENCIES)
        self.register_buffer("frequencies", harmonics, persistent=False)

    def forward(self, x: torch.Tensor, w: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """X (B, H·A), w (B, 1), context (B, C) → velocity (B, H·A)."""
        angles = w * self.frequencies
        out: torch.Tensor = self.body(
            torch.cat([x, w, torch.sin(angles), torch.cos(angles), context], dim=1)
        )
        return out

    def see(
        self, observation: torch.Tensor, images: Mapping[str, torch.Tensor] | None
    ) -> torch.Tensor:
        """Normalised observation (B, O) and frames by camera (B, Y, X, 3) → (B, S = O + F)."""
        if self.eyes is None:
            return observation
        if images is None:
            raise ValueError(f"there are no frames; it sees by {self.eyes.cameras}")
        return torch.cat([observation, self.eyes(images)], dim=1)

    def context(
        self,
        observation: torch.Tensor,
        task: torch.Tensor,
        advantage: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What was seen (B, S), task ids (B,), advantage (B,) → (B, C = S + M [+ 2]).

        The advantage is 1 for better, −1 for worse, 0 for unknown, and where it is left out.
        """
        parts = [observation, nn.functional.one_hot(task, self.tasks).to(observation.dtype)]
        if self.conditions:
            sign = torch.zeros_like(task) if advantage is None else advantage
            parts.append(torch.stack([sign > 0, sign < 0], dim=1).to(observation.dtype))
        return torch.cat(parts, dim=1)
