"""Which step to draw: uniform over the eligible steps of a (task, side) pool.

A pool is a list of runs, an uninterrupted stretch of steps under one kind of control. Steps are
not listed one by one, so a million of them cost a few thousand rows. All pools lie in one table,
one after the other, so that a batch over many of them costs one binary search per row, as a batch
over one does.
"""

from __future__ import annotations

import dataclasses
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOL, EPISODE, START, STOP, FACTS = range(5)  # columns of the table; facts are the rest


@dataclasses.dataclass(frozen=True)
class Draws:
    """Drawn steps: parallel arrays (n,), by pool."""

    pool: NDArray[np.int64]
    episode: NDArray[np.int64]  # the owner's number
    step: NDArray[np.int64]  # position in the episode
    stop: NDArray[np.int64]  # the step at which its run ends
    facts: NDArray[np.int64]  # (n, F) what was said of the run when it was added


class UniformRuns:
    """Runs [start, stop) of numbered episodes, drawn so that each step of a pool is as likely."""

    def __init__(self, pools: int, facts: int = 0) -> None:
        """Every run comes with so many `facts`."""
        self.sizes: NDArray[np.int64] = np.zeros(pools, np.int64)  # steps that can be drawn
        self._table: NDArray[np.int64] = np.zeros((0, FACTS + facts), np.int64)  # by pool
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)  # running total of run lengths
        self._firsts: NDArray[np.int64] = np.zeros(pools, np.int64)  # … before each pool
        self._new: list[tuple[int, ...]] = []  # rows that are not in the table yet
        self._settled = True

    def add(self, pool: int, episode: int, start: int, stop: int, *facts: int) -> None:
        """Make a run eligible; ValueError where it holds no step."""
        if not 0 <= start < stop:
            raise ValueError(f"a run [{start}, {stop}) holds no step")
        self._new.append((pool, episode, start, stop, *facts))
        self.sizes[pool] += stop - start
        self._settled = False

    def remove(self, episode: int) -> None:
        """Forget an episode's runs, if it has any here."""
        theirs = self._table[:, EPISODE] == episode
        waiting = [row for row in self._new if row[EPISODE] == episode]
        for pool, _, start, stop, *_ in (*self._table[theirs].tolist(), *waiting):
            self.sizes[pool] -= stop - start
        if theirs.any():
            self._table = self._table.compress(~theirs, axis=0)
        if waiting:
            self._new = [row for row in self._new if row[EPISODE] != episode]
        self._settled = False

    def draw(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Draws:
        """`counts` steps of each pool with replacement; ValueError where one has none."""
        self._settle()
        pool = np.repeat(np.arange(len(counts)), counts)
        sizes = self.sizes[pool]
        if not sizes.all():
            raise ValueError("a pool to draw from is empty")
        position = self._firsts[pool] + rng.integers(sizes)
        row = np.searchsorted(self._ends, position, side="right")
        drawn = self._table.take(row, axis=0)
        stop = drawn[:, STOP]
        step = stop - (self._ends[row] - position)
        return Draws(pool, drawn[:, EPISODE], step, stop, drawn[:, FACTS:])

    def _settle(self) -> None:
        if self._settled:
            return
        if self._new:
            new = np.array(sorted(self._new, key=itemgetter(POOL)), np.int64)
            # Behind their pools: a table of a million runs is copied once, not sorted anew.
            behind = np.searchsorted(self._table[:, POOL], new[:, POOL], side="right")
            self._table = np.insert(self._table, behind, new, axis=0)
            self._new = []
        self._ends = np.cumsum(self._table[:, STOP] - self._table[:, START])
        self._firsts = np.cumsum(self.sizes) - self.sizes
        self._settled = True
