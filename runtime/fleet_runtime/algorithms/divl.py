"""DIVL's arithmetic (LWD, arXiv 2605.00416): a categorical V whose quantile bootstraps a scalar Q.

p_ψ(v|s) models the law of Q(s, a) over the replay's actions on K fixed atoms. The bootstrap takes
a quantile of it, less optimistic where the law is still vague:

    Ĥ(s) = −Σ p log p / log K,   τ(s) = clip(τ_base − α Ĥ(s), τ_min, τ_max)

always at the *bootstrap* state, and without gradient. All functions are pure.
"""

from __future__ import annotations

import math

import torch


def project(value: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """Values (B,) → masses (B, K) on evenly spaced atoms (K,), split over the two neighbours.

    C51's projection (Bellemare et al., arXiv 1707.06887) of a point mass; values beyond the
    atoms' range count as its ends.
    """
    low, spacing = atoms[0], atoms[1] - atoms[0]
    place = ((value - low) / spacing).clamp(0, len(atoms) - 1)
    below = place.floor().clamp(max=len(atoms) - 2).long()
    upper = (place - below).unsqueeze(1)
    mass = torch.zeros(len(value), len(atoms), dtype=value.dtype, device=value.device)
    mass.scatter_(1, below.unsqueeze(1), 1 - upper)
    return mass.scatter_(1, below.unsqueeze(1) + 1, upper)


def cross_entropy(logits: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """L_V per row (B,): −Σ m_i log p_ψ(i|s)."""
    return -(mass * torch.log_softmax(logits, dim=1)).sum(dim=1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Ĥ (B,) between 0 (one atom) and 1 (uniform)."""
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(logits.shape[1])


def adaptive_tau(
    logits: torch.Tensor, *, base: float, alpha: float, low: float, high: float
) -> torch.Tensor:
    """τ (B,) of these states."""
    return (base - alpha * entropy(logits)).clamp(low, high)


def quantile(logits: torch.Tensor, atoms: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """Quant_τ (B,): the smallest atom whose cumulated probability reaches τ (B,)."""
    reached = torch.softmax(logits, dim=1).cumsum(dim=1) < tau.unsqueeze(1)
    return atoms[reached.sum(dim=1).clamp(max=len(atoms) - 1)]


def mean(logits: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """Σ p_i v_i (B,)."""
    return torch.softmax(logits, dim=1) @ atoms


def expectile_loss(error: torch.Tensor, tau: float) -> torch.Tensor:
    """IQL's |τ − 1(u < 0)| u² per row, with u = q − V (Kostrikov et al., arXiv 2110.06169)."""
    return torch.where(error < 0, 1 - tau, tau) * error.square()
