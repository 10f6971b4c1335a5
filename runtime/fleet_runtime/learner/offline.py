"""Demonstrations from before the fleet ran: folders of `*.episode` files in the codec's format."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import FleetError, Reject
from fleet_runtime.artifacts import Missing, Store
from fleet_runtime.experience import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from fleet_runtime.experience.types import Episode

log = logging.getLogger(__name__)

SUFFIX = ".episode"
PROGRESS = 500
"""Files between two lines of progress."""


class Demonstration(NamedTuple):
    """An episode and what reads its bytes again."""

    id: str
    episode: Episode | None
    read: Callable[[], bytes]

    def shelved(self) -> Demonstration:
        """The same without the decoded steps."""
        return self._replace(episode=None)

    def unfilmed(self) -> Demonstration:
        """The same without its frames; of each camera only the shape is left."""
        if self.episode is None or not self.episode.images:
            return self
        none = {name: frames[:0].copy() for name, frames in self.episode.images.items()}
        return self._replace(episode=dataclasses.replace(self.episode, images=none))

    def whole(self) -> Episode:
        """The episode with everything, decoded again where something was left behind."""
        if self.episode is None or self.episode.images:
            return codec.decode(self.read())
        return self.episode


def open_folder(url: str) -> tuple[Store, str]:
    """The store a folder lies in, and the folder's name there; ValueError for no such thing."""
    parent, _, folder = url.rstrip("/").rpartition("/")
    if not folder or parent.endswith(":/"):
        raise ValueError(f"{url!r} names no folder; write one like file:///data/demos")
    return Store(parent or "/"), folder


def located(uri: str, storage_url: str) -> str:
    """Where a dataset lies: as it says, or below the job's own store when it names no place."""
    absolute = "://" in uri or uri.startswith("/")
    return uri if absolute else f"{storage_url.rstrip('/')}/{uri}"


def demonstrations(
    urls: Sequence[str],
    tasks: Collection[str],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Demonstration]:
    """Every readable episode below the URLs, each id once, in the files' order.

    A file that cannot be used is named in a warning and left out; its neighbours go on. Ends early
    once `stopped` says so.

    Raises:
        FleetError: there are URLs, and nothing in them can be used; the message says why.
        Retry: a store is unreachable.
        ValueError: a URL nothing here can serve.
    """
    seen: set[str] = set()
    refused: list[str] = []
    for url in urls:
        store, folder = open_folder(url)
        keys = [key for key in store.list(folder) if key.endswith(SUFFIX)]
        log.info("dataset %s: %d episode files", url, len(keys))
        for number, key in enumerate(keys, start=1):
            if stopped():
                return
            if number % PROGRESS == 0:
                log.info("dataset %s: %d of %d files read", url, number, len(keys))
            read = functools.partial(store.get, key)
            try:
                episode = codec.decode(read()).validate(tasks=tasks)
            except (Reject, Missing) as fault:
                log.warning("%s/%s is left out: %s", store.url, key, fault)
                refused.append(f"{key}: {fault}")
                continue
            if episode.id in seen:
                log.warning("%s/%s repeats episode %s; left out", store.url, key, episode.id)
                continue
            seen.add(episode.id)
            yield Demonstration(episode.id, episode, read)
    if urls and not seen:
        why = refused[0] if refused else f"no file ends in {SUFFIX}"
        raise FleetError(
            f"no episode of {', '.join(urls)} can be used ({why}): point spec.offline.datasets at "
            f"folders of {SUFFIX} files whose tasks are among {sorted(tasks)}"
        )
