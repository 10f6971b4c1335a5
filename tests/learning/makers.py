"""Small episodes, robots and humans the learning tests share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.experience.batch import SOURCES, Batch, Side, Source
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.experience.types import Episode
from fleet_runtime.robot.env import Channel, Events, Observation, RobotSpec
from fleet_runtime.robot.human import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_runtime.experience.types import Float, Pixel

TASKS = ("left", "right")
SPACES = Spaces(tasks=TASKS, observation_size=2, action_low=(-1.0,), action_high=(1.0,))


def episode(name: str = "e", *, steps: int = 6, **changes: Any) -> Episode:
    """A sound episode: observation[t] = (t, t), action[t] = t / 100, no human in it."""
    count = np.arange(steps + 1, dtype=np.float32)
    action = (count[:steps, None] / 100).astype(np.float32)
    made = Episode(
        id=name,
        robot="robot",
        task="left",
        outcome="success",
        outcome_source="environment",
        mode="live",
        policy_digest="sha256:0",
        policy_sequence=3,
        terminated=True,
        truncated=False,
        duration_s=float(steps),
        observation=np.stack([count, count], axis=1),
        action=action,
        policy_action=action.copy(),
        intervention=np.zeros(steps, bool),
        scheduled=np.zeros(steps, bool),
        reward=np.zeros(steps, np.float32),
        time=np.arange(steps, dtype=np.float64),
        observation_age=np.zeros(steps, np.float32),
        chunk_index=np.zeros(steps, np.int32),
    )
    return dataclasses.replace(made, **changes)


def smooth(shape: tuple[int, int, int], seed: int = 0) -> Pixel:
    """A picture (Y, X, C) of slow waves, as JPEG likes them; another one for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]][..., None] / 40.0
    turn, phase = rng.uniform(0, 6, (2, shape[2]))
    waves = np.sin(x * np.cos(turn) + y * np.sin(turn) + phase)
    picture: Pixel = (127.5 + 100 * waves).astype(np.uint8)
    return picture


def batch(
    rows: int,
    *,
    remaining: Any = 9,
    success: Any = True,
    windows: Sequence[int] = (),
    seed: int = 0,
) -> Batch:
    """Random rows of `SPACES` in chunks of 8, autonomous and online, of both tasks in turn."""
    rng = np.random.default_rng(seed)
    left = np.broadcast_to(np.asarray(remaining, np.int64), rows).copy()
    return Batch(
        observation=rng.normal(size=(rows, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, (rows, 8, 1)).astype(np.float32),
        valid=np.ones((rows, 8), bool),
        task=np.arange(rows) % len(TASKS),
        side=np.full(rows, Side.ONLINE, np.int64),
        source=np.full(rows, SOURCES.index(Source.POLICY_ALONE_SUCCESS)),
        success=np.broadcast_to(np.asarray(success, bool), rows).copy(),
        remaining=left,
        ahead=np.minimum(np.array(windows, np.int64), left[:, None]),
        later=rng.normal(size=(rows, len(windows), 2)).astype(np.float32),
    )


def frames(pattern: str) -> dict[str, Any]:
    """Flags from a picture: `.` policy, `h` a human the policy called for, `s` a scheduled one."""
    flags = np.array(list(pattern))
    return {"steps": len(pattern), "intervention": flags != ".", "scheduled": flags == "s"}


class Line:
    """A robot on a line that must get to +0.5 (`right`) or −0.5 (`left`); observes place, goal."""

    spec = RobotSpec(
        tasks=TASKS,
        observation=(Channel("place", 1, "m"), Channel("goal", 1, "m")),
        action=(Channel("velocity", 1, "m/s"),),
        action_low=(-1.0,),
        action_high=(1.0,),
        horizon=40,
        control_hz=10.0,
    )

    def __init__(self) -> None:
        self.executed: list[float] = []
        self.fault: str | None = None
        self._place = self._goal = self._now = 0.0

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def reset(self, task: str, seed: int | None = None) -> None:
        self._place = float(np.random.default_rng(seed or 0).uniform(-0.1, 0.1))
        self._goal = 0.5 if task == "right" else -0.5

    def observe(self) -> Observation:
        return Observation(np.array([self._place, self._goal], np.float32), self._now)

    def act(self, action: Float) -> Float:
        self._place += 0.1 * float(action[0])
        self._now += 0.1
        self.executed.append(float(action[0]))
        return action

    def poll_events(self) -> Events:
        gap = abs(self._place - self._goal)
        return Events(1.0 - gap, "success" if gap < 0.05 else None, fault=self.fault)

    def safe_stop(self) -> None: ...

    def expert(self, task: str) -> Callable[[Float], Float]:
        return lambda seen: np.clip(3 * (seen[1:] - seen[:1]), -1, 1).astype(np.float32)


class Constant:
    """A policy whose chunk is 0.01, 0.02, … so that an executed action tells its place."""

    architecture = "constant"
    spaces = SPACES
    horizon = 4
    execute = 3

    def __init__(self) -> None:
        self.calls = 0

    def act(self, observation: Float, task: Any) -> Float:
        self.calls += 1
        chunk = np.arange(1, 5, dtype=np.float32)[None, :, None] / 100
        return np.repeat(chunk, len(observation), axis=0)

    def seed(self, seed: int) -> None: ...


class Scheduled:
    """A human in control exactly at the given steps, who always does −0.5."""

    def __init__(self, steps: Sequence[int], why: Control = Control.CAUSED) -> None:
        self._steps, self._why = set(steps), why

    def begin(self, task: str) -> None: ...

    def control(self, step: int, reward: float) -> Control:
        return self._why if step in self._steps else Control.POLICY

    def act(self, observation: Float) -> Float:
        return np.array([-0.5], np.float32)
