"""How often each robot may ask: a bucket of leaves that fills by itself. From any thread."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from fleet_contract.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 20.0
"""Requests a second that one robot may ask for in the long run: an object each, and what is small
travels without. A large file in pieces asks once."""
BURST = 100
"""Requests at once: all the files of a version, and what a spool held back."""
REMEMBERED = 4096
"""Robots whose bucket is kept: where NATS has no accounts, names cost nothing."""


class TooOften(Retry):
    """Come again a little later."""

    def __init__(self, *, news: bool) -> None:
        super().__init__(f"it asks more than {RATE:g} times a second")
        self.news = news
        """The first since it kept its pace; who floods us shall not flood the log, too."""


class Pace:
    """Of all robots of a job."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float, bool]] = OrderedDict()

    def demand(self, robot: str) -> None:
        """One leave of this robot's is spent. Raises `TooOften` where it has none."""
        with self._lock:
            now = self._clock()
            left, since, told = self._left.pop(robot, (BURST, now, False))
            left = min(BURST, left + RATE * (now - since))
            late = left < 1
            self._left[robot] = (left if late else left - 1), now, late
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)
        if late:
            raise TooOften(news=not told)
