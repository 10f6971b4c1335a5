"""Q-learning with adjoint matching (Li and Levine, arXiv 2601.14234): the actor's loss.

Towards π* ∝ π_β exp(Q/λ) with a flow f_β that stays fixed: sample chunks from the current flow by
its memoryless SDE, take the gradient of Q where they end, carry it back along the reference
(the lean adjoint), and regress the flow on it:

    σ_w = √(2 (1 − w) / w)
    dX = (2 f_θ(X, w) − X/w) dw + σ_w dB
    g(1) = −∇_a Q(s, X_1) / λ,   dg/dw = −J_x[2 f_β(X, w) − X/w]ᵀ g
    L(θ) = E Σ_w |2 (f_θ − f_β)/σ_w + σ_w g_w|² / T

discretised with h = 1/T as the paper's code does: denominators and the reference of the adjoint at
w + h, everything else at w, and a last step by f_β's ODE. No gradient flows through the sampling.
LWD prints σ_w = √(2 (1 − w) w), which does not go with the factor 2: it reaches a fifth of the
tilt that this one reaches (see the Gaussian case in the tests).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Flow = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """(chunks (B, D), times (B, 1)) → velocities (B, D), for B contexts it knows.

    Asked for k·B rows, it takes the contexts k times over, in their order."""


def sigma(w: float, h: float) -> float:
    """The memoryless schedule at step w of size h."""
    return float((2 * (1 - w + h) / (w + h)) ** 0.5)


@torch.no_grad()
def paths(
    flow: Flow, reference: Flow, noise: torch.Tensor, steps: int, generator: torch.Generator
) -> torch.Tensor:
    """Where chunks go from noise (B, D): (T + 1, B, D), the first being the noise."""
    h, x = 1 / steps, noise
    visited = [x]
    for i in range(steps - 1):
        w = i * h
        drift = 2 * flow(x, _times(x, w)) - x / (w + h)
        kick = torch.randn(x.shape, generator=generator, device=x.device)
        x = x + h * drift + h**0.5 * sigma(w, h) * kick
        visited.append(x)
    visited.append(x + h * reference(x, _times(x, 1 - h)))
    return torch.stack(visited)


def lean_adjoint(reference: Flow, path: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """The adjoint at the path's first T points (T, B, D), from its end (B, D), by T VJPs."""
    steps = len(path) - 1
    h, g = 1 / steps, end
    found = []
    for i in reversed(range(steps)):
        w = (i + 1) * h
        with torch.enable_grad():
            x = path[i].detach().requires_grad_()
            drift = 2 * reference(x, _times(x, w)) - x / w
            (vjp,) = torch.autograd.grad(drift, x, g)
        g = g + h * vjp
        found.append(g)
    return torch.stack(found[::-1])


def loss(flow: Flow, reference: Flow, path: torch.Tensor, adjoint: torch.Tensor) -> torch.Tensor:
    """L per row (B,), a mean over steps and dimensions; gradients reach `flow` only.

    All T steps in one pass: the flows are asked for T·B chunks, step by step.
    """
    steps, rows, size = adjoint.shape
    h, x = 1 / steps, path[:-1].detach().reshape(steps * rows, size)
    times = [i * h for i in range(steps)]
    w, s = (
        torch.tensor(column, dtype=x.dtype, device=x.device).repeat_interleave(rows)[:, None]
        for column in (times, [sigma(w, h) for w in times])
    )
    with torch.no_grad():
        fixed = reference(x, w)
    error = 2 * (flow(x, w) - fixed) / s + s * adjoint.detach().reshape(steps * rows, size)
    return error.square().mean(dim=1).view(steps, rows).mean(dim=0)


def _times(x: torch.Tensor, w: float) -> torch.Tensor:
    return torch.full((len(x), 1), w, device=x.device, dtype=x.dtype)
