"""How fast a simulated fleet is, and what is remembered of it."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.papers.crew import Shared
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.tasks import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """Rates and delays, in simulated time."""

    robots: int = 4
    people: int = 4  # robots that can be helped at the same time
    control_hz: float = 80.0  # Meta-World's own
    reset_s: float = 5.0
    updates_per_minute: float = 1500.0
    publish_every: int = 25  # updates (SOP; LWD: 50)
    publish_delay_s: float = 8.0  # version made → robots may take it up, as measured with a canary
    upload_delay_s: float = 0.1  # episode's end → sampleable, as measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What a fleet may live through before it rests."""

    episodes: float = 0
    updates: float = 0
    frames: float = math.inf  # of robots; no attempt begins once so many are behind them
    human_frames: float = math.inf  # … of these, those a human led
    minutes: float = math.inf  # simulated


class Due(enum.IntEnum):
    """What can be due; at the same time in this order."""

    END = 0
    ARRIVE = 1
    UPDATE = 2
    VISIBLE = 3
    WATCH = 4
    START = 5
    STEP = 6


@dataclasses.dataclass(frozen=True)
class Version:
    """A published policy."""

    sequence: int
    policy: Policy


@dataclasses.dataclass(frozen=True)
class Lived:
    """What is remembered of an episode. Times in simulated seconds."""

    id: str
    robot: str
    version: int
    started: float
    ended: float
    frames: int
    human_frames: int
    success: bool


@dataclasses.dataclass
class Actor:
    """A robot of the fleet."""

    name: str
    robot: Robot
    human: Shared
    schedule: Schedule
    tick: int = 0  # the control step of simulated time that is its next
    started: float = 0.0
