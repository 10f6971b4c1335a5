"""Which older versions a new one is told as a difference from, and these differences.

One base is the parent: by the parents' deltas a robot comes up from any recent version. The others
are the versions that the fleet was last assigned, for most versions are never tried and a robot
comes from the last one that was.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import FleetError
from fleet_contract.messages import Delta, FileRef, Manifest, digest_of
from fleet_runtime.policies import delta
from fleet_runtime.published import bundle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleet_contract.messages import PolicyRef
    from fleet_runtime.artifacts import Store

log = logging.getLogger(__name__)

MOST_BASES = 3


class Told(NamedTuple):
    """A delta and the bytes of its files."""

    delta: Delta
    files: dict[str, bytes]


class Held(NamedTuple):
    """A version's files, and their digests."""

    files: Mapping[str, bytes]
    digests: Mapping[str, str]


class Bases:
    """The bundles of versions that others are told from, kept in memory. Methods block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Held] = {}  # by the manifest's digest

    def hold(self, ref: PolicyRef, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """This version is out."""
        self._held[ref.digest] = Held(files, {file.name: file.digest for file in manifest.files})

    def deltas(self, files: Mapping[str, bytes], refs: Collection[PolicyRef]) -> list[Told]:
        """How to make these files from each of these versions, where that saves bytes.

        Forgets all other versions. A base that cannot be had costs its delta, nothing else.
        """
        wanted = {ref.digest: ref for ref in refs}
        chosen = list(wanted.values())[:MOST_BASES]
        self._held = {d: held for d, held in self._held.items() if d in wanted}
        found = []
        for ref in chosen:
            try:
                base = self._base(ref)
            except FleetError as fault:
                log.warning("no delta from version %d: %s", ref.sequence, fault)
                continue
            if (told := difference(ref, base, files)) is not None:
                found.append(told)
        return found

    def _base(self, ref: PolicyRef) -> Held:
        if ref.digest not in self._held:
            manifest = Manifest.open(self._store.get(ref.uri, ref.digest))
            self.hold(ref, manifest, bundle(self._store, manifest))
        return self._held[ref.digest]


def difference(ref: PolicyRef, base: Held, files: Mapping[str, bytes]) -> Told | None:
    """The delta from a version's files to others; None where it would be no smaller. Pure."""
    started = time.perf_counter()
    parts: dict[str, bytes] = {}
    for name, data in files.items():
        if data == base.files.get(name):
            continue
        try:
            old, digest = base.files[name], base.digests[name]
            part = delta.encode(old, data, digest)
            # What does not give back every bit is not published, whatever the reason.
            if len(part) >= len(data) or not delta.makes(old, part, data, digest):
                return None
        except (KeyError, ValueError):  # no such file there, or none of tensors
            return None
        parts[name] = part
    log.debug(
        "delta from version %d: %d bytes in %.0f ms",
        ref.sequence,
        sum(map(len, parts.values())),
        1e3 * (time.perf_counter() - started),
    )
    refs = tuple(FileRef(name=n, digest=digest_of(d), size=len(d)) for n, d in parts.items())
    return Told(Delta(base=ref, encoding=delta.ENCODING, files=refs), parts)
