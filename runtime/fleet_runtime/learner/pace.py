"""When the next round of ingest may begin, so that the journal's segments stay few. Pure.

A round costs as much as `FULL` records; records pay for it, or time does, four rounds a second. So
a lone episode is journaled at once, a calm fleet makes four small segments a second, and one in a
hurry is never kept waiting, for its robots wait for their receipts before they send more.
"""

from __future__ import annotations

FULL = 32
"""New records that a round is worth."""
EVERY = 0.25
"""Seconds that are."""
SAVED = 4 * FULL
"""Records' worth that is kept for later at most."""


class Pace:
    """One ingest's."""

    def __init__(self, now: float) -> None:
        """`now`: seconds of a clock that only goes forward, as below."""
        self._saved = 0.0
        self._then = now

    def pause(self, records: int, now: float) -> float:
        """Seconds to wait after a round of so many new records."""
        earned = records + FULL * (now - self._then) / EVERY
        self._saved = min(SAVED, self._saved + earned) - FULL
        self._then = now
        return max(0.0, -self._saved * EVERY / FULL)
