"""Writing episodes as a LeRobotDataset v3 that lerobot trains from. `meta/info.json` comes last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.datasets import layout, pictures, statistics, tables
from fleet_runtime.datasets.features import CAMERAS, LAST_IMAGE, columns_of, row_of
from fleet_runtime.datasets.items import Faulty, rate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fleet_runtime.artifacts import Store
    from fleet_runtime.datasets.items import Item
    from fleet_runtime.experience.types import Episode, Images

MIXED = 1.5
"""Episodes' rates may differ by this factor: people and loaded machines are not exact."""


class Exporter:
    """One dataset under construction."""

    def __init__(
        self,
        store: Store,
        folder: str,
        fps: int | None,
        robot_type: str | None,
        written: list[str],
    ) -> None:
        """`fps`: frames per second, None to take the first episode's. Keys go to `written`."""
        self._store, self._folder, self._written = store, folder, written
        self._fps, self._robot_type = fps, robot_type
        self._pace: tuple[float, str] | None = None  # measured in the first episode, and its file
        self._kinds: tuple[dict[str, Any], str] | None = None  # its features, and its file
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._parts: dict[str, list[statistics.Stats]] = {}
        self._frames = self._files = 0
        self._data = tables.Writer()

    def write(self, items: Iterable[Item]) -> dict[str, Any]:
        """The whole dataset; what `meta/info.json` says of it.

        Raises:
            Faulty: an episode's shape or rate differs from the first one's.
        """
        fps = 0
        for item in items:
            fps = self._add(item.load(), item.where)
        self._flush()
        names = {name for row in self._rows for name in row}
        columns = {name: [row[name] for row in self._rows] for name in sorted(names)}
        self._put(layout.EPISODES_PATH.format(**layout.at(0)), tables.whole(columns))
        self._put(layout.TASKS, tables.tasks(list(self._tasks)))
        merged = {name: statistics.merge(parts) for name, parts in self._parts.items()}
        self._put(layout.STATS, _json(statistics.plain(merged)))
        info = self._info(fps)
        self._put(layout.INFO, _json(info))
        return info

    def _add(self, episode: Episode, where: str) -> int:
        """Its frames and its row; frames per second."""
        fps = self._rate(episode, where)
        columns = columns_of(episode, fps)
        steps, number = len(episode), len(self._rows)
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        columns["episode_index"] = np.full(steps, number)
        columns["index"] = self._frames + np.arange(steps)
        columns["task_index"] = np.full(steps, task)
        self._check_kinds(columns, episode.images, where)
        stats = {name: statistics.describe(column) for name, column in columns.items()}
        cells: dict[str, tables.Column] = {**columns}
        last = {}
        for camera, frames in episode.images.items():
            feature = f"{CAMERAS}{camera}"
            stats[feature] = statistics.describe_frames(frames[:steps])
            *before, after = map(pictures.png, frames)
            cells[feature] = before
            last[f"{LAST_IMAGE}{camera}"] = after
        place = layout.at(self._files)
        row = {
            "episode_index": number,
            "tasks": [episode.task],
            "length": steps,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + steps,
            **{f"data/{name}": value for name, value in place.items()},
            **{f"meta/episodes/{name}": value for name, value in layout.at(0).items()},
            **row_of(episode),
            **last,
        }
        for name, found in stats.items():
            self._parts.setdefault(name, []).append(found)
            row |= {f"stats/{name}/{key}": value.tolist() for key, value in found.items()}
        self._rows.append(row)
        self._frames += steps
        self._data.add(cells)
        if self._data.held >= layout.FILE_MB * 2**20:
            self._flush()
        return fps

    def _rate(self, episode: Episode, where: str) -> int:
        if self._fps is not None:
            return self._fps
        found = rate(episode)
        if found is None:
            raise Faulty(f"{where}: time stands still, so its rate is unknown: give --fps")
        first, whose = self._pace = self._pace or (found, where)
        if not 1 / MIXED < found / first < MIXED:
            raise Faulty(
                f"{where}: time advances at {found:.3g} steps a second, in {whose} at {first:.3g}: "
                "a LeRobotDataset has one rate; give --fps, or export them apart"
            )
        return max(1, round(first))

    def _check_kinds(self, columns: dict[str, NDArray[Any]], images: Images, where: str) -> None:
        kinds: dict[str, dict[str, Any]] = {
            name: {
                "dtype": str(column.dtype),
                "shape": list(column.shape[1:] or (1,)),
                "names": None,
            }
            for name, column in columns.items()
        }
        kinds |= {
            f"{CAMERAS}{camera}": {
                "dtype": "image",
                "shape": list(frames.shape[1:]),
                "names": ["height", "width", "channels"],
            }
            for camera, frames in images.items()
        }
        first, whose = self._kinds = self._kinds or (kinds, where)
        if kinds.keys() != first.keys():
            raise Faulty(
                f"{where} has the features {sorted(kinds)}, {whose} {sorted(first)}: a "
                "LeRobotDataset has the same in every frame; export them apart"
            )
        for name, kind in kinds.items():
            if kind != first[name]:
                raise Faulty(
                    f"{where}: {name} is {kind['shape']}, in {whose} it is "
                    f"{first[name]['shape']}: a LeRobotDataset has one shape; export them apart"
                )

    def _flush(self) -> None:
        if self._data.held:
            self._put(layout.DATA_PATH.format(**layout.at(self._files)), self._data.close())
            self._data = tables.Writer()
            self._files += 1

    def _put(self, path: str, data: bytes) -> None:
        key = f"{self._folder}/{path}"
        self._written.append(key)
        self._store.create(key, data)

    def _info(self, fps: int) -> dict[str, Any]:
        count = len(self._rows)
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self._robot_type,
            "total_episodes": count,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": layout.FILE_MB,
            "video_files_size_in_mb": layout.VIDEO_MB,
            "fps": fps,
            "splits": {"train": f"0:{count}"},
            "data_path": layout.DATA_PATH,
            "video_path": None,
            "features": self._kinds[0] if self._kinds else {},
        }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
