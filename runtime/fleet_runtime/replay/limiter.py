"""How far the learner may run ahead of its robots.

Without a limit a fast learner wears out the few episodes slow robots have sent; with one it waits.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class UpdateLimiter:
    """At most `initial` updates, plus `per_episode` for each online episode taken in."""

    per_episode: float  # updates an online episode pays for
    initial: int = 0  # updates on the offline data alone

    def __post_init__(self) -> None:
        if self.per_episode < 0 or self.initial < 0:
            raise ValueError("a limit must not be negative")

    def allowed(self, updates: int, episodes: int) -> int:
        """Updates that may be made now, after `updates` of them and `episodes` online episodes."""
        return max(0, int(self.initial + self.per_episode * episodes) - updates)
