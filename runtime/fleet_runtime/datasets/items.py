"""What a dataset is to its readers: episodes that can be fetched one by one, and how they fail."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet_contract.errors import FleetError, Misconfigured
from fleet_runtime.artifacts import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_runtime.experience.types import Episode


class Faulty(Misconfigured):
    """A dataset says what it must not. The words name file, field and what was expected."""


class Absent(FleetError):
    """A file or folder is not there, or not yet: the copy may still be under way."""


class Item(NamedTuple):
    """One episode of a dataset."""

    where: str  # the file, and the episode's number where a file holds several
    load: Callable[[], Episode]  # raises Faulty, Absent, Retry
    read: Callable[[], bytes]  # the same in the codec's bytes

    def __str__(self) -> str:
        return self.where


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A folder with episodes in it."""

    url: str
    kind: str  # "episodes" or "lerobot"
    items: Sequence[Item]
    fps: float | None = None  # what the dataset declares; None where it declares nothing
    ignored: tuple[str, ...] = ()  # features that have no place in an episode


def open_folder(url: str) -> tuple[Store, str]:
    """The store a folder lies in, and the folder's name there; ValueError for no such thing."""
    parent, _, folder = url.rstrip("/").rpartition("/")
    if not folder or parent.endswith(":/"):
        raise ValueError(f"{url!r} names no folder; write one like file:///data/demos")
    return Store(parent or "/"), folder


def rate(episode: Episode) -> float | None:
    """Steps per second by the robot's own clock, the median; None where it stands still."""
    steps = np.diff(episode.time)
    middle = float(np.median(steps)) if len(steps) else 0.0
    return 1 / middle if middle > 0 else None
