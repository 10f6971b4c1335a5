"""How many bytes a program moved, and what for."""

from __future__ import annotations

from collections import Counter

from fleet_contract.names import Traffic


class Moved:
    """Bytes since the program's start, by ``Traffic``. Any thread adds, none to another's kind."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self.refused = 0
        """How often the broker did not let the program say or hear something."""

    def table(self) -> dict[tuple[str, str], int]:
        """(direction, kind) → bytes; every pair is there."""
        counts = {"sent": self.sent, "received": self.received}
        return {(way, kind.value): counts[way][kind] for way in counts for kind in Traffic}
