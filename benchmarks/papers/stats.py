"""95 % intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

Z = 1.959964


def wilson(successes: int, attempts: int) -> tuple[float, float]:
    """Wilson's score interval of a rate (JASA 22, 1927); (0, 1) without an attempt."""
    if not attempts:
        return 0.0, 1.0
    rate, square = successes / attempts, Z * Z / attempts
    centre = (rate + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(rate * (1 - rate) / attempts + square / (4 * attempts))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """A mean and half the width of Student's interval; NaN of one value only."""
    found = np.asarray(values, float)
    if len(found) < 2:
        return float(found.mean()) if len(found) else math.nan, math.nan
    error = found.std(ddof=1) / math.sqrt(len(found))
    return float(found.mean()), float(stdtrit(len(found) - 1, 0.975) * error)
