"""Any gymnasium environment with flat actions as a robot.

An observation is a flat box, or a dictionary of one under `state` and of frames under the names of
their cameras: uint8 boxes (Y, X, 3).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.robot.env import Channel, Events, Observation, RobotSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_runtime.experience.types import Float


STATE = "state"
"""The flat box of an environment that observes a dictionary."""


def described(
    environment: Any, *, tasks: Sequence[str], horizon: int, control_hz: float
) -> RobotSpec:
    """The robot an environment's spaces describe.

    Raises ValueError, naming the key, for an observation that is neither state nor a frame.
    """
    boxes = dict(getattr(environment.observation_space, "spaces", None) or {})
    state = boxes.pop(STATE, None) if boxes else environment.observation_space
    if state is None:
        raise ValueError(f"the environment observes {sorted(boxes)}, but no {STATE!r}")
    for name, box in boxes.items():
        if box.dtype != np.uint8 or len(box.shape) != len("YXC") or box.shape[-1] != len("RGB"):
            message = f"{name!r} is {box.dtype} {box.shape}, a frame is uint8 (rows, columns, 3)"
            raise ValueError(message)
    action = environment.action_space
    return RobotSpec(
        tasks=tuple(tasks),
        observation=(Channel(STATE, int(np.prod(state.shape))),),
        action=(Channel("action", int(np.prod(action.shape))),),
        action_low=tuple(map(float, action.low.ravel())),
        action_high=tuple(map(float, action.high.ravel())),
        horizon=horizon,
        control_hz=control_hz,
        images={name: tuple(box.shape) for name, box in boxes.items()},
    )


class GymnasiumRobot:
    """One environment per task, made when first needed.

    An attempt succeeds when the step's `info["success"]` is true (override `succeeded` where an
    environment says it otherwise), fails when the environment terminates without that, and times
    out when it truncates.
    """

    def __init__(self, spec: RobotSpec, make: Callable[[str], Any], *, seed: int = 0) -> None:
        self._spec = dataclasses.replace(spec, waits=True)
        self._make = make
        self._environments: dict[str, Any] = {}
        self._seeds = np.random.default_rng(seed)
        self._current: Any = None
        self._seen = Observation(np.zeros(spec.observation_size, np.float32), 0.0)
        self._events = Events()

    @property
    def spec(self) -> RobotSpec:
        """What this robot is."""
        return self._spec

    def connect(self) -> None:
        """Nothing to do: environments are made when a task is first reset."""

    def close(self) -> None:
        """Close every environment that was made."""
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()
        self._current = None

    def reset(self, task: str, seed: int | None = None) -> None:
        """Start an attempt; without a seed the robot draws the next one of its own series."""
        if task not in self._spec.tasks:
            raise ValueError(f"task {task!r} is none of {self._spec.tasks}")
        if task not in self._environments:
            self._environments[task] = self._make(task)
        self._current = self._environments[task]
        drawn = int(self._seeds.integers(2**31)) if seed is None else seed
        self._see(self.reset_environment(self._current, drawn))
        self._events = Events()

    def observe(self) -> Observation:
        """What the last reset or action led to."""
        return self._seen

    def act(self, action: Float) -> Float:
        """One environment step with the action clipped to the bounds."""
        executed = np.clip(action, self._spec.action_low, self._spec.action_high)
        executed = executed.astype(np.float32)
        observation, reward, terminated, truncated, info = self._current.step(executed)
        self._see(observation)
        reward = self.reward(float(reward), info)
        if self.succeeded(info, terminated=bool(terminated)):
            self._events = Events(reward, "success")
        elif terminated:
            self._events = Events(reward, "failure")
        elif truncated:
            self._events = Events(reward, "timeout")
        else:
            self._events = Events(reward)
        return executed

    def poll_events(self) -> Events:
        """The last step's events, once."""
        events, self._events = self._events, Events()
        return events

    def safe_stop(self) -> None:
        """A simulator rests by not being stepped."""

    def reset_environment(self, environment: Any, seed: int) -> Any:
        """The first observation of an attempt drawn from `seed`."""
        observation, _ = environment.reset(seed=seed)
        return observation

    def succeeded(self, info: dict[str, Any], *, terminated: bool) -> bool:  # noqa: ARG002
        """Whether the step that gave this info did the task."""
        return bool(info.get("success", False))

    def reward(self, reward: float, info: dict[str, Any]) -> float:  # noqa: ARG002
        """The step's reward; where it tells too little of headway, add to it here."""
        return reward

    def _see(self, observation: Any) -> None:
        keyed = isinstance(observation, Mapping)
        value = np.array(observation[STATE] if keyed else observation, np.float32).reshape(-1)
        # Copied, since an environment may paint its next frame over the last one.
        images = {name: np.array(observation[name]) for name in self._spec.images}
        self._seen = Observation(value, time.monotonic(), images)
