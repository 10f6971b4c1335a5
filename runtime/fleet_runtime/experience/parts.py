"""An episode in parts, as it travels while it runs, and whole again.

A part is an episode by itself that tells what would hold if nothing followed it: its attempt was
broken off. So the last part alone knows how it ended, and its facts are those of the whole. Two
neighbours share one observation: what the first saw last is what the second sees first.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience import codec, images
from fleet_runtime.experience.types import ARRAYS, MAX_STEPS, Episode

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = MAX_STEPS
"""Parts of one episode: each has a step."""
MAX_BYTES = codec.MAX_BYTES + images.MAX_BYTES
"""Of an episode put together, decoded: what one that travels whole may have."""
UNFINISHED = "unfinished"
"""Who says that a part that others follow was aborted: nobody."""

_SAME = ("id", "robot", "task", "mode", "policy_digest", "policy_sequence")


def cut(episode: Episode, start: int, stop: int | None = None) -> Episode:
    """Its steps [start, stop); up to its end, with its outcome, where no `stop` is given."""
    end = len(episode) if stop is None else stop
    arrays: dict[str, Any] = {
        name: getattr(episode, name)[start : end + letters.startswith("T+1")]
        for name, (_, letters) in ARRAYS.items()
    }
    seen = {name: frames[start : end + 1] for name, frames in episode.images.items()}
    part = dataclasses.replace(episode, images=seen, **arrays)
    if stop is None:
        return part
    return dataclasses.replace(
        part, outcome="aborted", outcome_source=UNFINISHED, terminated=False, truncated=True
    )


def joined(parts: Iterable[Episode]) -> Episode:
    """The episode whose parts these are, from the first on without a gap; validated.

    Raises `Reject` where they do not go on where the one before ends, or are too much together.
    """
    held: list[Episode] = []
    steps = size = 0
    for part in parts:
        if held:
            _demand_next(held[-1], part, len(held))
        held.append(part)
        steps, size = steps + len(part), size + part.nbytes
        if steps > MAX_STEPS or size > MAX_BYTES:
            message = f"{steps} steps and {size} bytes in {len(held)} parts, more than are taken"
            raise Reject(RejectCode.TOO_LARGE, message)
    *others, last = held
    if not others:
        return last.validate()
    arrays: dict[str, Any] = {}
    for name, (_, letters) in ARRAYS.items():
        shared = letters.startswith("T+1")
        pieces = [getattr(part, name)[: len(part) if shared else None] for part in others]
        arrays[name] = np.concatenate([*pieces, getattr(last, name)])
    seen = {
        name: np.concatenate([*(part.images[name][:-1] for part in others), last.images[name]])
        for name in last.images
    }
    return dataclasses.replace(last, images=seen, **arrays).validate()


def _demand_next(before: Episode, part: Episode, number: int) -> None:
    for name in _SAME:
        if getattr(before, name) != getattr(part, name):
            message = f"part {number} has another {name} than part {number - 1}"
            raise Reject(RejectCode.CONFLICT, message)
    shapes = [
        (one.observation.shape[1:], one.action.shape[1:], _frames(one)) for one in (before, part)
    ]
    if shapes[0] != shapes[1]:
        raise Reject(RejectCode.SHAPE, f"part {number} has other sizes than part {number - 1}")
    if not np.array_equal(before.observation[-1], part.observation[0]):
        message = f"part {number} does not begin where part {number - 1} ends"
        raise Reject(RejectCode.CONFLICT, message)


def _frames(episode: Episode) -> dict[str, tuple[int, ...]]:
    return {name: frames.shape[1:] for name, frames in episode.images.items()}
