"""Demonstrations from before the fleet ran: a dataset is read whole, or refused in words.

What is not there (yet) ends the learner, which is started again and reads what has come since.
What is there and wrong is `Misconfigured`. Left out and counted are only episodes of tasks that
the job does not have, and those that were read already.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.errors import Misconfigured
from fleet_contract.parameters import unknown
from fleet_runtime.datasets.features import Defaults
from fleet_runtime.datasets.items import Absent, Dataset, Faulty
from fleet_runtime.datasets.reading import dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fleet_contract.resources.learning import Task
    from fleet_runtime.datasets.items import Item
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Episode

log = logging.getLogger(__name__)

PROGRESS = 500
"""Episodes between two lines of progress."""


class Demonstration(NamedTuple):
    """An episode and what reads it again."""

    id: str
    episode: Episode | None
    item: Item

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
        """The episode with everything, read again where something was left behind."""
        if self.episode is None or self.episode.images:
            return self.item.load()
        return self.episode


def located(uri: str, storage_url: str) -> str:
    """Where a dataset lies: as it says, or below the job's own store when it names no place."""
    absolute = "://" in uri or uri.startswith("/")
    return uri if absolute else f"{storage_url.rstrip('/')}/{uri}"


def demonstrations(
    urls: Sequence[str],
    tasks: Sequence[Task],
    spaces: Spaces | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Demonstration]:
    """Every episode below the URLs of the job's tasks, each id once, in the datasets' order.

    A dataset may call a task by its name or by its instruction. Episodes must have the shapes of
    `spaces`, or where nothing told them those of the first one. Ends early once `stopped` says so.

    Raises:
        Misconfigured: a dataset is faulty, or does not fit the job or its neighbours; the message
            names field, file and expectation.
        Absent: a file or folder is not there.
        Retry: a store is unreachable.
    """
    names = {task.name for task in tasks}
    words = {task.instruction: task.name for task in tasks if task.instruction} | {
        name: name for name in names
    }
    opened = [_opened(field_of(i), url, Defaults(tasks=words)) for i, url in enumerate(urls)]
    _demand_one_rate(opened)
    shape, census = Shape(spaces), Census(names)
    for index, found in enumerate(opened):
        log.info("dataset %s (%s): %d episodes", found.url, found.kind, len(found.items))
        for number, item in enumerate(found.items):
            if stopped():
                return
            if number and number % PROGRESS == 0:
                log.info("dataset %s: %d of %d read", found.url, number, len(found.items))
            episode = _loaded(field_of(index), item)
            if census.takes(episode):
                shape.demand(episode, f"{field_of(index)}: {item.where}")
                yield Demonstration(episode.id, episode, item)
        census.close(found, field_of(index))
    if urls and (lacking := sorted(names - census.seen)):
        log.warning("no demonstration of %s: robots alone will show them", ", ".join(lacking))


class Census:
    """Which episodes are the job's, each once, and how many are not."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self.seen: set[str] = set()  # tasks with a demonstration
        self._ids: set[str] = set()
        self._others: Counter[str] = Counter()  # of one dataset: foreign task → episodes
        self._repeated = 0  # … and those read before

    def takes(self, episode: Episode) -> bool:
        """Whether it is one of the job's that was not there yet."""
        if episode.task not in self._names:
            self._others[episode.task] += 1
            return False
        if episode.id in self._ids:
            self._repeated += 1
            return False
        self._ids.add(episode.id)
        self.seen.add(episode.task)
        return True

    def close(self, found: Dataset, field: str) -> None:
        """At the end of a dataset: tell what was left out, or raise Faulty where that is all."""
        others, self._others = self._others, Counter()
        repeated, self._repeated = self._repeated, 0
        if others and others.total() == len(found.items):
            raise Faulty(f"{field}: {found.url}: {_strangers(others, self._names)}")
        if others:
            log.warning("dataset %s: left out, of other tasks: %s", found.url, dict(others))
        if repeated:
            log.warning("dataset %s: left out, read before: %d", found.url, repeated)


class Shape:
    """How wide observations and actions are, and which cameras there are.

    As the job says, or as in the first episode; a camera more than that does no harm.
    """

    def __init__(self, spaces: Spaces | None) -> None:
        self._wanted = (
            {
                "observation": [spaces.observation_size],
                "action": [spaces.action_size],
                **_cameras(spaces.images),
            }
            if spaces
            else None
        )
        self._whose = "the job's policy has"

    def demand(self, episode: Episode, where: str) -> None:
        """Raises Faulty for an episode of another shape."""
        found = {
            "observation": [episode.observation.shape[1]],
            "action": [episode.action.shape[1]],
            **_cameras({name: frames.shape[1:] for name, frames in episode.images.items()}),
        }
        if self._wanted is None:
            self._wanted, self._whose = found, f"{where} has"
        for field, wanted in self._wanted.items():
            if found.get(field) != wanted:
                raise Faulty(
                    f"{where}: {field} is {found.get(field, 'missing')}, {self._whose} {wanted}: "
                    "a job is for one embodiment; name datasets of that one alone"
                )


def _cameras(images: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    return {f"camera {name!r}": list(shape) for name, shape in images.items()}


def field_of(index: int) -> str:
    """Where the spec names a dataset."""
    return f"spec.offline.datasets.{index}.uri"


def _opened(field: str, url: str, defaults: Defaults) -> Dataset:
    try:
        return dataset(url, defaults)
    except (Faulty, ValueError) as fault:
        raise Misconfigured(f"{field}: {fault}") from fault
    except Absent as fault:
        raise Absent(f"{field}: {fault}") from fault


def _loaded(field: str, item: Item) -> Episode:
    try:
        return item.load()
    except Faulty as fault:
        raise Faulty(f"{field}: {fault}") from fault
    except Absent as fault:
        raise Absent(f"{field}: {fault}") from fault


def _demand_one_rate(opened: Sequence[Dataset]) -> None:
    told = [(index, found.fps) for index, found in enumerate(opened) if found.fps is not None]
    for index, fps in told:
        first, wanted = told[0]
        if fps != wanted:
            raise Faulty(
                f"{field_of(index)}: {opened[index].url} has {fps:g} frames a second, "
                f"{opened[first].url} has {wanted:g}: a policy acts at one rate; name datasets of "
                "one"
            )


def _strangers(others: Counter[str], names: set[str]) -> str:
    """Why none of a dataset's episodes is of use."""
    said = "; ".join(unknown(task, sorted(names)) for task in sorted(others)[:3])
    return (
        "none of its episodes is of a task of this job; name the task in spec.tasks, or give its "
        f"words as spec.tasks[].instruction: {said}"
    )
