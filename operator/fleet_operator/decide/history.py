"""Which PolicyVersions may go, and what the learner is told of those that stay. Pure."""

from collections.abc import Collection, Iterable

from fleet_contract.messages import Kept


def surplus(sequences: Iterable[int], *, keep: int, used: Collection[int]) -> list[int]:
    """Those beyond the newest ``keep``, oldest first; never one in use."""
    ordered = sorted(sequences)
    return [one for one in ordered[: max(0, len(ordered) - keep)] if one not in used]


def kept(
    job_uid: str, sequences: Collection[int], *, gone: Collection[int], used: Collection[int]
) -> Kept | None:
    """What is to be told of these versions, of which some just went; None before there is one.

    A version that was announced and is not among them may still become one.
    """
    if not sequences:
        return None
    stay = {*sequences, *used} - (set(gone) - set(used))
    return Kept(job_uid=job_uid, before=max(sequences), versions=tuple(sorted(stay)))
