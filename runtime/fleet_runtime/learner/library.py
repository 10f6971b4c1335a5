"""Where the bytes of every episode lie, so that the replay can ask for one again by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fleet_contract.errors import FleetError
from fleet_runtime.experience import codec
from fleet_runtime.learner.journal import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.journal import Journal

Source: TypeAlias = "Place | Callable[[], bytes]"


class Library:
    """Episode id → payload. Written by ingest and the offline stage, read by the training thread.

    An entry is a few hundred bytes; a dictionary's single operations need no lock.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._sources: dict[str, Source] = {}

    def __contains__(self, episode_id: object) -> bool:
        return episode_id in self._sources

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, episode_id: str, source: Source) -> None:
        """Remember an episode: a place in the journal, or what reads its file."""
        self._sources[episode_id] = source

    def position(self, episode_id: str) -> int:
        """Of the journal segment it lies in, 0 where it lies in none."""
        source = self._sources.get(episode_id)
        return source.position if isinstance(source, Place) else 0

    def forget(self, before: int) -> None:
        """What lies in journal segments before this position."""
        for episode_id, source in list(self._sources.items()):
            if isinstance(source, Place) and source.position < before:
                del self._sources[episode_id]

    def load(self, episode_id: str) -> Episode:
        """The episode, decoded.

        Raises:
            FleetError: unknown, gone or rotten; `Retry` among them: the store is unreachable.
        """
        source = self._sources.get(episode_id)
        if source is None:
            raise FleetError(f"episode {episode_id!r} is in neither journal nor datasets")
        data = self._journal.payload(source) if isinstance(source, Place) else source()
        return codec.decode(data)


class Unreadable(FleetError):
    """An indexed episode's bytes are gone or rotten."""

    def __init__(self, episode_id: str, why: Exception) -> None:
        super().__init__(f"episode {episode_id} cannot be read again: {why}")
        self.episode_id = episode_id
