"""Statistics of features, as a LeRobotDataset carries them for each episode and for all.

Moments are merged exactly (Chan, Golub and LeVeque 1979). Quantiles of all are the count-weighted
means of the episodes' own, which is what LeRobot takes for them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Pixel

Stats: TypeAlias = "dict[str, NDArray[np.float64]]"
FRAMES, PIXELS = 100, 150
"""How many frames of an episode, and pixels along a side, are looked at."""
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def describe(column: NDArray[Any]) -> Stats:
    """Statistics over the rows of a column (T,) or (T, n): arrays (n,), and `count` (1,)."""
    values = np.asarray(column, np.float64).reshape(len(column), -1)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def describe_frames(frames: Pixel) -> Stats:
    """Of a camera's frames (T, Y, X, 3), each colour by itself: arrays (3, 1, 1), from 0 to 1.

    Of many frames or pixels some are looked at, evenly spread.
    """
    some = frames[:: 1 + len(frames) // FRAMES]
    apart = 1 + max(some.shape[1:3]) // PIXELS
    found = describe(some[:, ::apart, ::apart].reshape(-1, 3) / 255)
    shaped = {name: value.reshape(3, 1, 1) for name, value in found.items() if name != "count"}
    return {**shaped, "count": np.array([len(some)])}


def merge(parts: Sequence[Stats]) -> Stats:
    """The statistics of everything that the parts describe."""
    weight = np.stack([part["count"] for part in parts]).astype(np.float64)  # (parts, 1)
    share = weight / weight.sum()
    # Images' statistics have axes (3, 1, 1).
    share = share.reshape(-1, *(1,) * parts[0]["mean"].ndim)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (values * share).sum(axis=0)
        return found

    means = np.stack([part["mean"] for part in parts])
    centre = mean(means)
    spread = np.stack([part["std"] for part in parts]) ** 2 + (means - centre) ** 2
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": centre,
        "std": np.sqrt(mean(spread)),
        "count": weight.sum(axis=0).astype(np.int64),
        **{name: mean(np.stack([part[name] for part in parts])) for name in QUANTILES},
    }


def plain(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """Ready for JSON."""
    return {
        feature: {name: value.tolist() for name, value in found.items()}
        for feature, found in stats.items()
    }
