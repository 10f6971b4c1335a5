"""Meta-World's Sawyer arm as a robot: fifty tasks, an observation of 39 numbers, an action of 4.

Tasks go by short names (`push` is `push-v3`). Goals are drawn anew for every attempt from its seed
and are visible in the observation, as for a robot that is told where to put things. Seeds from
`EVALUATION_SEED` on belong to evaluation, so no evaluated goal was ever trained on.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_contract.parameters import unknown
from fleet_runtime.robot.env import Channel, RobotSpec
from fleet_runtime.robot.gym import GymnasiumRobot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_runtime.experience.types import Float

DEFAULT_TASKS = ("push", "pick-place", "coffee-pull", "drawer-open")
HORIZON = 200
"""Control steps before an attempt is a timeout; the experts need 50 to 140."""
CONTROL_HZ = 80.0
"""One step is 5 × 2.5 ms of simulated time."""
EVALUATION_SEED = 2**31
"""Training draws its seeds below this number, evaluation from it on."""

_FRAME = (
    Channel("hand", 3, "m"),
    Channel("gripper", 1),
    Channel("object", 3, "m"),
    Channel("object_quaternion", 4),
    Channel("second_object", 3, "m"),
    Channel("second_quaternion", 4),
)
_PREVIOUS = tuple(Channel(f"previous_{c.name}", c.size, c.unit) for c in _FRAME)


def spec(tasks: Sequence[str] = DEFAULT_TASKS, horizon: int = HORIZON) -> RobotSpec:
    """The arm's interface: two frames and the goal in; hand motion and gripper effort out."""
    return RobotSpec(
        tasks=tuple(tasks),
        observation=(*_FRAME, *_PREVIOUS, Channel("goal", 3, "m")),
        action=(Channel("hand_motion", 3, "cm"), Channel("gripper_effort", 1)),
        action_low=(-1.0,) * 4,
        action_high=(1.0,) * 4,
        horizon=horizon,
        control_hz=CONTROL_HZ,
    )


def full_name(task: str) -> str:
    """Meta-World's own name of a task, which may be given as it is or without the version."""
    return task if task.endswith("-v3") else f"{task}-v3"


class MetaWorld(GymnasiumRobot):
    """A simulated Sawyer arm that can be set up for any of `tasks`, with its scripted experts."""

    def __init__(
        self, tasks: Sequence[str] = DEFAULT_TASKS, *, horizon: int = HORIZON, seed: int = 0
    ) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS  # 1 s: only where an arm is really made

        for task in tasks:
            if full_name(task) not in ALL_V3_ENVIRONMENTS:
                there = [name.removesuffix("-v3") for name in ALL_V3_ENVIRONMENTS]
                raise ValueError(f"among Meta-World's tasks {unknown(task, there)}")
        super().__init__(
            spec(tasks, horizon),
            lambda task: _make(ALL_V3_ENVIRONMENTS[full_name(task)]),
            seed=seed,
        )

    def reset_environment(self, environment: Any, seed: int) -> Float:
        """A start and a goal drawn from `seed`.

        Meta-World's own reset runs the start-up motion twice; calling its parent runs it once and
        leaves the same state.
        """
        from metaworld.sawyer_xyz_env import SawyerXYZEnv

        environment.seed(seed)
        environment.curr_path_length = 0
        observation, _ = super(SawyerXYZEnv, environment).reset()  # type: ignore[misc]
        environment._prev_obs = observation[:18].copy()  # noqa: SLF001 (its own reset does this)
        observation[18:36] = observation[:18]
        first: Float = observation.astype(np.float32)
        return first

    def expert(self, task: str) -> Callable[[Float], Float]:
        """Meta-World's scripted expert for the task, its actions clipped to the bounds."""
        from metaworld.policies import ENV_POLICY_MAP

        script: Any = ENV_POLICY_MAP[full_name(task)]()  # type: ignore[abstract]
        low, high = self.spec.action_low, self.spec.action_high

        def act(observation: Float) -> Float:
            with warnings.catch_warnings():
                # The scripts ask for more than the bounds and warn that this will be clipped.
                warnings.simplefilter("ignore", UserWarning)
                wanted = script.get_action(observation.astype(np.float64))
            clipped: Float = np.clip(wanted, low, high).astype(np.float32)
            return clipped

        return act


def _make(kind: Callable[[], Any]) -> Any:
    """An environment with visible goals that are drawn anew at each reset."""
    environment: Any = kind()
    environment._partially_observable = False  # noqa: SLF001 (what its own factories do)
    environment._freeze_rand_vec = False  # noqa: SLF001
    environment._set_task_called = True  # noqa: SLF001
    environment.seeded_rand_vec = True
    environment.__dict__.pop("sawyer_observation_space", None)  # cached without the goal
    return environment
