"""Which task comes next: the one that lags most behind its share of robot time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Schedule:
    """Deficit scheduling: over time each task gets its weight's share, however long it takes."""

    def __init__(self, weights: Mapping[str, float], *, start: int = 0) -> None:
        """`start` rotates the order of equals, so that a fleet does not begin with one task.

        Raises ValueError when no weight is above 0.
        """
        live = [(task, weight) for task, weight in weights.items() if weight > 0]
        total = sum(weight for _, weight in live)
        if not live or not total < float("inf"):
            raise ValueError(f"no task can be scheduled: weights are {dict(weights)}")
        turn = start % len(live)
        self._shares = {task: weight / total for task, weight in live[turn:] + live[:turn]}
        self._used = dict.fromkeys(self._shares, 0.0)

    def next(self) -> str:
        """The task with the largest deficit; the first of equals."""
        total = sum(self._used.values())
        return max(self._shares, key=lambda task: self._shares[task] * total - self._used[task])

    def spent(self, task: str, amount: float) -> None:
        """The task took this much robot time, in any one unit; at least something is counted."""
        # An attempt that failed before its first step must not be tried for ever.
        self._used[task] += max(amount, 1e-3)
        # Only differences matter; small numbers stay exact over months.
        least = min(self._used[task] / share for task, share in self._shares.items())
        for name, share in self._shares.items():
            self._used[name] -= least * share
