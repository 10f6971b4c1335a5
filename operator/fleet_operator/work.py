"""One keyed queue: each key is worked on by one worker at a time, however often it is added."""

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple

from fleet_contract.errors import Fenced, Retry

BACKOFF = 0.5  # seconds before the first retry; doubles
BACKOFF_MAX = 15.0  # what came back is used soon; the load is one request per broken object
SPACING = 0.25  # seconds between two turns of one key: what arrives meanwhile is seen in one
REST = 4.0  # of a turn's own length, that its key rests at least: a large job, a fifth of a worker
REST_MAX = 5.0  # seconds of it

logger = logging.getLogger(__name__)


class Key(NamedTuple):
    """One object."""

    kind: str
    name: str


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Works on one key; returns the seconds until it must be looked at again, None: never."""

Heap = list[tuple[float, Key]]


class WorkQueue:
    """Level-triggered work: a key says that something changed, not what."""

    def __init__(
        self, reconcile: Reconcile, *, workers: int, first: frozenset[str] = frozenset()
    ) -> None:
        """``first``: kinds whose keys, once due, do not wait behind those of others."""
        self._reconcile = reconcile
        self._workers = workers
        self._due: dict[Hashable, float] = {}
        self._first = first
        self._heaps: tuple[Heap, Heap] = ([], [])  # of these kinds, and of all others
        self._busy: set[Key] = set()
        self._rests_until: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Look at the key in ``delay`` seconds, or earlier where that is due already."""
        due = asyncio.get_running_loop().time() + delay
        due = max(due, self._rests_until.get(key, 0.0))
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heaps[key.kind not in self._first], (due, key))
            self._changed.set()

    @property
    def depth(self) -> int:
        """Keys that are due or worked on; from any thread."""
        now = time.monotonic()  # as the loop's clock
        return sum(due <= now for due in list(self._due.values())) + len(self._busy)

    def __len__(self) -> int:
        """Keys that wait or are worked on, resyncs included."""
        return len(self._due) + len(self._busy)

    async def run(self) -> None:
        """Works until cancelled."""
        slots = asyncio.Semaphore(self._workers)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await slots.acquire()
                key = await self._next()
                self._busy.add(key)
                tasks.create_task(self._turn(key, slots), name=f"{key.kind}/{key.name}")

    async def _next(self) -> Key:
        while True:
            self._changed.clear()
            waits = []
            for heap in self._heaps:
                found, wait = self._first_of(heap)
                if found is not None:
                    del self._due[found]
                    return found
                waits += [] if wait is None else [wait]
            wait = min(waits, default=None)
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _first_of(self, heap: Heap) -> tuple[Key | None, float | None]:
        """The key that is due and nobody works on, taken out, or the seconds until there is one."""
        now = asyncio.get_running_loop().time()
        held, found, wait = [], None, None
        while heap and found is None and wait is None:
            due, key = heap[0]
            if self._due.get(key) != due:
                heapq.heappop(heap)  # an earlier turn took it along
            elif due > now:
                wait = due - now
            elif key in self._busy:
                held.append(heapq.heappop(heap))
            else:
                heapq.heappop(heap)
                found = key
        for entry in held:
            heapq.heappush(heap, entry)
        return found, wait

    async def _turn(self, key: Key, slots: asyncio.Semaphore) -> None:
        again: float | None
        clock = asyncio.get_running_loop().time
        began, rest = clock(), SPACING
        try:
            again = await self._reconcile(key)
            self._failures.pop(key, None)
            rest = min(max(SPACING, REST * (clock() - began)), REST_MAX)
        except (Retry, Fenced) as fault:
            again = self._backoff(key)
            logger.warning("%s %s: %s; again in %.1f s", key.kind, key.name, fault, again)
        except Exception:
            # A fault of ours must not take the other objects down with it.
            again = self._backoff(key)
            logger.exception("%s %s: again in %.1f s", key.kind, key.name, again)
        finally:
            self._busy.discard(key)
            self._changed.set()
            slots.release()
        self._rests_until[key] = clock() + rest
        if (due := self._due.pop(key, None)) is not None:
            self.add(key, due - clock())  # what came meanwhile rests as well
        if again is None:
            if key not in self._due:
                self._rests_until.pop(key, None)
        else:
            self.add(key, again)

    def _backoff(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(BACKOFF * 2 ** min(failures - 1, 10), BACKOFF_MAX)
        return delay * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
