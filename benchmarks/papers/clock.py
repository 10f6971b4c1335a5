"""Simulated time: what is due, in the order of time, rank and arrival."""

from __future__ import annotations

import heapq
import itertools
from typing import Any


class Clock:
    """A heap of events. Nothing runs by itself: whoever pops an event does it."""

    def __init__(self) -> None:
        self.now = 0.0  # simulated seconds
        self._heap: list[tuple[float, int, int, Any]] = []
        self._order = itertools.count()

    def at(self, when: float, rank: int, what: Any = None) -> None:
        """Something is due at `when`; of two at the same time the lower rank comes first."""
        if when < self.now:
            raise ValueError(f"it is {self.now} s, nothing can be due at {when} s any more")
        heapq.heappush(self._heap, (when, rank, next(self._order), what))

    @property
    def waits(self) -> bool:
        """Something is due some time."""
        return bool(self._heap)

    @property
    def next(self) -> float:
        """When something is due next."""
        return self._heap[0][0]

    def pop(self) -> tuple[int, list[Any]]:
        """Go to the next time; the lowest rank due then, and all that is due of it by then."""
        self.now, rank, _, first = heapq.heappop(self._heap)
        found = [first]
        while self._heap and self._heap[0][:2] == (self.now, rank):
            found.append(heapq.heappop(self._heap)[3])
        return rank, found
