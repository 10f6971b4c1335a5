"""Which PolicyVersions may go, and what the learner is told of those that stay. Pure."""

from collections.abc import Collection, Iterable, Mapping

from fleet_contract.messages import Kept
from fleet_contract.resources import PolicyVersionSpec, VersionRef


def surplus(sequences: Iterable[int], *, keep: int, used: Collection[int]) -> list[int]:
    """Those beyond the newest ``keep``, oldest first; never one in use."""
    ordered = sorted(sequences)
    return [one for one in ordered[: max(0, len(ordered) - keep)] if one not in used]


def kept(
    job_uid: str,
    sequences: Collection[int],
    *,
    gone: Collection[int],
    used: Collection[int],
    specs: Mapping[int, PolicyVersionSpec],
) -> Kept | None:
    """What is to be told of these versions, of which some just went; None before there is one.

    A version that was announced and is not among them may still become one. ``specs``: of what is
    at work.
    """
    if not sequences:
        return None
    stay = {*sequences, *used} - (set(gone) - set(used))
    return Kept(
        job_uid=job_uid,
        before=max(sequences),
        versions=tuple(sorted(stay)),
        specs=tuple(specs[one].model_dump_json(by_alias=True) for one in sorted(specs)),
    )


def noted(kept: Kept | None, at_work: Iterable[VersionRef]) -> dict[int, PolicyVersionSpec]:
    """What a predecessor noted of these versions, by sequence; of others, or another job, nothing.

    A document is as good an old one: what a version is, its digest says.
    """
    found = {}
    known = {one.sequence: one.digest for one in at_work}
    for text in kept.specs if kept else ():
        try:
            spec = PolicyVersionSpec.model_validate_json(text)
        except ValueError:  # an older or newer operator's
            continue
        if known.get(spec.sequence) == spec.digest:
            found[spec.sequence] = spec
    return found
