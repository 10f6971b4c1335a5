"""Events on their way to the operator: kept on disk, in order, until the broker has stored them.

An event is small and of use only soon, so it is not flushed to the disk one by one: a power cut may
lose the last few, kill -9 loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from fleet_contract.errors import Reject, Retry
from fleet_contract.names import Channel, Stream
from fleet_runtime.robot.files import TEMPORARY, remedy, remove_unfinished
from fleet_runtime.waiting import event_within
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_contract.messages import Event
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.wire import Wire

log = logging.getLogger(__name__)

MOST = 10_000
"""Events kept while the broker is away; the oldest go first."""


class Outbox:
    """The events that have not been stored yet. `put` may be called from any thread."""

    def __init__(self, who: Identity, folder: Path) -> None:
        """`folder` is this job's, on the robot's disk."""
        self._who = who
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        self._guard = threading.Lock()
        self._waiting = sorted(int(path.stem) for path in folder.glob("*.json"))
        self._next = self._waiting[-1] + 1 if self._waiting else 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._empty = asyncio.Event()

    def put(self, event: Event) -> None:
        """Keep an event and send it as soon as that works. Never raises: work must go on."""
        with self._guard:
            path = self._path(self._next)
            try:
                temporary = path.with_name(TEMPORARY + path.name)
                temporary.write_bytes(event.encode())
                temporary.rename(path)
            except OSError as fault:
                log.error("event %s is lost: %s; %s", event.kind, fault, remedy(fault))  # noqa: TRY400
                return
            self._waiting.append(self._next)
            self._next += 1
            if len(self._waiting) > MOST:
                self._path(self._waiting.pop(0)).unlink(missing_ok=True)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the program ends: the next start sends it
                self._loop.call_soon_threadsafe(self._wake)

    async def run(self, wire: Wire) -> None:
        """Until cancelled."""
        self._loop = asyncio.get_running_loop()
        pauses = backoff()
        while True:
            self._news.clear()
            if not self._waiting:
                self._empty.set()
                await self._news.wait()
                continue
            number = self._waiting[0]
            try:
                data = await asyncio.to_thread(self._path(number).read_bytes)
                subject, stream = self._who.subject(Channel.EVENT), self._who.stream(Stream.EVENTS)
                await wire.store(subject, data, stream=stream)
            except Retry as fault:
                log.info("events wait: %s", fault)
                await wire.ready()
                await anext(pauses)
                continue
            except (OSError, Reject) as fault:
                log.error("event %d is dropped: %s", number, fault)  # noqa: TRY400
            pauses = backoff()
            with self._guard:
                if self._waiting and self._waiting[0] == number:
                    self._waiting.pop(0)
                    # Else it is sent again at the next start, and counts once.
                    with contextlib.suppress(OSError):
                        self._path(number).unlink(missing_ok=True)

    async def flushed(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until every event is stored; False after `timeout` seconds."""
        self._wake()
        return await event_within(self._empty, timeout)

    def _wake(self) -> None:
        self._empty.clear()
        self._news.set()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.json"
