"""What a robot lived through, and the shape legend of the whole runtime.

Legend (a trailing letter names an axis, everywhere):
  T  control steps of one episode, oldest first
  B  rows of a batch
  O  numbers in one observation
  A  numbers in one action
  H  actions in one chunk (the policy's horizon)
  Y  rows of pixels of one camera's frame, X its columns; 3 stands for red, green, blue

Times are seconds of one robot's monotonic clock: only differences mean anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fleet_contract.errors import Reject, RejectCode

if TYPE_CHECKING:
    from collections.abc import Collection

Float: TypeAlias = NDArray[np.float32]
Seconds: TypeAlias = NDArray[np.float64]
Bool: TypeAlias = NDArray[np.bool_]
Int: TypeAlias = NDArray[np.int32]
Pixel: TypeAlias = NDArray[np.uint8]
Images: TypeAlias = Mapping[str, Pixel]
"""Frames by camera; which axes stand before (Y, X, 3) is said where it is used."""

Outcome: TypeAlias = Literal["success", "failure", "timeout", "aborted", "discarded"]
Mode: TypeAlias = Literal["live", "shadow", "eval"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
MODES: tuple[Mode, ...] = get_args(Mode)

MAX_STEPS = 100_000
"""Longest episode taken in: 55 minutes at 30 Hz."""

ARRAYS: dict[str, tuple[type[np.generic], str]] = {
    "observation": (np.float32, "T+1 O"),
    "action": (np.float32, "T A"),
    "policy_action": (np.float32, "T A"),
    "intervention": (np.bool_, "T"),
    "scheduled": (np.bool_, "T"),
    "reward": (np.float32, "T"),
    "time": (np.float64, "T"),
    "observation_age": (np.float32, "T"),
    "chunk_index": (np.int32, "T"),
}
"""Array fields of an episode: the exact number type and the axes, as in the legend."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """One attempt at one task by one robot under exactly one policy version.

    Step t saw `observation[t]`, executed `action[t]`, and led to `observation[t + 1]`.
    """

    id: str
    robot: str
    task: str
    outcome: Outcome
    outcome_source: str  # who says so: "environment", "operator", "label", …
    mode: Mode
    policy_digest: str  # manifest digest of the policy that acted; "" where none did
    policy_sequence: int  # its version number; -1 where none did
    terminated: bool  # the task itself ended (success or failure)
    truncated: bool  # the horizon or an abort ended it
    duration_s: float  # seconds of execution, resets and waiting left out

    observation: Float  # (T+1, O)
    action: Float  # (T, A) what the robot executed, whoever decided it
    policy_action: Float  # (T, A) what the policy asked for; where none acted, the executed action
    intervention: Bool  # (T,) a human was in control
    scheduled: Bool  # (T,) … because a takeover was due, not because the policy needed one
    reward: Float  # (T,) the environment's own; gates watch it, no algorithm depends on it
    time: Seconds  # (T,) monotonic seconds at which the action was sent
    observation_age: Float  # (T,) seconds between observing and acting on it
    chunk_index: Int  # (T,) position in the policy's chunk; -1 under human control
    images: Images = dataclasses.field(default_factory=dict)  # camera → (T+1, Y, X, 3)

    def __len__(self) -> int:
        return len(self.action)

    @property
    def nbytes(self) -> int:
        """Bytes its arrays hold in memory."""
        return sum(a.nbytes for a in (*self.images.values(), *(getattr(self, n) for n in ARRAYS)))

    @property
    def success(self) -> bool:
        """The task was done, by whomever."""
        return self.outcome == "success"

    @property
    def autonomous(self) -> bool:
        """No frame of it was under human control."""
        return not bool(self.intervention.any())

    @property
    def judged(self) -> bool | None:
        """How it counts for a rollout: True success, False failure, None neutral.

        The first human frame decides. A takeover the policy caused (stall, stray) is its failure,
        however the human ended it; one that was merely due says nothing about the policy. A
        success counts only when the policy did all of it. Aborted and discarded: nobody's fault.
        """
        if self.outcome in {"aborted", "discarded"}:
            return None
        if self.autonomous:
            return self.success
        first = int(np.argmax(self.intervention))
        return None if bool(self.scheduled[first]) else False

    def relabel(self, outcome: Outcome, source: str) -> Episode:
        """The same episode under a label that came late."""
        return dataclasses.replace(self, outcome=outcome, outcome_source=source)

    def validate(
        self,
        *,
        observation_size: int | None = None,
        action_size: int | None = None,
        tasks: Collection[str] | None = None,
        images: Mapping[str, tuple[int, int, int]] | None = None,
    ) -> Episode:
        """Itself when sound and what the job wants, else raises `Reject`; see `demand_fit`."""
        self._validate_facts()
        self._validate_size()
        self.demand_fit(observation_size, action_size, tasks, images)
        self._validate_values()
        return self

    def demand_fit(
        self,
        observation_size: int | None = None,
        action_size: int | None = None,
        tasks: Collection[str] | None = None,
        images: Mapping[str, tuple[int, int, int]] | None = None,
    ) -> None:
        """Raise `Reject`, which names the field, unless a sound episode is what the job wants.

        Sizes, task names and cameras with their (Y, X, 3) are the job's; what is not given is not
        checked, nor is a camera that the job does not name.
        """
        if tasks is not None and self.task not in tasks:
            raise Reject(RejectCode.UNKNOWN_TASK, f"task {self.task!r} is not one of this job's")
        axes = {
            "T": len(self),
            "T+1": len(self) + 1,
            "O": observation_size or self.observation.shape[1],
            "A": action_size or self.action.shape[1],
        }
        for name, (dtype, letters) in ARRAYS.items():
            array: NDArray[Any] = getattr(self, name)
            shape = tuple(axes[letter] for letter in letters.split())
            if array.shape != shape:
                raise Reject(RejectCode.SHAPE, f"{name} is {array.shape}, wanted {shape}")
            if array.dtype != dtype:
                message = f"{name} is {array.dtype}, wanted {np.dtype(dtype)}"
                raise Reject(RejectCode.SHAPE, message)
        self._validate_images(images or {})

    def _validate_facts(self) -> None:
        if not self.id or not self.robot or not self.task:
            raise Reject(RejectCode.MALFORMED, "id, robot and task must not be empty")
        if self.outcome not in OUTCOMES:
            raise Reject(RejectCode.MALFORMED, f"outcome {self.outcome!r} is none of {OUTCOMES}")
        if self.mode not in MODES:
            raise Reject(RejectCode.MALFORMED, f"mode {self.mode!r} is none of {MODES}")
        if not np.isfinite(self.duration_s) or self.duration_s < 0:
            raise Reject(RejectCode.NON_FINITE, f"duration_s is {self.duration_s}")

    def _validate_size(self) -> None:
        for name in ARRAYS:
            if not isinstance(getattr(self, name), np.ndarray):
                raise Reject(RejectCode.MALFORMED, f"{name} is not an array")
        if self.action.ndim != 2 or self.observation.ndim != 2:  # noqa: PLR2004 (T A, T+1 O)
            raise Reject(RejectCode.SHAPE, "observation and action need two axes")
        if not 1 <= len(self) <= MAX_STEPS:
            raise Reject(RejectCode.TOO_LARGE, f"{len(self)} steps, 1 to {MAX_STEPS} are taken")
        if 0 in {self.observation.shape[1], self.action.shape[1]}:
            raise Reject(RejectCode.SHAPE, "observation and action need at least one number")

    def _validate_values(self) -> None:
        for name, (dtype, _) in ARRAYS.items():
            if issubclass(dtype, np.floating) and not np.isfinite(getattr(self, name)).all():
                raise Reject(RejectCode.NON_FINITE, f"{name} holds a number that is not finite")
        if bool((self.scheduled & ~self.intervention).any()):
            raise Reject(RejectCode.MALFORMED, "a scheduled frame is not an intervention frame")
        if bool((self.time[1:] < self.time[:-1]).any()):
            raise Reject(RejectCode.MALFORMED, "time runs backwards")

    def _validate_images(self, wanted: Mapping[str, tuple[int, int, int]]) -> None:
        for name, frames in self.images.items():
            if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
                raise Reject(RejectCode.SHAPE, f"camera {name!r}: frames are not of uint8")
            found = frames.shape[1:]
            shape = wanted.get(name, (*found[:2], 3))
            if len(frames) != len(self) + 1 or found != shape or 0 in found:
                message = f"camera {name!r}: {frames.shape}, wanted {(len(self) + 1, *shape)}"
                raise Reject(RejectCode.SHAPE, message)
        if missing := sorted(wanted.keys() - self.images.keys()):
            raise Reject(RejectCode.SHAPE, f"no frames of the cameras {missing}")
