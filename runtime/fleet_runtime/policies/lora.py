"""Low-rank adaptation: a linear layer learns W + (α/r) B A and leaves W alone (arXiv 2106.09685).

A (r, in) starts at random, B (out, r) at zero, so an adapted network begins as exactly the network
it adapts. A bundle holds W under its own name and unchanged, beside it A and B: what is frozen has
the same digest in every version, and a robot needs nothing but these names to act.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_INSIDE = {  # what torch calls the parts of an adapted weight, what a bundle calls them
    ".parametrizations.weight.original": ".weight",
    ".parametrizations.weight.0.a": ".lora_a",
    ".parametrizations.weight.0.b": ".lora_b",
}


class LoRA(BaseModel):
    """Size of the adapters."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """r: the inner width of B A."""
    alpha: Annotated[float, Field(gt=0, le=4096)] = 16.0
    """α: B A counts α/r times."""


class Delta(nn.Module):
    """What is added to a weight (out, in)."""

    def __init__(self, weight: torch.Tensor, size: LoRA) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = size.alpha / size.rank
        self.a = nn.Parameter(weight.new_empty(size.rank, inputs))
        self.b = nn.Parameter(weight.new_zeros(outputs, size.rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """W + (α/r) B A, the shape of W."""
        return torch.addmm(weight, self.b, self.a, alpha=self.scale)


def adapt(net: nn.Module, size: LoRA) -> None:
    """Give every linear layer that is not frozen an adapter, in place; ValueError for none."""
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    layers = [layer for layer in linear if layer.weight.requires_grad]
    if not layers:
        raise ValueError("the network has no linear layer for LoRA to adapt")
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Delta(layer.weight, size))


def merged(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state of the same network without adapters: W + (α/r) B A as plain weights."""
    state = net.state_dict()
    plain = {name: weight for name, weight in state.items() if ".parametrizations." not in name}
    for name, part in net.named_modules():
        if parametrize.is_parametrized(part, "weight"):
            plain[f"{name}.weight"] = part.weight.detach()
    return plain


def freeze(net: nn.Module, trainable: str, heads: Iterable[str]) -> None:
    """Let only these parts learn: `all`, the adapters (`lora`), or modules named by `heads`.

    What the network itself holds frozen stays so. ValueError when nothing is left to learn.
    """
    heads = tuple(heads)
    for name, weight in net.named_parameters():
        chosen = {
            "all": True,
            "lora": outer(name).endswith((".lora_a", ".lora_b")),
            "heads": any(f"{name}.".startswith(f"{head}.") for head in heads),
        }[trainable]
        weight.requires_grad_(weight.requires_grad and chosen)
    if not any(weight.requires_grad for weight in net.parameters()):
        raise ValueError(f"trainable: {trainable} leaves nothing to learn in this network")


def learning(net: nn.Module) -> Iterator[nn.Parameter]:
    """The weights that learn."""
    return (weight for weight in net.parameters() if weight.requires_grad)


def outer(name: str) -> str:
    """The name of a weight as bundles have it."""
    for inside, outside in _INSIDE.items():
        if name.endswith(inside):
            return name.removesuffix(inside) + outside
    return name


def named(net: nn.Module) -> dict[str, torch.Tensor]:
    """Weights by the names bundles have, on the CPU."""
    state = net.state_dict()
    return {outer(name): weight.detach().cpu().contiguous() for name, weight in state.items()}


def inner(net: nn.Module, found: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by the names the network has; those it does not know keep theirs."""
    names = {outer(name): name for name in net.state_dict()}
    return {names.get(name, name): weight for name, weight in found.items()}
