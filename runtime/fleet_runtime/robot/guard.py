"""Between policy and motors: finite, within bounds, not too fast, or the last safe action is held.

Pure: it knows no robot and no clock. It is no safety function: emergency stop, force and speed
limits stay in the robot's controller. A human's action is made to fit, a policy's is a trip. What
a human's device asks for that is not finite counts against the episode, never against the policy.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.messages import Trip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_contract.resources.robot_actor import Guard as Spec
    from fleet_runtime.experience.types import Float
    from fleet_runtime.robot.env import Observation, RobotSpec

TOLERANCE = 1e-4
"""Share of an action's range by which rounding may overstep it."""


_MOST = float(np.finfo(np.float32).max)


def unfit(seen: Observation, spec: RobotSpec) -> str | None:
    """Why what was seen is not what the robot's description promises; None: it is."""
    value, size = np.asarray(seen.value), spec.observation_size
    if value.shape != (size,):
        return f"the robot observes {value.shape}, wanted ({size},)"
    if not (np.abs(value) <= _MOST).all():  # nor is NaN, nor what overflows as float32
        at = int(np.argmax(~(np.abs(value) <= _MOST)))
        return f"number {at} of the observation is {value[at]}"
    for camera, shape in spec.images.items():
        frame = seen.images.get(camera)
        if not isinstance(frame, np.ndarray):
            return f"camera {camera!r} gives no frame"
        if frame.shape != shape or frame.dtype != np.uint8:
            return f"camera {camera!r} gives {frame.dtype} {frame.shape}, wanted uint8 {shape}"
    return None


@dataclasses.dataclass(frozen=True)
class GuardSettings:
    """What one robot's guard allows."""

    rate: float | None = None
    """Most change between two steps, as a share of each action's range; None: any."""
    trips_per_episode: int = 3
    """With this many the episode is aborted."""
    trips_per_policy: int = 6
    """With this many the policy is taken back."""
    grave: frozenset[Trip] = frozenset({Trip.FAILED, Trip.SHAPE, Trip.NOT_FINITE})
    """One of these takes a policy back that is on probation; so does an aborted episode."""
    patience: float = 1.0
    """Control periods that an inference may take; from then on the robot holds."""

    @classmethod
    def of(cls, spec: Spec) -> GuardSettings:
        """As the robot's RobotActor says."""
        return cls(
            rate=spec.max_step,
            trips_per_episode=spec.trips_per_episode,
            trips_per_policy=spec.trips_per_policy,
            patience=spec.inference_periods,
        )


class Guard:
    """The guard of one robot. Trips are counted per episode and per policy."""

    def __init__(
        self, low: Sequence[float], high: Sequence[float], settings: GuardSettings | None = None
    ) -> None:
        """`low` and `high` are the bounds of the action, (A,) each."""
        self._low = np.asarray(low, np.float32)
        self._high = np.asarray(high, np.float32)
        self._range = self._high - self._low
        self._settings = settings or GuardSettings()
        # Before the first action the robot has been told nothing: ask for as little as possible.
        self._rest: Float = np.clip(np.zeros_like(self._low), self._low, self._high)
        self._held = self._rest
        self._moved = False
        self._policy = ""
        self._probation = False
        self.episode_trips = 0
        self.policy_trips = 0
        self.reasons: list[str] = []
        """Why it tripped in this episode, oldest first."""
        self.kinds: Counter[Trip] = Counter()
        """The same, by kind."""
        self.unsound = 0
        """Actions of a human's in this episode that were not finite."""

    @property
    def abort(self) -> bool:
        """The episode must not go on."""
        return self._many or self.distrust or self.unsound >= self._settings.trips_per_episode

    @property
    def distrust(self) -> bool:
        """The policy must not go on."""
        if self._probation and (self._many or self._settings.grave & self.kinds.keys()):
            return True
        return self.policy_trips >= self._settings.trips_per_policy

    @property
    def patience(self) -> float:
        """Control periods that an inference may take."""
        return self._settings.patience

    @property
    def _many(self) -> bool:
        return self.episode_trips >= self._settings.trips_per_episode

    def begin(self, policy: str, *, probation: bool = False) -> None:
        """An episode begins under the policy of this digest."""
        self._probation = probation
        if policy != self._policy:
            self._policy = policy
            self.policy_trips = 0
        self.episode_trips = 0
        self.reasons = []
        self.kinds = Counter()
        self.unsound = 0
        self.rest()

    def rest(self) -> None:
        """Judge what comes as an episode's first action, which may be any within bounds."""
        self._held, self._moved = self._rest, False

    def chunk(self, chunk: Float) -> Float:
        """A policy's chunk (H, A) with everything that is not finite replaced by what is held."""
        if chunk.ndim != 2 or chunk.shape[1:] != self._low.shape:  # noqa: PLR2004 (H A)
            self.trip(f"a chunk of shape {chunk.shape}, wanted (H, {len(self._low)})", Trip.SHAPE)
            return self.hold()
        if not len(chunk) or chunk.dtype.kind not in "fiu":
            self.trip(f"a chunk of {len(chunk)} actions of {chunk.dtype}", Trip.SHAPE)
            return self.hold()
        bad = np.logical_not(np.isfinite(chunk).all(axis=1))
        if not bad.any():
            return chunk
        self.trip("a chunk that is not finite", Trip.NOT_FINITE)
        safe: Float = np.where(np.expand_dims(bad, 1), self._held, chunk).astype(np.float32)
        return safe

    def hold(self) -> Float:
        """A chunk (1, A) that holds; for a policy that gave none."""
        return self._held[None].copy()

    def action(self, action: Float, *, by_policy: bool) -> Float:
        """The action (A,) to execute."""
        fault = self._fault(action)
        if fault is None:
            safe: Float = np.clip(action, self._low, self._high).astype(np.float32)
        elif by_policy:
            kind, reason = fault
            self.trip(reason, kind)
            safe = self._held
        elif not np.isfinite(action).all():
            self.unsound += 1
            safe = self._held
        else:
            safe = self._fitted(action)
        self._held, self._moved = safe, True
        return safe.copy()

    def trip(self, reason: str, kind: Trip = Trip.FAILED) -> None:
        """Count one, whoever found it."""
        self.kinds[kind] += 1
        self.episode_trips += 1
        self.policy_trips += 1
        self.reasons.append(reason)

    def _fault(self, action: Float) -> tuple[Trip, str] | None:
        if action.shape != self._low.shape:
            return Trip.SHAPE, f"an action of shape {action.shape}, wanted {self._low.shape}"
        if not np.isfinite(action).all():
            return Trip.NOT_FINITE, "an action that is not finite"
        over = np.maximum(action - self._high, self._low - action)
        if (over > TOLERANCE * self._range).any():
            return Trip.BOUNDS, f"an action {float(over.max()):.3g} out of bounds"
        rate = self._settings.rate
        if rate is not None and self._moved:
            step = np.abs(action - self._held) / self._range
            if (step > rate * (1 + TOLERANCE)).any():
                jump = float(step.max())
                return Trip.RATE, f"an action that jumps by {jump:.3g} of its range"
        return None

    def _fitted(self, action: Float) -> Float:
        """The nearest action within bounds and rate."""
        if action.shape != self._low.shape:
            return self._held
        low, high = self._low, self._high
        if self._settings.rate is not None and self._moved:
            reach = self._settings.rate * self._range
            low, high = np.maximum(low, self._held - reach), np.minimum(high, self._held + reach)
        fitted: Float = np.clip(action, low, high).astype(np.float32)
        return fitted
