"""Where things lie in a LeRobotDataset v3, as lerobot 0.4.4 and 0.6.1 write and read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_contract.errors import Reject
from fleet_runtime.artifacts import Missing
from fleet_runtime.datasets.items import Absent, Faulty

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet_runtime.artifacts import Store

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{FILE}.parquet"
EPISODES_PATH = f"{EPISODES}/{FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{FILE}.mp4"
FILES_PER_CHUNK = 1000
FILE_MB, VIDEO_MB = 100, 200
"""Size at which lerobot starts another file."""


class Feature(BaseModel):
    """One feature of every frame."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dtype: str
    shape: tuple[int, ...]

    @property
    def vector(self) -> bool:
        """It is some floats in a row."""
        return self.dtype.startswith("float") and len(self.shape) == 1

    @property
    def camera(self) -> bool:
        """It is an image, stored as such or as a frame of a video."""
        return self.dtype in {"image", "video"}


class Info(BaseModel):
    """`meta/info.json`, as far as it is needed to read the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    codebase_version: str
    fps: float = Field(gt=0)
    total_episodes: int = Field(ge=0)
    total_frames: int = Field(ge=0)
    features: dict[str, Feature]
    data_path: str = DATA_PATH
    video_path: str | None = None
    robot_type: str | None = None


def at(index: int) -> dict[str, int]:
    """The chunk and file of the file with this number."""
    chunk, file = divmod(index, FILES_PER_CHUNK)
    return {"chunk_index": chunk, "file_index": file}


def path(url: str, field: str, pattern: str, place: Mapping[str, Any]) -> str:
    """A file's path by a pattern of `meta/info.json`. Raises Faulty for one that is none."""
    try:
        return pattern.format(**place)
    except (LookupError, ValueError) as fault:
        raise Faulty(
            f"{url}/{INFO}: {field} is {pattern!r}, wanted the like of {DATA_PATH!r}"
        ) from fault


def fetch(store: Store, folder: str, path: str) -> bytes:
    """A file of the dataset. Raises Absent (and Retry) for one that is not there."""
    try:
        return store.get(f"{folder}/{path}")
    except Missing as fault:
        raise Absent(
            f"{store.url}/{folder}/{path} is missing, and a LeRobotDataset {VERSION} has one: "
            "copy the rest of it"
        ) from fault
    except Reject as fault:
        raise Faulty(f"{store.url}/{folder}/{INFO} names the file {path!r}: {fault}") from fault


def info(store: Store, folder: str) -> Info:
    """What the dataset says of itself.

    Raises:
        Faulty: it is of another version, or no such document.
    """
    where = f"{store.url}/{folder}/{INFO}"
    found = document(fetch(store, folder, INFO), where)
    version = str(found.get("codebase_version"))
    if not version.startswith("v3."):
        raise Faulty(
            f"{where}: codebase_version is {version!r}, wanted {VERSION}: convert the dataset "
            "with lerobot's convert_dataset_v21_to_v30"
        )
    try:
        return Info.model_validate(found)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        raise Faulty(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from fault


def document(data: bytes, where: str) -> Mapping[str, Any]:
    """A JSON object. Raises Faulty."""
    try:
        found = json.loads(data)
    except ValueError as fault:
        raise Faulty(f"{where} is no JSON ({fault}): copy it again") from fault
    if not isinstance(found, dict):
        raise Faulty(f"{where} is no JSON object: copy it again")
    return found
