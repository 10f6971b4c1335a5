"""From ingest to training: journaled episodes waiting to be indexed, and nothing else shared.

The event loop puts, the training thread takes; both wait for each other without spinning, and the
decoded episodes between them are bounded in bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import FleetError, Reject, Retry
from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner.admission import trains
from fleet_runtime.learner.intake import News, keeps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_contract.messages import Record
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.intake import Change
    from fleet_runtime.learner.library import Library
    from fleet_runtime.replay.index import ReplayIndex

log = logging.getLogger(__name__)

ROOM_BYTES = 256 * 2**20
"""Decoded bytes in flight before ingest stops pulling; the broker and the robots' disks hold on."""


class Admitted(NamedTuple):
    """What the journal holds anew of an episode."""

    record: Record
    episode: Episode | None  # or the part of it; None where it ended without having become whole
    position: int  # of the journal segment that says so
    news: News = News.WHOLE

    @property
    def nbytes(self) -> int:
        """Decoded bytes."""
        return self.episode.nbytes if self.episode else 0

    @property
    def counts(self) -> bool:
        """Whether an episode was lived through with it."""
        return self.news is not News.PART and self.record.last and trains(self.record)

    def enter(self, index: ReplayIndex) -> None:
        """Make it sampleable. Raises `Reject` or ValueError where it cannot be."""
        if self.episode is None:
            index.end(self.record.episode_id, keep=keeps(self.record))
        elif self.news is News.PART:
            index.add_part(self.episode, self.record.segment, Side.ONLINE)
        else:
            try:
                index.add(self.episode, Side.ONLINE)
            except Reject:
                index.end(self.record.episode_id, keep=keeps(self.record))
                raise


def admitted(
    change: Change, position: int, library: Library, judged: Episode | None = None
) -> Admitted | None:
    """A change with what it is about, decoded; `judged` where that was done already.

    None where the bytes are of no use, which is told. Raises `Retry`.
    """
    record, news, episode = change.record, change.news, judged
    try:
        if episode is not None or news is News.ENDED:
            pass
        elif change.inline:
            episode = codec.decode(change.inline)
        elif news is News.PART:
            episode = library.load_part(record.episode_id, record.segment)
        else:
            episode = library.load(record.episode_id)
    except Retry:
        raise
    except (FleetError, ValueError) as fault:
        log.error("episode %s cannot train: %s", record.episode_id, fault)  # noqa: TRY400
        if news is not News.JOINED:
            return None
    return Admitted(record, episode, position, news if episode else News.ENDED)


class Handoff:
    """A bounded queue between the event loop and one thread."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room = room_bytes
        self._queue: deque[Admitted] = deque()
        self._bytes = 0
        self._full = False
        self._changed = threading.Condition()
        self._woken = False
        self._space: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, admitted: Sequence[Admitted]) -> None:
        """Hand over, at once and whatever the room; the one that puts then awaits `room`."""
        if self._space is None:
            self._loop, self._space = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._queue.extend(admitted)
            self._bytes += sum(item.nbytes for item in admitted)
            self._full = self._bytes > self._room
            if self._full:
                self._space.clear()
            else:
                self._space.set()
            self._changed.notify_all()

    async def room(self) -> None:
        """Returns once what waits is within bounds."""
        if self._space is not None:
            await self._space.wait()

    def take(self, most: int = 8) -> list[Admitted]:
        """Up to `most` of what waits, oldest first; at once.

        A few at a time, so that a burst of episodes never holds up an update for long.
        """
        if not self._queue:
            return []
        with self._changed:
            taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            self._bytes -= sum(item.nbytes for item in taken)
            freed = self._full and self._bytes <= self._room
            self._full = self._full and not freed
        # Only then: waking the event loop costs this thread its turn, for milliseconds.
        if freed and self._loop is not None and self._space is not None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended before this thread
                self._loop.call_soon_threadsafe(self._space.set)
        return taken

    def wait(self, timeout: float) -> None:
        """Block the training thread until something was handed over, `wake`, or `timeout` s."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._woken, timeout)
            self._woken = False

    def wake(self) -> None:
        """End a `wait` early: the program is stopping."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
