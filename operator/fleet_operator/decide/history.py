"""Which PolicyVersions may go. Pure."""

from collections.abc import Collection, Iterable


def surplus(sequences: Iterable[int], *, keep: int, used: Collection[int]) -> list[int]:
    """Those beyond the newest ``keep``, oldest first; never one in use."""
    ordered = sorted(sequences)
    return [one for one in ordered[: max(0, len(ordered) - keep)] if one not in used]
