"""From ingest to training: journaled episodes waiting to be indexed, and nothing else shared.

The event loop puts, the training thread takes; both wait for each other without spinning, and the
decoded episodes between them are bounded in bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_contract.messages import Record
    from fleet_runtime.experience.types import Episode

ROOM_BYTES = 256 * 2**20
"""Decoded bytes in flight before ingest stops pulling; the broker and the robots' disks hold on."""


class Admitted(NamedTuple):
    """One episode in the journal."""

    record: Record
    episode: Episode
    position: int  # of its segment


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
            self._bytes += sum(item.episode.nbytes for item in admitted)
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
            self._bytes -= sum(item.episode.nbytes for item in taken)
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
