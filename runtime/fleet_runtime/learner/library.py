"""Where the bytes of every episode lie, so that the replay can ask for one again by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fleet_contract.errors import FleetError
from fleet_runtime.experience import codec
from fleet_runtime.experience.parts import joined
from fleet_runtime.learner.journal import Place
from fleet_runtime.learner.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import Record
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.journal import Journal

Source: TypeAlias = "Place | tuple[Place, ...] | Callable[[], bytes]"


class Library:
    """Episode id → payload. Written by ingest and the offline stage, read by the training thread.

    An entry is a few hundred bytes, a part as much; a dictionary's single operations need no lock.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._sources: dict[str, Source] = {}
        self._parts: dict[str, dict[int, Place]] = {}  # of episodes that are not whole
        self.running = Running()

    def __contains__(self, episode_id: object) -> bool:
        return episode_id in self._sources

    def __len__(self) -> int:
        return len(self._sources)

    def has(self, record: Record) -> bool:
        """Whether its episode is known already, or the part of it that it is."""
        if record.episode_id in self._sources:
            return True
        parts = self._parts.get(record.episode_id)
        return parts is not None and (record.whole or record.segment in parts)

    def add(self, episode_id: str, source: Source) -> None:
        """Remember an episode: a place in the journal, or what reads its file."""
        self._sources[episode_id] = source

    def add_part(self, episode_id: str, number: int, place: Place) -> None:
        """Remember a part of an episode."""
        self._parts.setdefault(episode_id, {})[number] = place

    def join(self, episode_id: str, count: int) -> bool:
        """Its parts from 0 to `count` are the episode from now on; False where one is missing."""
        parts = self._parts.get(episode_id, {})
        places = tuple(parts[number] for number in range(count) if number in parts)
        if not count or len(places) != count:
            return False
        self._sources[episode_id] = places
        self._parts.pop(episode_id, None)
        return True

    def position(self, episode_id: str) -> int:
        """Of the first journal segment it lies in, 0 where it lies in none."""
        places = self._places(episode_id)
        return min((place.position for place in places), default=0)

    def forget(self, before: int) -> None:
        """What lies in journal segments before this position, whole or with one of its parts."""
        for known in (self._sources, self._parts):
            for episode_id in list(known):
                places = self._places(episode_id)
                if any(place.position < before for place in places):
                    known.pop(episode_id, None)

    def load(self, episode_id: str) -> Episode:
        """The episode, decoded.

        Raises:
            FleetError: unknown, gone, rotten or of parts that do not fit each other; `Retry` among
                them: the store is unreachable.
        """
        source = self._sources.get(episode_id)
        if source is None:
            raise FleetError(f"episode {episode_id!r} is in neither journal nor datasets")
        if isinstance(source, tuple):
            return joined(map(self._decoded, source))
        return self._decoded(source)

    def load_part(self, episode_id: str, number: int) -> Episode:
        """A part of an episode, decoded, whether it has become whole or not; raises as `load`."""
        place = self._parts.get(episode_id, {}).get(number)
        if place is None:
            source = self._sources.get(episode_id)
            if not isinstance(source, tuple) or number >= len(source):
                raise FleetError(f"part {number} of episode {episode_id!r} is not in the journal")
            place = source[number]
        return self._decoded(place)

    def _decoded(self, source: Place | Callable[[], bytes]) -> Episode:
        data = self._journal.payload(source) if isinstance(source, Place) else source()
        return codec.decode(data)

    def _places(self, episode_id: str) -> tuple[Place, ...]:
        source = self._sources.get(episode_id)
        if isinstance(source, Place):
            return (source,)
        if isinstance(source, tuple):
            return source
        return tuple(self._parts.get(episode_id, {}).values())


class Unreadable(FleetError):
    """An indexed episode's bytes are gone or rotten."""

    def __init__(self, episode_id: str, why: Exception) -> None:
        super().__init__(f"episode {episode_id} cannot be read again: {why}")
        self.episode_id = episode_id
