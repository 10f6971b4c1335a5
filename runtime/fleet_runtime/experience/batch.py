"""What an algorithm asks the replay for, and what it gets. Axes as in `experience.types`."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Bool, Episode, Float, Images


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


SOURCES = tuple(Source)
"""By the code a batch tells them with."""
SUCCESSES = frozenset({Source.HUMAN, Source.POLICY_ALONE_SUCCESS})
EVERYTHING = frozenset(Source)


def by_name(sources: frozenset[Source]) -> tuple[Source, ...]:
    """In an order that is the same in every run."""
    return tuple(sorted(sources, key=lambda source: source.value))


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

    Chunks may start at every step. Unless `through_takeovers`, chunks and windows never cross a
    change of control: the validity mask of a batch ends where the human took over or handed back,
    and always at the end of the episode.

    What a policy's frame is evidence of is known at the episode's end alone, a human's is one
    whatever comes of it. Who takes `unfinished` ones must not look at a batch's `success` and
    `remaining`; chunks and windows then end where the part of the episode does that is there.
    """

    chunk: int  # H
    rows: int  # B, rows of one batch
    offline: frozenset[Source] = SUCCESSES  # sources it takes from the offline side
    online: frozenset[Source] = SUCCESSES  # … and from the online side
    windows: tuple[int, ...] = ()  # steps ahead at which it wants to see again, W of them
    through_takeovers: bool = False  # a chunk is what was executed, whoever decided it
    unfinished: bool = False  # it takes a human's frames while their episode still runs

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
    source: NDArray[np.int64]  # (B,) codes, positions in `SOURCES`
    success: Bool  # (B,) the row's episode ended well
    remaining: NDArray[np.int64]  # (B,) steps to the end of the episode, this one included
    ahead: NDArray[np.int64]  # (B, W) steps to each later observation; windows may end early
    later: Float  # (B, W, O); where the episode has ended by then, its last observation but one
    images: Images = dataclasses.field(default_factory=dict)  # camera → (B, Y, X, 3)
    later_images: Images = dataclasses.field(default_factory=dict)  # camera → (B, W, Y, X, 3)

    def __len__(self) -> int:
        return len(self.observation)

    def of(self, sources: Iterable[Source]) -> Bool:
        """Which rows (B,) come from these sources."""
        found: Bool = np.isin(self.source, [SOURCES.index(source) for source in sources])
        return found
