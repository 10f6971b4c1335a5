"""Reading that does not give up: for ranks whose companions wait for each of their updates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self, TypeVar

from fleet_contract.errors import Retry
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.crew import Deserted
from fleet_runtime.learner.library import Unreadable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.replay.index import ReplayIndex

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two attempts."""

Result = TypeVar("Result")


def patiently(work: Callable[[], Result], stop: threading.Event) -> Result:
    """Its result once the store answers. Raises `Deserted` at stop: this rank leaves the others."""
    while True:
        try:
            return work()
        except Retry as fault:
            log.warning("this rank waits for the store: %s", fault)
            if stop.wait(PAUSE):
                raise Deserted("asked to stop while the store is away") from fault


class SteadyStore(Store):
    """A store that is read patiently."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(url)
        self._stop = stop

    def get(self, key: str, digest: str | None = None, **limits: int) -> bytes:
        """As in `Store`, but for `Retry`."""
        plain = super().get
        return patiently(lambda: plain(key, digest, **limits), self._stop)


class SteadyFeed:
    """Batches whatever happens: an episode that cannot be read again is left out."""

    def __init__(self, batches: Iterator[Batch], index: ReplayIndex, stop: threading.Event) -> None:
        self._batches = batches
        self._index = index
        self._stop = stop

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        while True:
            try:
                return patiently(lambda: next(self._batches), self._stop)
            except Unreadable as fault:
                log.error("%s; the episode is left out", fault)  # noqa: TRY400
                self._index.drop(fault.episode_id)
