"""Decoded steps in one block of memory, so a batch is a few vectorised gathers.

A ring: a loaded episode takes the next free stretch, and what lay there is forgotten (it can be
loaded again). First in, first out rather than least recently used: draws are uniform, so recency
of use tells nothing, and the memory is exactly what was asked for, never fragmented.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Episode, Float


class Arena:
    """Room for `steps` decoded steps of observations (O) and actions (A)."""

    def __init__(self, steps: int, observation_size: int, action_size: int) -> None:
        self._observation = np.zeros((steps, observation_size), np.float32)
        self._action = np.zeros((steps, action_size), np.float32)
        self._where: OrderedDict[int, tuple[int, int]] = OrderedDict()  # episode → first row, steps
        self._first = np.zeros(0, np.int64)  # episode → first row, -1 where not loaded
        self._free = 0
        self.loads = 0

    def __len__(self) -> int:
        """Episodes held decoded."""
        return len(self._where)

    @property
    def nbytes(self) -> int:
        """Bytes it takes, full or empty."""
        return self._observation.nbytes + self._action.nbytes

    def put(self, number: int, episode: Episode) -> None:
        """Hold an episode decoded; ValueError when it alone exceeds the arena."""
        steps, room = len(episode), len(self._action)
        if steps > room:
            raise ValueError(f"an episode of {steps} steps exceeds the arena of {room}")
        self.forget(number)
        if self._free + steps > room:
            self._evict(self._free, room)
            self._free = 0
        first, stop = self._free, self._free + steps
        self._evict(first, stop)
        self._observation[first:stop] = episode.observation[:steps]
        self._action[first:stop] = episode.action
        self._room_for(number)
        self._where[number] = (first, steps)
        self._first[number] = first
        self._free = stop

    def forget(self, number: int) -> None:
        """Drop an episode, if it is held."""
        if self._where.pop(number, None) is not None:
            self._first[number] = -1

    def gather(
        self,
        episode: NDArray[np.int64],
        step: NDArray[np.int64],
        stop: NDArray[np.int64],
        chunk: int,
        later: NDArray[np.int64],
        load: Callable[[int], Episode],
    ) -> tuple[Float, Float, Float]:
        """Observations (B, O), chunks (B, H, A), and observations (B, W, O) at the steps `later`.

        What is not held is loaded. Actions at and past `stop` repeat the last one before it.
        """
        rows, size = len(episode), self._observation.shape[1]
        observation = np.empty((rows, size), np.float32)
        seen_later = np.empty((*later.shape, size), np.float32)
        action = np.empty((rows, chunk, self._action.shape[1]), np.float32)
        ahead = np.minimum(step[:, None] + np.arange(chunk), stop[:, None] - 1)
        self._room_for(int(episode.max(initial=0)))
        first = self._first[episode]

        def copy(here: NDArray[np.int64], base: NDArray[np.int64]) -> None:
            observation[here] = self._observation[base + step[here]]
            action[here] = self._action[base[:, None] + ahead[here]]
            seen_later[here] = self._observation[base[:, None] + later[here]]

        held = np.flatnonzero(first >= 0)
        copy(held, first[held])
        missing = np.flatnonzero(first < 0)
        # Rows are copied out right after their load, so a later load may evict what they used.
        for number in np.unique(episode[missing]):
            self.put(int(number), load(int(number)))
            self.loads += 1
            here = missing[episode[missing] == number]
            copy(here, np.full(len(here), self._first[number]))
        return observation, action, seen_later

    def _room_for(self, number: int) -> None:
        if number >= len(self._first):
            grown = np.full(max(64, 2 * number), -1, np.int64)
            grown[: len(self._first)] = self._first
            self._first = grown

    def _evict(self, first: int, stop: int) -> None:
        """Forget every episode with a row in [first, stop)."""
        # Insertion order is ring order, so what overlaps is always the oldest.
        while self._where:
            number, (at, steps) = next(iter(self._where.items()))
            if at >= stop or first >= at + steps:
                break
            self.forget(number)
