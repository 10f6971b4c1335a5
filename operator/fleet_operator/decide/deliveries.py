"""What the watches delivered, held against what lists show: how a dead watch is known. Pure.

A watch dies without a word: its connection stands and brings nothing, or the task behind it has
ended. A quiet cluster looks the same, so silence proves nothing, and an object written only to
be heard of again would break the rule that an idle operator writes nothing. But a list is answered
afresh. Where it shows a version of an object that the watch has not brought some patience later,
that watch is dead; where nothing happened, nothing is missing, however long that lasts.

Resource versions of a kind are compared as numbers, which the API server promises. Deletions are
not waited for: a watch that began anew after a gap never tells of those within it.
"""

from collections.abc import Mapping


class Deliveries:
    """One per process. Times are in seconds of one monotonic clock."""

    def __init__(self, patience: float) -> None:
        """``patience``: seconds that a watch may be behind a list."""
        self._patience = patience
        self._brought: dict[str, dict[str, int]] = {}
        self._missing: dict[tuple[str, str], tuple[int, float]] = {}

    def brought(self, kind: str, uid: str, version: int) -> None:
        """A watch told of this version of an object, its deletion included."""
        self._brought.setdefault(kind, {})[uid] = version
        missing, _ = self._missing.get((kind, uid), (0, 0.0))
        if version >= missing:
            self._missing.pop((kind, uid), None)

    def listed(self, kind: str, at: int, versions: Mapping[str, int], now: float) -> set[str]:
        """A list as of version ``at`` shows these objects, by UID, in these versions.

        Returns those that the watch has not brought in that version.
        """
        brought = self._brought.setdefault(kind, {})
        for uid in [one for one, last in brought.items() if one not in versions and last <= at]:
            del brought[uid]
        for uid in [one for of, one in self._missing if of == kind and one not in versions]:
            del self._missing[kind, uid]
        behind = {uid for uid, version in versions.items() if brought.get(uid, 0) < version}
        for uid in behind:
            self._missing.setdefault((kind, uid), (versions[uid], now))
        return behind

    def dead(self, now: float) -> list[str]:
        """The kinds whose watch is behind for longer than the patience."""
        late = now - self._patience
        return sorted({kind for (kind, _), (_, since) in self._missing.items() if since <= late})
