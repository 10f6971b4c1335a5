"""What an owner writes to bring a robot: a description, seven short methods, nothing of fleets.

Axes as in `experience.types`. All calls come from one thread, in the order
connect → (reset → (observe → act → poll_events)*)* → close; `safe_stop` may come at any time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fleet_runtime.experience.images import QUALITY
from fleet_runtime.experience.spaces import Spaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet_runtime.experience.types import Float, Images, Outcome
    from fleet_runtime.robot.human import Human


@dataclasses.dataclass(frozen=True)
class Channel:
    """A named run of numbers inside an observation or action."""

    name: str
    size: int
    unit: str = ""  # SI where there is one: m, rad, N; "" for a pure number


@dataclasses.dataclass(frozen=True)
class RobotSpec:
    """What a robot is, so that a policy made for another one is refused with a reason."""

    tasks: tuple[str, ...]  # tasks this robot can be set up for
    observation: tuple[Channel, ...]  # in the order of the numbers
    action: tuple[Channel, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    horizon: int  # control steps after which an attempt is a timeout
    control_hz: float  # control steps per second
    images: Mapping[str, tuple[int, int, int]] = dataclasses.field(
        default_factory=dict
    )  # camera → (Y, X, 3)
    image_quality: int | None = QUALITY  # of recorded frames as JPEG; None keeps them lossless
    waits: bool = (
        False  # its world stands still between two actions, as a simulator's: none is late
    )

    @property
    def observation_size(self) -> int:
        """O."""
        return sum(channel.size for channel in self.observation)

    @property
    def action_size(self) -> int:
        """A."""
        return sum(channel.size for channel in self.action)

    def spaces(self, tasks: tuple[str, ...] | None = None) -> Spaces:
        """The interface a policy for this robot has; `tasks` are the job's, in its order."""
        return Spaces(
            tasks=tasks or self.tasks,
            observation_size=self.observation_size,
            action_low=self.action_low,
            action_high=self.action_high,
            images=dict(self.images),
        )

    def mismatch(self, spaces: Spaces) -> str | None:
        """Why a policy with this interface must not drive this robot; None when it may."""
        for what, ours, theirs in (
            ("observation size", self.observation_size, spaces.observation_size),
            ("action size", self.action_size, spaces.action_size),
            ("lower action bounds", self.action_low, spaces.action_low),
            ("upper action bounds", self.action_high, spaces.action_high),
        ):
            if ours != theirs:
                return f"{what}: the robot has {ours}, the policy {theirs}"
        for camera, shape in spaces.images.items():
            if (here := self.images.get(camera)) != shape:
                return f"camera {camera!r}: the robot has {here}, the policy reads {shape}"
        return None


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the robot sees and when it saw it."""

    value: Float  # (O,)
    time: float  # monotonic seconds
    images: Images = dataclasses.field(
        default_factory=dict
    )  # camera → (Y, X, 3), every camera of the spec


@dataclasses.dataclass(frozen=True)
class Events:
    """What happened since the last poll."""

    reward: float = 0.0  # the environment's own, for the last action
    ended: Outcome | None = None  # the attempt is over, and how
    source: str = "environment"  # who says so
    fault: str | None = None  # the robot cannot go on, in words for a person


@runtime_checkable
class Robot(Protocol):
    """A robot, real or simulated."""

    @property
    def spec(self) -> RobotSpec:
        """Constant for the life of the robot."""
        ...

    def connect(self) -> None:
        """Power, drivers, simulators. May take long; may raise."""
        ...

    def close(self) -> None:
        """Undo connect; safe to call twice."""
        ...

    def reset(self, task: str, seed: int | None = None) -> None:
        """Bring about a start of `task`; a simulator draws it from `seed`, others ignore it."""
        ...

    def observe(self) -> Observation:
        """The newest observation."""
        ...

    def act(self, action: Float) -> Float:
        """Send an action (A,) for one control step; returns what was really executed (A,)."""
        ...

    def poll_events(self) -> Events:
        """What happened since the last poll; must not block."""
        ...

    def safe_stop(self) -> None:
        """Come to rest without a policy, a network or an exception."""
        ...


@runtime_checkable
class Scripted(Protocol):
    """A robot that brings scripted experts: simulators do, and stand in for a human with them."""

    def expert(self, task: str) -> Callable[[Float], Float]:
        """A fresh expert for one attempt: observation (O,) → action (A,)."""
        ...


@runtime_checkable
class Attended(Protocol):
    """One that somebody stands by, and takes over by a device of its own: a leader arm, a pad."""

    def human(self) -> Human:
        """Who may take over; an attempt begins for them under the job's name of the task."""
        ...
