"""Objects of published versions that nobody may still want, and their removal.

The operator tells which versions are kept (`Kept`). Of these everything stays. A robot that lags
walks from delta to delta, so of the versions that their deltas start from, as far back as a robot
walks, the manifests and the deltas stay too. Everything else that a publication makes, half-made
ones included, goes once it was of no use for an hour by this learner's own clock: no clock of
another machine is asked, and whoever began to fetch it has time to end.

    manifest → files: dying between any two leaves files that no manifest names, for the next pass
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract import names
from fleet_contract.errors import Reject, Untrusted
from fleet_contract.messages import Manifest
from fleet_runtime.artifacts import Missing
from fleet_runtime.learner import epoch as office
from fleet_runtime.robot.rebuild import MOST_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from fleet_contract.messages import FileRef, Kept
    from fleet_runtime.artifacts import Store
    from fleet_runtime.metrics import LearnerMetrics

log = logging.getLogger(__name__)

GRACE = 3600.0
"""Seconds for which something must have been of no use."""
EVERY = 30.0
"""Seconds between two looks. They come between two publications, so none is half-made meanwhile."""
MOST = 256
"""Objects removed at once: the next publication waits for it."""


class Named(NamedTuple):
    """What a manifest names."""

    files: frozenset[str]
    """Keys of the whole bundle."""
    deltas: frozenset[str]
    bases: frozenset[int]
    """Sequences of the versions that its deltas start from."""


def steps(
    whole: Collection[int], there: Collection[int], named: Callable[[int], Named]
) -> set[int]:
    """Versions between: those that deltas of `whole` ones start from, and so on. Pure."""
    found: set[int] = set()
    edge = set(whole)
    for _ in range(MOST_STEPS):
        bases = {base for sequence in edge for base in named(sequence).bases}
        edge = (bases & set(there)) - found - set(whole)
        found |= edge
    return found


def ripe(
    useless: Collection[str], since: Mapping[str, float], now: float, grace: float
) -> tuple[list[str], dict[str, float]]:
    """What may go now, and since when the rest was seen to be of no use. Pure."""
    seen = {key: since.get(key, now) for key in useless}
    return [key for key in sorted(seen) if now - seen[key] >= grace], seen


class Collector:
    """Of one learner, which calls it between its publications. Methods block."""

    def __init__(
        self,
        store: Store,
        job_uid: str,
        epoch: int,
        metrics: LearnerMetrics,
        *,
        grace: float = GRACE,
        every: float = EVERY,
    ) -> None:
        self._store = store
        self._job_uid = job_uid
        self._epoch = epoch
        self._metrics = metrics
        self._grace = grace
        self._every = every
        self._named: dict[int, Named] = {}
        self._since: dict[str, float] = {}
        self._next = float("-inf")

    def due(self, now: float) -> bool:
        """Whether to look again now (monotonic seconds)."""
        if now < self._next:
            return False
        self._next = now + self._every
        return True

    def collect(self, kept: Kept, now: float) -> int:
        """Remove what is ripe; returns how many objects.

        Raises:
            Retry: the store is unreachable; may be repeated.
            Fenced: a newer learner is at work.
        """
        versions = self._listed(names.version_key(self._job_uid, 0))
        there = {_sequence(key): key for key in versions}
        if not there:
            return 0
        # The newest one says which number comes next, whatever anybody thinks of it.
        whole = {one for one in there if kept.keeps(one)} | {max(there)}
        try:
            between = steps(whole, there, self._names)
            self._named = {one: self._names(one) for one in whole | between}
        except (Missing, Reject, Untrusted) as fault:
            log.error("%s; nothing goes until it is restored or removed", fault)  # noqa: TRY400
            return 0
        needed = {there[one] for one in self._named}
        for one, named in self._named.items():
            needed |= named.deltas if one in between else named.deltas | named.files
        files = self._listed(names.blob_key(self._job_uid, "-"))
        useless = {*versions, *files} - needed
        ripe_, self._since = ripe(useless, self._since, now, self._grace)
        # A manifest first: what it names must be there as long as it is.
        manifests = set(versions)
        going = sorted(ripe_, key=lambda key: key not in manifests)[:MOST]
        for key in going:
            office.guard(self._store, self._job_uid, self._epoch)
            self._store.delete(key)
            del self._since[key]
            kind = "manifest" if key in manifests else "blob"
            self._metrics.collected(kind).inc()
        if going:
            log.info("%d objects of versions that nobody wants are gone", len(going))
        return len(going)

    def _listed(self, key: str) -> list[str]:
        return self._store.list(key.rsplit("/", 1)[0])

    def _names(self, sequence: int) -> Named:
        """A manifest never changes, so each is read once. Raises as `Store.get` and `Untrusted`."""
        if sequence not in self._named:
            key = names.version_key(self._job_uid, sequence)
            try:
                manifest = Manifest.open(self._store.get(key))
            except Untrusted as fault:
                raise Untrusted(f"{key} cannot be read: {fault}") from fault
            self._named[sequence] = Named(
                frozenset(self._blob(file) for file in manifest.files),
                frozenset(self._blob(file) for one in manifest.deltas for file in one.files),
                frozenset(one.base.sequence for one in manifest.deltas),
            )
        return self._named[sequence]

    def _blob(self, file: FileRef) -> str:
        return names.blob_key(self._job_uid, file.digest)


def _sequence(key: str) -> int:
    return int(key.rsplit("/", 1)[1].removesuffix(".json"))
