"""What a run has to train on: read from datasets and journal, remembered by where it lies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import FleetError, Misconfigured, Reject, Retry
from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner import build
from fleet_runtime.learner.intake import absorb
from fleet_runtime.learner.journal import Journal
from fleet_runtime.learner.library import Library, Unreadable
from fleet_runtime.learner.offline import Demonstration, demonstrations, located, open_folder
from fleet_runtime.learner.receipts import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fleet_contract.agents import LearnerConfig
    from fleet_runtime.artifacts import Store
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.journal import Segment
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
    def empty(cls, store: Store, job_uid: str, epoch: int) -> Experience:
        """Before anything was read."""
        journal = Journal(store, job_uid, epoch)
        return cls(journal, Ledger(), Library(journal))

    def episodes(self, segments: Iterable[Segment]) -> Iterator[Episode]:
        """The new episodes of each segment, which is thereby settled. Raises `Retry`."""
        for segment in segments:
            for entry, place in absorb(segment, self.ledger, self.library):
                try:
                    if place.uri is None:
                        yield codec.decode(entry.payload)
                    else:
                        yield self.library.load(entry.record.episode_id)
                except Retry:
                    raise
                except (FleetError, ValueError) as fault:
                    log.error("episode %s cannot train: %s", entry.record.episode_id, fault)  # noqa: TRY400

    def load(self, episode_id: str) -> Episode:
        """An episode read again. Raises `Retry`, or `Unreadable` where that will never help."""
        try:
            return self.library.load(episode_id)
        except Retry:
            raise
        except (FleetError, Reject) as fault:
            raise Unreadable(episode_id, fault) from fault


def read_demonstrations(
    config: LearnerConfig, storage_url: str, library: Library, stopped: Callable[[], bool]
) -> list[Demonstration]:
    """The job's datasets; beyond `MEASURED_BYTES` without their steps.

    Raises `Misconfigured`, and as `demonstrations`.
    """
    found: list[Demonstration] = []
    held = 0
    urls = [located(dataset.uri, storage_url) for dataset in config.offline.datasets]
    for index, url in enumerate(urls):
        try:
            open_folder(url)
        except ValueError as fault:
            raise Misconfigured(f"spec.offline.datasets.{index}.uri: {fault}") from fault
    for one in map(Demonstration.unfilmed, demonstrations(urls, build.tasks(config), stopped)):
        held += one.episode.nbytes if one.episode else 0
        found.append(one if held <= MEASURED_BYTES else one.shelved())
        library.add(one.id, one.read)
    return found


def index_demonstrations(index: ReplayIndex, found: Iterable[Demonstration]) -> None:
    """Make them sampleable; one that does not fit is named and left out. Raises `Retry`."""
    for one in found:
        try:
            index.add(one.whole(), Side.OFFLINE)
        except Retry:
            raise
        except (FleetError, ValueError) as fault:
            log.warning("demonstration %s is left out: %s", one.id, fault)
