"""Which step to draw: uniform over the eligible steps of one (task, side) pool.

A pool is a list of runs, an uninterrupted stretch of steps under one kind of control. Steps are
not listed one by one, so a pool of a million steps costs a few thousand rows and one binary search
per draw.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Draws:
    """Drawn steps: parallel arrays (n,)."""

    episode: NDArray[np.int64]  # the owner's number
    step: NDArray[np.int64]  # position in the episode
    stop: NDArray[np.int64]  # the step at which its run ends
    facts: NDArray[np.int64]  # (n, F) what was said of the run when it was added


class UniformRuns:
    """Runs [start, stop) of numbered episodes, drawn so that each step is equally likely."""

    def __init__(self) -> None:
        self._runs: dict[int, list[tuple[int, ...]]] = {}
        self._table: NDArray[np.int64] | None = None  # (runs, 3 + F) episode, start, stop, facts
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)  # running total of run lengths
        self._steps = 0

    def __len__(self) -> int:
        """Steps that can be drawn."""
        return self._steps

    def add(self, episode: int, start: int, stop: int, *facts: int) -> None:
        """Make a run eligible; every run of a pool has the same number of facts."""
        if not 0 <= start < stop:
            raise ValueError(f"a run [{start}, {stop}) holds no step")
        self._runs.setdefault(episode, []).append((start, stop, *facts))
        self._steps += stop - start
        self._table = None

    def remove(self, episode: int) -> None:
        """Forget an episode's runs, if it has any here."""
        for start, stop, *_ in self._runs.pop(episode, []):
            self._steps -= stop - start
            self._table = None

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """`count` steps with replacement; ValueError where there is none."""
        if not self._steps:
            raise ValueError("the pool is empty")
        if self._table is None:
            rows = [(e, *run) for e, runs in self._runs.items() for run in runs]
            self._table = np.array(rows, np.int64)
            self._ends = np.cumsum(self._table[:, 2] - self._table[:, 1])
        position = rng.integers(self._steps, size=count)
        row = np.searchsorted(self._ends, position, side="right")
        drawn = self._table[row]
        episode, stop = drawn[:, 0], drawn[:, 2]
        step = stop - (self._ends[row] - position)
        return Draws(episode=episode, step=step, stop=stop, facts=drawn[:, 3:])
