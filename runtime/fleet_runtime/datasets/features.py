"""Where each field of an episode lies in a LeRobotDataset, and what stands in for absent ones.

Per frame: the features below. Per episode: columns of `meta/episodes`, as `fleet/NAME`. Names of
ours never start with `observation` or `action`: LeRobot takes those for inputs of a policy.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import ValidationError

from fleet_contract.errors import Reject
from fleet_runtime.datasets.items import Faulty
from fleet_runtime.experience import codec
from fleet_runtime.experience.types import ARRAYS, Episode, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Images

STATE, ACTION = "observation.state", "action"
SUCCESS, DONE = "next.success", "next.done"
FRAMES = {
    "observation": STATE,
    "action": ACTION,
    "policy_action": "fleet.policy_action",
    "intervention": "intervention",
    "scheduled": "fleet.scheduled",
    "reward": "next.reward",
    "time": "fleet.time",
    "observation_age": "fleet.observation_age",
    "chunk_index": "fleet.chunk_index",
}
"""Array field → feature."""
KNOWN = (*FRAMES.values(), SUCCESS, DONE)
PREFIX = "fleet/"
HEADER = codec.FACTS
LAST = f"{PREFIX}last_observation"
"""The observation after the last action: a frame has one of each, and an episode one more."""
LAST_IMAGE = f"{PREFIX}last_image/"
"""… and what each camera saw then, as PNG."""
CAMERAS = "observation.images."
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""What LeRobot adds to every frame."""


class Defaults(NamedTuple):
    """What is taken for true of a dataset that does not say."""

    outcome: Outcome | None = None  # of every episode; None: as `next.success` says, else success
    by: Literal["human", "policy"] = "human"  # who acted in a dataset without `intervention`
    tasks: Mapping[str, str] = MappingProxyType({})  # the dataset's words → the job's name
    drop_images: bool = False  # go on without the cameras


def camera_of(feature: str) -> str:
    """The camera whose frames a feature holds; LeRobot's single ones have no name of their own."""
    return feature.removeprefix(CAMERAS).removeprefix("observation.")


def columns_of(episode: Episode, fps: float) -> dict[str, NDArray[Any]]:
    """An episode's frames (T rows) as features; `timestamp` is the frame's number by `fps`."""
    steps = len(episode)
    columns = {feature: getattr(episode, field)[:steps] for field, feature in FRAMES.items()}
    last = np.arange(steps) == steps - 1
    columns[DONE] = last
    columns[SUCCESS] = last & episode.success
    columns["timestamp"] = (np.arange(steps) / fps).astype(np.float32)
    columns["frame_index"] = np.arange(steps)
    # LeRobot keeps features of one number as plain cells.
    return {
        name: column[:, 0] if column.ndim > 1 and column.shape[1] == 1 else column
        for name, column in columns.items()
    }


def row_of(episode: Episode) -> dict[str, Any]:
    """An episode's own columns of `meta/episodes`."""
    row = {f"{PREFIX}{name}": getattr(episode, name) for name in HEADER}
    return row | {LAST: episode.observation[-1].tolist()}


def episode_of(
    columns: Mapping[str, NDArray[Any]],
    row: Mapping[str, Any],
    *,
    task: str,
    name: str,
    robot: str,
    fps: float,
    images: Images,
    defaults: Defaults,
    where: str,
) -> Episode:
    """An episode from its frames (T rows) and its row of `meta/episodes`.

    A dataset without a last observation gets its last frame's once more, so that every frame keeps
    its action.

    Raises:
        Faulty: a number is not finite, or the fields do not fit each other.
    """
    for feature in (feature for feature in KNOWN if feature in columns):
        _finite(columns[feature], f"{where}: {feature}")
    steps = len(columns[ACTION])
    last = row.get(LAST, columns[STATE][-1])
    told = FRAMES["intervention"] in columns
    human = np.full(steps, defaults.by == "human")
    human = np.asarray(columns.get(FRAMES["intervention"], human), np.bool_).reshape(-1)
    instead = {
        "policy_action": columns[ACTION],
        "intervention": human,
        "scheduled": np.zeros(steps, np.bool_) if told else human,
        "reward": np.zeros(steps),
        "time": columns["timestamp"],
        "observation_age": np.zeros(steps),
        "chunk_index": np.where(human, -1, 0),
    }
    fields = {
        field: columns[feature] if feature in columns else instead[field]
        for field, feature in FRAMES.items()
    }
    fields["observation"] = np.concatenate(
        [columns[STATE].reshape(steps, -1), np.reshape(last, (1, -1))]
    )
    arrays: dict[str, Any] = {
        field: _shaped(fields[field], dtype, axes) for field, (dtype, axes) in ARRAYS.items()
    }
    outcome = _outcome(columns, defaults)
    header: dict[str, Any] = {
        "id": f"{name}-{_fingerprint(arrays)}",
        "robot": robot,
        "task": task,
        "outcome": outcome,
        "outcome_source": "dataset",
        "mode": "live",
        "policy_digest": "",
        "policy_sequence": -1,
        "terminated": outcome in {"success", "failure"},
        "truncated": outcome not in {"success", "failure"},
        "duration_s": steps / fps,
    }
    header |= {key: row[f"{PREFIX}{key}"] for key in HEADER if f"{PREFIX}{key}" in row}
    header["task"] = defaults.tasks.get(header["task"], header["task"])
    try:
        told_of = codec.Header.model_validate(header)
        facts: dict[str, Any] = {key: getattr(told_of, key) for key in HEADER}
        return Episode(**facts, **arrays, images=images).validate()
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        raise Faulty(f"{where}: {PREFIX}{first['loc'][0]}: {first['msg']}") from fault
    except Reject as fault:
        raise Faulty(f"{where}: {fault}") from fault


def _outcome(columns: Mapping[str, NDArray[Any]], defaults: Defaults) -> Outcome:
    if defaults.outcome is not None:
        return defaults.outcome
    if SUCCESS in columns:
        return "success" if bool(np.any(columns[SUCCESS])) else "failure"
    return "success"


def _shaped(column: Any, dtype: type[np.generic], axes: str) -> NDArray[Any]:
    array = np.ascontiguousarray(column, dtype)
    return array.reshape(len(array), -1) if " " in axes else array.reshape(-1)


def _finite(column: NDArray[Any], where: str) -> None:
    bad = ~np.isfinite(column.reshape(len(column), -1)).all(axis=1)
    if bad.any():
        frame = int(np.argmax(bad))
        raise Faulty(f"{where} is {column[frame].tolist()} in frame {frame}, wanted finite numbers")


def _fingerprint(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The same wherever the dataset lies, so that one named twice is known again."""
    found = hashlib.sha256()
    for field in ("observation", "action"):
        found.update(arrays[field].tobytes())
    return found.hexdigest()[:12]
