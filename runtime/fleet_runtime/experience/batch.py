"""What an algorithm asks the replay for, and what it gets. Axes as in `experience.types`."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Bool, Episode, Float


class Side(enum.IntEnum):
    """The two buffers of SOP; the value is the column in every (tasks, sides) table."""

    OFFLINE = 0
    ONLINE = 1


class Source(enum.Enum):
    """What a frame is evidence of: who acted, in what kind of episode."""

    HUMAN = "human"  # a human's frame, whatever came of the episode
    POLICY_ALONE_SUCCESS = "policy-alone-success"  # succeeded without any human frame
    POLICY_HELPED_SUCCESS = "policy-helped-success"  # the policy's frames where a human helped
    POLICY_FAILURE = "policy-failure"  # the policy's frames of a failure or timeout


SUCCESSES = frozenset({Source.HUMAN, Source.POLICY_ALONE_SUCCESS})


def source_of(episode: Episode, *, human: bool) -> Source | None:
    """What this episode's human or policy frames count as; None where they train nothing."""
    if episode.outcome in {"aborted", "discarded"} or episode.mode != "live":
        return None
    if human:
        return Source.HUMAN
    if not episode.success:
        return Source.POLICY_FAILURE
    if episode.autonomous:
        return Source.POLICY_ALONE_SUCCESS
    return Source.POLICY_HELPED_SUCCESS


@dataclasses.dataclass(frozen=True)
class SampleSpec:
    """What an algorithm trains on, so that loop and replay need not know its name.

    Chunks may start at every step and never cross a change of control: the validity mask of a
    batch ends where the human took over or handed back, and at the end of the episode.
    """

    chunk: int  # H
    rows: int  # B, rows of one batch
    offline: frozenset[Source] = SUCCESSES  # sources it takes from the offline side
    online: frozenset[Source] = SUCCESSES  # … and from the online side

    def sources(self, side: Side) -> frozenset[Source]:
        """The sources of one side."""
        return self.online if side is Side.ONLINE else self.offline


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows drawn for one update."""

    observation: Float  # (B, O)
    action: Float  # (B, H, A) executed actions; past the mask the last ones repeat or run on
    valid: Bool  # (B, H)
    task: NDArray[np.int64]  # (B,) task ids
    side: NDArray[np.int64]  # (B,) values of `Side`

    def __len__(self) -> int:
        return len(self.observation)
