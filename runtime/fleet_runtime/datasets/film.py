"""Frames of a LeRobotDataset's cameras: images in cells of the data, or stretches of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.datasets import layout, pictures
from fleet_runtime.datasets.features import LAST_IMAGE, camera_of
from fleet_runtime.datasets.items import Faulty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet_runtime.artifacts import Store
    from fleet_runtime.datasets.layout import Info
    from fleet_runtime.experience.types import Pixel


class Film:
    """The cameras of one dataset; of each the newest video file is held in memory."""

    def __init__(self, store: Store, folder: str, info: Info) -> None:
        self._store, self._folder, self._info = store, folder, info
        self._url = f"{store.url}/{folder}"
        self._newest: dict[str, tuple[str, bytes]] = {}  # feature → path, content

    def frames(
        self,
        feature: str,
        cells: Sequence[Mapping[str, Any]] | None,
        row: Mapping[str, Any],
        where: str,
    ) -> Pixel:
        """One camera's frames (T+1, Y, X, 3) of one episode.

        A dataset without a frame after the last action gets its last one once more.

        Raises:
            Faulty: frames cannot be read, or are not as `meta/info.json` says.
            Absent: a video is missing.
        """
        where = f"{where}: {feature}"
        if self._info.features[feature].dtype == "video":
            frames = self._video(feature, row)
        else:
            frames = _images(cells or (), where)
        shape = self._info.features[feature].shape
        if frames.shape[1:] not in {shape, (*shape[1:], shape[0])}:  # some say colours first
            raise Faulty(f"{where} is {list(frames.shape[1:])}, {layout.INFO} says {list(shape)}")
        last = row.get(f"{LAST_IMAGE}{camera_of(feature)}")
        after = frames[-1:] if last is None else _images([last], f"{where}: the last one")
        return np.concatenate([frames, after])

    def _video(self, feature: str, row: Mapping[str, Any]) -> Pixel:
        start = f"videos/{feature}/"
        try:
            place = {key: row[f"{start}{key}"] for key in layout.at(0)} | {"video_key": feature}
            begin = float(row[f"{start}from_timestamp"])
        except KeyError as fault:
            raise Faulty(f"{self._url}/{layout.EPISODES} lacks the column {fault}") from fault
        path = layout.path(
            self._url, "video_path", self._info.video_path or layout.VIDEO_PATH, place
        )
        if self._newest.get(feature, ("",))[0] != path:
            self._newest[feature] = path, layout.fetch(self._store, self._folder, path)
        where = f"{self._url}/{path}: episode {row['episode_index']}"
        content = self._newest[feature][1]
        return pictures.video(content, begin, int(row["length"]), self._info.fps, where)


def _images(cells: Sequence[Mapping[str, Any]], where: str) -> Pixel:
    read = [
        pictures.image(cell.get("bytes"), f"{where}: frame {i}") for i, cell in enumerate(cells)
    ]
    if len({frame.shape for frame in read}) != 1:
        raise Faulty(f"{where}: frames differ in size, wanted one")
    return np.stack(read)
