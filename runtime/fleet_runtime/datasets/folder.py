"""Our own datasets: folders of `*.episode` files in the codec's format, and nothing beside them."""

from __future__ import annotations

import dataclasses
import functools
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet_contract.errors import Reject
from fleet_runtime.artifacts import Missing, Store
from fleet_runtime.datasets.items import Absent, Dataset, Faulty, Item
from fleet_runtime.experience import codec
from fleet_runtime.experience.images import QUALITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet_runtime.experience.types import Episode

KIND = "episodes"
SUFFIX = ".episode"


def dataset(
    store: Store, folder: str, keys: Iterable[str], tasks: Mapping[str, str] = MappingProxyType({})
) -> Dataset:
    """The dataset of these keys, in their order; what does not end in `.episode` is not looked at.

    `tasks` renames what an episode calls its task.

    Raises:
        Absent: none does.
    """
    items = [item(store, key, tasks) for key in keys if key.endswith(SUFFIX)]
    url = f"{store.url}/{folder}"
    if not items:
        raise Absent(
            f"{url} holds neither a file that ends in {SUFFIX} nor a LeRobotDataset's "
            "meta/info.json; put one of them there, or name another folder"
        )
    return Dataset(url, KIND, items)


def item(store: Store, key: str, tasks: Mapping[str, str]) -> Item:
    """One file."""
    where = f"{store.url}/{key}"
    read = functools.partial(_read, store, key, where)
    return Item(where, lambda: _decode(read(), where, tasks), read)


def _read(store: Store, key: str, where: str) -> bytes:
    try:
        return store.get(key)
    except Missing as fault:
        raise Absent(f"{where} is gone while it was read") from fault


def _decode(data: bytes, where: str, tasks: Mapping[str, str]) -> Episode:
    try:
        episode = codec.decode(data)
        return dataclasses.replace(episode, task=tasks.get(episode.task, episode.task))
    except Reject as fault:
        raise Faulty(f"{where}: {fault}; record it anew, or take the file away") from fault


def write(
    store: Store,
    folder: str,
    episodes: Iterable[Episode],
    written: list[str],
    quality: int | None = QUALITY,
) -> int:
    """Store episodes as files named after their ids; how many. Each key goes to `written`.

    `quality` is that of camera frames as JPEG; None keeps them lossless.
    """
    count = 0
    for episode in episodes:
        key = f"{folder}/{safe(episode.id)}{SUFFIX}"
        written.append(key)
        store.create(key, codec.encode(episode, quality=quality))
        count += 1
    return count


def safe(name: str) -> str:
    """A name as part of an object's key: letters, digits and `_.=-`, and no dot in front."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.=-") else "-" for c in name)
    return kept.lstrip("-.=") or "episode"
