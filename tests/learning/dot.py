"""A world of pixels: a red dot is to be brought onto a green one. Only the camera tells where.

A gymnasium environment in all but its base class. The state box says how many steps are gone, so a
policy without eyes has something to look at and nothing to go by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict

from fleet_runtime.robot.gym import GymnasiumRobot, described

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Float, Pixel

SIDE = 24
SPEED = 0.25
NEAR = 0.2
HORIZON = 16


class Dots:
    """Two dots on a square from −1 to 1; the action moves the red one."""

    observation_space = Dict(
        {
            "state": Box(0.0, HORIZON, (1,), np.float32),
            "top": Box(0, 255, (SIDE, SIDE, 3), np.uint8),
        }
    )
    action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        rng = np.random.default_rng(seed)
        self.red, self.green = rng.uniform(-0.8, 0.8, (2, 2))
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Float) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.red = np.clip(self.red + SPEED * action, -0.9, 0.9)
        self.steps += 1
        gap = float(np.abs(self.red - self.green).max())
        return self._seen(), -gap, gap < NEAR, False, {"success": gap < NEAR}

    def close(self) -> None: ...

    def _seen(self) -> dict[str, Any]:
        frame: Pixel = np.zeros((SIDE, SIDE, 3), np.uint8)
        for colour, place in enumerate((self.red, self.green)):
            x, y = ((place + 1) / 2 * (SIDE - 3)).round().astype(int)
            frame[y : y + 3, x : x + 3, colour] = 255
        return {"state": np.array([self.steps], np.float32), "top": frame}


class DotRobot(GymnasiumRobot):
    """The world as a robot whose expert peeks at what the camera shows."""

    def __init__(self, *, seed: int = 0) -> None:
        self.world = Dots()
        spec = described(self.world, tasks=("meet",), horizon=HORIZON, control_hz=10.0)
        super().__init__(spec, lambda _: self.world, seed=seed)

    def expert(self, task: str) -> Callable[[Float], Float]:
        def act(seen: Float) -> Float:
            away = (self.world.green - self.world.red) / SPEED
            action: Float = np.clip(away, -1, 1).astype(np.float32)
            return action

        return act
