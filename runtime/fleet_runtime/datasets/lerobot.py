"""Reading a LeRobotDataset v3 as episodes; of its data files the newest is held in memory."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.datasets import layout, tables
from fleet_runtime.datasets.features import (
    ACTION,
    BOOKKEEPING,
    KNOWN,
    STATE,
    camera_of,
    episode_of,
)
from fleet_runtime.datasets.film import Film
from fleet_runtime.datasets.folder import safe
from fleet_runtime.datasets.items import Dataset, Faulty, Item
from fleet_runtime.experience import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from fleet_runtime.artifacts import Store
    from fleet_runtime.datasets.features import Defaults
    from fleet_runtime.experience.types import Episode

KIND = "lerobot"
RATE_SLACK = 0.05
"""Part of a frame's time by which timestamps may be off the declared rate."""
_NUMBERS = "biuf"  # kinds of numpy


class LeRobot:
    """One dataset on a store."""

    def __init__(self, store: Store, folder: str, defaults: Defaults) -> None:
        """Reads what the dataset says of itself, no frame yet.

        Raises:
            Faulty: it says what it must not, or has what an episode has no place for.
            Absent: a file of `meta` is not there.
        """
        self._store, self._folder, self._defaults = store, folder, defaults
        self.url = f"{store.url}/{folder}"
        self.info = layout.info(store, folder)
        self._check_features()
        # Nothing below reads the statistics; a copy without them is a copy that is not whole.
        layout.document(self._fetch(layout.STATS), f"{self.url}/{layout.STATS}")
        self._tasks = self._read_tasks()
        self._newest: tuple[str, dict[str, tables.Column]] = ("", {})
        self._film = Film(store, folder, self.info)

    def dataset(self, keys: Iterable[str]) -> Dataset:
        """Its episodes, by the rows of `meta/episodes` among the folder's keys.

        Raises:
            Faulty, Absent: as at the start.
        """
        start = f"{self._folder}/{layout.EPISODES}/"
        rows = [row for key in sorted(keys) if key.startswith(start) for row in self._rows(key)]
        if len(rows) != self.info.total_episodes:
            raise Faulty(
                f"{self.url}/{layout.EPISODES} tells of {len(rows)} episodes, {layout.INFO} of "
                f"{self.info.total_episodes}: copy what is missing"
            )
        items = [self._item(row) for row in rows]
        ignored = self.info.features.keys() - {*KNOWN, *BOOKKEEPING, *self._cameras}
        return Dataset(self.url, KIND, items, self.info.fps, tuple(sorted(ignored)))

    def _check_features(self) -> None:
        where = f"{self.url}/{layout.INFO}: features"
        for name in (STATE, ACTION):
            feature = self.info.features.get(name)
            if feature is None:
                there = sorted(self.info.features.keys() - set(BOOKKEEPING))
                raise Faulty(f"{where} lack {name}; there are {', '.join(there)}")
            if not feature.vector:
                raise Faulty(
                    f"{where}.{name} is {feature.dtype} {list(feature.shape)}, wanted floats "
                    "along one axis"
                )

    @property
    def _cameras(self) -> list[str]:
        if self._defaults.drop_images:
            return []
        return [name for name, feature in self.info.features.items() if feature.camera]

    def _fetch(self, path: str) -> bytes:
        return layout.fetch(self._store, self._folder, path)

    def _read_tasks(self) -> dict[int, str]:
        where = f"{self.url}/{layout.TASKS}"
        table = tables.read(self._fetch(layout.TASKS), where)
        words = next((v for k, v in table.items() if k != "task_index"), None)
        if words is None or "task_index" not in table:
            raise Faulty(
                f"{where} has the columns {sorted(table)}, wanted task_index and the tasks"
            )
        return {int(i): str(task) for i, task in zip(table["task_index"], words, strict=True)}

    def _rows(self, key: str) -> list[Mapping[str, Any]]:
        where = f"{self._store.url}/{key}"
        table = tables.read(self._store.get(key), where)
        wanted = {"episode_index", "length", "data/chunk_index", "data/file_index"}
        if lack := wanted - table.keys():
            raise Faulty(f"{where} lacks the columns {sorted(lack)}")
        kept = {name: column for name, column in table.items() if not name.startswith("stats/")}
        count = len(kept["length"])
        return [{name: _plain(column[i]) for name, column in kept.items()} for i in range(count)]

    def _item(self, row: Mapping[str, Any]) -> Item:
        where = f"{self.url}/{self._data_path(row)}: episode {row['episode_index']}"
        load = functools.partial(self._episode, row, where)
        return Item(where, load, lambda: codec.encode(load()))

    def _data_path(self, row: Mapping[str, Any]) -> str:
        place = {name: row[f"data/{name}"] for name in layout.at(0)}
        return layout.path(self.url, "data_path", self.info.data_path, place)

    def _episode(self, row: Mapping[str, Any], where: str) -> Episode:
        columns = self._frames(row, where)
        told = sorted({int(i) for i in columns["task_index"]})
        if len(told) != 1 or told[0] not in self._tasks:
            raise Faulty(f"{where}: task_index is {told}, wanted one of {sorted(self._tasks)}")
        self._check_rate(columns["timestamp"], where)
        task = self._tasks[told[0]]
        return episode_of(
            columns,
            row,
            task=self._defaults.tasks.get(task, task),
            name=f"{safe(self._folder)}-{int(row['episode_index']):06d}",
            robot=self.info.robot_type or KIND,
            fps=self.info.fps,
            images={
                camera_of(name): self._film.frames(name, columns.get(name), row, where)
                for name in self._cameras
            },
            defaults=self._defaults,
            where=where,
        )

    def _frames(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        path = self._data_path(row)
        if self._newest[0] != path:
            numbers = [name for name in (*KNOWN, *BOOKKEEPING) if name in self.info.features]
            images = [n for n in self._cameras if self.info.features[n].dtype == "image"]
            table = tables.read(self._fetch(path), f"{self.url}/{path}", (*numbers, *images))
            if lack := set(images) - table.keys():
                raise Faulty(f"{self.url}/{path} lacks the columns {sorted(lack)}")
            for name in numbers:
                self._check_column(name, table.get(name), f"{self.url}/{path}: {name}")
            self._newest = (path, table)
        table = self._newest[1]
        here = np.flatnonzero(np.asarray(table["episode_index"]) == row["episode_index"])
        if not len(here) or len(here) != row["length"]:
            raise Faulty(
                f"{where} has {len(here)} frames, {layout.EPISODES} says {row['length']}: copy "
                "both again"
            )
        return {
            name: column[here] if isinstance(column, np.ndarray) else [column[i] for i in here]
            for name, column in table.items()
        }

    def _check_column(self, name: str, column: tables.Column | None, where: str) -> None:
        shape = self.info.features[name].shape
        if not isinstance(column, np.ndarray) or column.dtype.kind not in _NUMBERS:
            raise Faulty(f"{where} is not there as numbers, wanted {list(shape)} in every frame")
        found = column.shape[1:] or (1,)
        if found != shape:
            raise Faulty(f"{where} is {list(found)}, {layout.INFO} says {list(shape)}")

    def _check_rate(self, timestamp: NDArray[Any], where: str) -> None:
        steps = np.diff(np.asarray(timestamp, np.float64)) * self.info.fps
        if len(steps) and float(np.abs(steps - 1).max()) > RATE_SLACK:
            worst = float(steps[np.argmax(np.abs(steps - 1))]) / self.info.fps
            raise Faulty(
                f"{where}: timestamp advances by {worst:.4g} s, {layout.INFO} says fps "
                f"{self.info.fps:g}, which is {1 / self.info.fps:.4g} s: a dataset has one rate"
            )


def _plain(cell: Any) -> Any:
    return cell.item() if isinstance(cell, np.generic) else cell
