"""A bundle from an older one that is here and the deltas between: which way, and walking it. Pure.

What is read comes through the two functions that are passed in; who passes them checks digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import Untrusted
from fleet_contract.messages import digest_of
from fleet_runtime.policies import delta as codec
from fleet_runtime.policies.bundle import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet_contract.messages import Delta, FileRef, Manifest, PolicyRef

    Bundle = dict[str, bytes]

MOST_STEPS = 8
"""Deltas in a row. By then the whole bundle is nearly always less."""


class Step(NamedTuple):
    """One delta, and what it makes."""

    delta: Delta
    made: Manifest


def route(
    wanted: Manifest,
    held: Mapping[str, Manifest],
    below: int,
    manifest: Callable[[PolicyRef], Manifest],
) -> list[Step]:
    """The steps to a version from one that is `held` (by its manifest's digest), oldest first.

    None of them where nothing held leads there in fewer than `below` bytes.
    """
    older = [one.sequence for one in held.values() if one.sequence < wanted.sequence]
    steps: list[Step] = []
    spent, at = 0, wanted
    while older and len(steps) < MOST_STEPS:
        known = [delta for delta in at.deltas if delta.encoding == codec.ENCODING]
        from_held = [delta for delta in known if delta.base.digest in held]
        ahead = [delta for delta in known if max(older) < delta.base.sequence < at.sequence]
        if from_held:
            chosen = min(from_held, key=lambda delta: delta.size)
        elif ahead:  # one long step is less than the short ones between
            chosen = min(ahead, key=lambda delta: delta.base.sequence)
        else:
            break
        spent += chosen.size
        if spent >= below:
            break
        steps.append(Step(chosen, at))
        if from_held:
            return steps[::-1]
        at = manifest(chosen.base)
    return []


def rebuild(
    base: Bundle,
    steps: list[Step],
    fetch: Callable[[FileRef], bytes],
    digests: Mapping[str, str] | None = None,
) -> Bundle:
    """The bundle at the end of the steps, every file as its manifest says.

    `digests` are those of the base's files, where they are known already.

    Raises:
        Untrusted: a delta is of another base, damaged, or makes something else.
    """
    known = dict(digests or {})
    for delta, made in steps:
        parts = {part.name: part for part in delta.files}
        base = {
            file.name: _made(base, known, file, made, fetch(parts[file.name]))
            if file.name in parts
            else _kept(base, file)
            for file in made.files
        }
        known = {file.name: file.digest for file in made.files}
    return base


def _kept(base: Bundle, file: FileRef) -> bytes:
    data = base.get(file.name, b"")
    if digest_of(data) != file.digest:
        raise Untrusted(f"no delta tells {file.name}, which is another in the base")
    return data


def _made(
    base: Bundle, known: Mapping[str, str], file: FileRef, made: Manifest, part: bytes
) -> bytes:
    try:
        data = codec.decode(base[file.name], part, file.size, known.get(file.name, ""))
        if (digest := digest_of(data)) == file.digest:
            return data
        # Which tensors are not as they should be says more than that the file is not.
        tensors = {one.name: one.digest for one in made.tensors} if file.name == MODEL else {}
        wrong = codec.off(data, tensors)
    except (KeyError, ValueError) as fault:
        raise Untrusted(f"delta of {file.name}: {fault}") from None
    if wrong:
        raise Untrusted(f"delta of {file.name} makes other tensors: {', '.join(wrong[:3])}")
    raise Untrusted(f"delta of {file.name} makes {digest}, wanted {file.digest}")
