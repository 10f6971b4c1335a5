"""Virtual time for a control loop: hours in seconds, and policies as slow as they say."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Float

THROTTLED = 0.002
"""Seconds that a step takes from the limit on."""


class VirtualClock:
    """Runs as fast as it is asked to, until `limit` virtual seconds; `reached` tells of that."""

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self.reached = threading.Event()
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.time >= self.limit:
            self.reached.set()
            time.sleep(THROTTLED)


class VirtualThinker:
    """Asks at once; what a question says that it took, by `takes`, is waited for virtually."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._busy: tuple[object, float] = (None, 0.0)  # whose question runs, until when
        self.took = 0.0

    def takes(self, seconds: float) -> None:
        """The policy that is being asked will answer that much later."""
        self.took = seconds

    def ask(self, policy: object, question: Callable[[], Float], within: float) -> Float | None:
        clock, (whose, until) = self.clock, self._busy
        deadline = clock.time + within
        if whose is policy and until > clock.time:
            clock.time = min(until, deadline)
            if until >= deadline:
                return None
        self.took = 0.0
        try:
            answer = question()
        finally:
            self._busy = (policy, clock.time + self.took)
            in_time = clock.time + self.took <= deadline
            clock.time = min(clock.time + self.took, deadline)
        return answer if in_time else None

    def close(self) -> None:
        """No thread to end."""
