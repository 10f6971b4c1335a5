"""What a policy makes of its cameras: a small convolutional net, told where things are.

A net for each camera, since a wrist and a ceiling see nothing alike; the cost is a few ten thousand
weights. Strided convolutions under group norms (a batch norm would act otherwise than it learned),
then for each channel the place of its softmax over the picture (Levine et al., arXiv 1504.00702)
and its mean: where a thing is, and how much of it there is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

COARSE = 24
"""Pixels of the longer side after the strided layers, at most."""
WIDENINGS = 2
"""How many of them double the channels."""
GROUPS = 8


class Eye(nn.Module):
    """One camera's frames (B, Y, X, 3) of uint8 → features (B, F)."""

    def __init__(
        self, shape: tuple[int, int, int], *, width: int, features: int, mean: float, std: float
    ) -> None:
        """`mean` and `std` scale pixels of 0 to 1; they are constants, never measured."""
        super().__init__()
        self.mean, self.std = mean, std
        halvings = max(1, math.ceil(math.log2(max(shape[:2]) / COARSE)))
        layers: list[nn.Module] = []
        before = shape[2]
        for number in range(halvings + 1):
            after = width * 2 ** min(number, WIDENINGS)
            stride = 2 if number < halvings else 1
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=1),
                nn.GroupNorm(math.gcd(GROUPS, after // 2), after),  # never of a single number
                nn.SiLU(),
            ]
            before = after
        self.body = nn.Sequential(*layers)
        self.sharpness = nn.Parameter(torch.ones(1, before, 1))
        self.head = nn.Sequential(nn.Linear(3 * before, features), nn.LayerNorm(features))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, Y, X, 3) → (B, F)."""
        # What numpy calls (Y, X, 3) is torch's channels-last: nothing is copied to turn it.
        pixels = frames.permute(0, 3, 1, 2).to(self.sharpness.dtype)
        maps = self.body((pixels / 255.0 - self.mean) / self.std)
        rows, columns = maps.shape[2:]
        flat = maps.flatten(2)
        weight = torch.softmax(flat * self.sharpness, dim=2).view(*flat.shape[:2], rows, columns)
        down = (weight.sum(dim=3) * _places(rows, maps)).sum(dim=2)
        across = (weight.sum(dim=2) * _places(columns, maps)).sum(dim=2)
        out: torch.Tensor = self.head(torch.cat([down, across, flat.mean(dim=2)], dim=1))
        return out


def _places(count: int, like: torch.Tensor) -> torch.Tensor:
    """Where cells lie along a side of the picture, from −1 to 1."""
    return torch.linspace(-1, 1, count, device=like.device, dtype=like.dtype)


class Eyes(nn.Module):
    """All cameras, in the order of their names: frames by camera → (B, cameras · F)."""

    def __init__(
        self,
        cameras: Mapping[str, tuple[int, int, int]],
        *,
        width: int,
        features: int,
        mean: float,
        std: float,
    ) -> None:
        super().__init__()
        self.cameras = sorted(cameras)
        self.size = len(self.cameras) * features
        self.eyes = nn.ModuleList(
            Eye(cameras[name], width=width, features=features, mean=mean, std=std)
            for name in self.cameras
        )

    def forward(self, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Camera → (B, Y, X, 3); a KeyError names the camera that is not there."""
        seen = zip(self.cameras, self.eyes, strict=True)
        return torch.cat([eye(images[name]) for name, eye in seen], dim=1)


def shifted(frames: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Each of the frames (B, Y, X, 3) moved by up to so many pixels, its edge drawn out.

    DrQ's augmentation (Kostrikov et al., arXiv 2004.13649).
    """
    if not pixels:
        return frames
    rows, height, width = frames.shape[:3]
    device = frames.device
    moves = torch.randint(-pixels, pixels + 1, (2, rows, 1), generator=generator, device=device)
    y = (torch.arange(height, device=device) + moves[0]).clamp(0, height - 1)
    x = (torch.arange(width, device=device) + moves[1]).clamp(0, width - 1)
    return frames[torch.arange(rows, device=device)[:, None, None], y[:, :, None], x[:, None, :]]
