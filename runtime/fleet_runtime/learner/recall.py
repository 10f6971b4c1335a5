"""What a run has to train on: read from datasets and journal, remembered by where it lies."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import FleetError, Misconfigured, Reject, Retry
from fleet_runtime.experience.batch import Side, by_name
from fleet_runtime.learner.handoff import admitted
from fleet_runtime.learner.intake import absorb
from fleet_runtime.learner.journal import Journal
from fleet_runtime.learner.library import Library, Unreadable
from fleet_runtime.learner.offline import Demonstration, demonstrations, located
from fleet_runtime.learner.receipts import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fleet_contract.agents import LearnerConfig
    from fleet_runtime.artifacts import Store
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.handoff import Admitted
    from fleet_runtime.learner.journal import Segment
    from fleet_runtime.learner.retention import Base
    from fleet_runtime.replay.index import ReplayIndex

log = logging.getLogger(__name__)

MEASURED_BYTES = 2**30
"""Decoded demonstrations, frames aside, held to measure the statistics; of more, the first."""


class Experience(NamedTuple):
    """What the journal tells; a learner's training thread rebuilds it and hands it to ingest."""

    journal: Journal
    ledger: Ledger
    library: Library

    @classmethod
    def since(cls, base: Base, store: Store, job_uid: str, epoch: int) -> Experience:
        """Before anything but the journal's base was read."""
        journal = Journal(store, job_uid, epoch, base.position)
        return cls(journal, Ledger(base.spools), Library(journal))

    def admitted(self, segments: Iterable[Segment]) -> Iterator[Admitted]:
        """What is new in each segment, which is thereby settled. Raises `Retry`."""
        for segment in segments:
            for change in absorb(segment, self.ledger, self.library):
                found = admitted(change, segment.position, self.library)
                if found is not None:
                    yield found

    def load(self, episode_id: str) -> Episode:
        """An episode read again. Raises `Retry`, or `Unreadable` where that will never help."""
        return _read(episode_id, lambda: self.library.load(episode_id))

    def load_part(self, episode_id: str, number: int) -> Episode:
        """A part of one read again; raises as `load`."""
        return _read(episode_id, lambda: self.library.load_part(episode_id, number))


def _read(episode_id: str, read: Callable[[], Episode]) -> Episode:
    try:
        return read()
    except Retry:
        raise
    except (FleetError, Reject) as fault:
        raise Unreadable(episode_id, fault) from fault


def read_demonstrations(
    config: LearnerConfig,
    storage_url: str,
    library: Library,
    spaces: Spaces | None,
    stopped: Callable[[], bool],
) -> list[Demonstration]:
    """The job's datasets; beyond `MEASURED_BYTES` without their steps. Raises as `demonstrations`.

    `spaces` is the interface, where something told it already.
    """
    found: list[Demonstration] = []
    held = 0
    urls = [located(dataset.uri, storage_url) for dataset in config.offline.datasets]
    read = demonstrations(urls, config.tasks, spaces, stopped)
    for one in map(Demonstration.unfilmed, read):
        held += one.episode.nbytes if one.episode else 0
        found.append(one if held <= MEASURED_BYTES else one.shelved())
        library.add(one.id, one.item.read)
    return found


def index_demonstrations(index: ReplayIndex, found: Sequence[Demonstration]) -> None:
    """Make them sampleable. Raises `Misconfigured` where none of their steps is, and `Retry`."""
    outcomes: Counter[str] = Counter()
    for one in found:
        episode = one.whole()
        outcomes[episode.outcome] += 1
        try:
            index.add(episode, Side.OFFLINE)
        except Reject as fault:
            raise Misconfigured(f"spec.offline.datasets: {one.item.where}: {fault}") from fault
    if found and not index.eligible()[:, Side.OFFLINE].any():
        wanted = ", ".join(source.value for source in by_name(index.spec.offline))
        raise Misconfigured(
            f"spec.offline.datasets: nothing can be learned from {len(found)} demonstrations "
            f"(outcomes {dict(outcomes)}): the algorithm takes {wanted}; name other datasets or "
            "another spec.algorithm"
        )
