"""OGBench's own scripted oracles, led from part to part of a task.

An oracle does one part: bring a cube somewhere, press a button, slide the drawer or the window.
`todo` decides which part comes next from how the world stands, so an expert may take over at any
moment. Both read the simulator, as a person at a robot sees the table. They were seen to do
cube-single 1 and 2, cube-double 2, 4 and 5, scene 1, 3, 4 and 5, puzzle-3x3 1 and 5; scene-task2
they cannot, for its window does not stay where the oracle lets go of it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Float

NEAR = 0.04  # m: OGBench's own tolerance of every position
SHUT = 0.02  # m: of a slide we ask for more, or it would be left on the edge
LOCKS = {"drawer": 0, "window": 1}  # slide → the button that locks it while its state is 0
AXES = {"drawer": np.array([0.0, -1.0, 0.0]), "window": np.array([1.0, 0.0, 0.0])}
OPEN = -0.16  # m: the drawer's slide when it is open
IN_DRAWER = np.array([0.33, -0.24, 0.066])  # m: where a cube is let go over the open drawer
BEHIND = -0.2  # m: a cube whose y is less lies in the drawer
RAISED, LOOSE = 0.16, 0.1  # m of height and share of contact at which a part is left behind


class World(NamedTuple):
    """How the objects stand, and how they should."""

    blocks: NDArray[np.float64]  # (N, 3) m
    block_goals: NDArray[np.float64]
    buttons: tuple[int, ...] = ()
    button_goals: tuple[int, ...] = ()
    slides: dict[str, float] = {}  # m
    slide_goals: dict[str, float] = {}
    columns: int = 0  # of a puzzle, where a button also turns its neighbours; 0: none does


class Part(NamedTuple):
    """One thing to do: with what, which of them, and where to."""

    kind: str
    which: int
    goal: tuple[float, ...] = ()


def todo(world: World) -> Part | None:
    """The next part; None when all is as it should be. Pure."""
    for index in np.argsort(world.block_goals[:, 2], kind="stable"):  # a stack grows from below
        block, goal = world.blocks[index], world.block_goals[index]
        if np.linalg.norm(block - goal) <= NEAR:
            continue
        if goal[1] >= BEHIND:
            return Part("block", int(index), tuple(goal))
        if block[1] >= BEHIND:
            if world.slides["drawer"] > OPEN + NEAR:
                return _slide(world, "drawer", OPEN)
            return Part("block", int(index), tuple(IN_DRAWER))
    for name, goal in world.slide_goals.items():
        if abs(world.slides[name] - goal) > SHUT:
            return _slide(world, name, goal)
    wrong = np.not_equal(world.buttons, world.button_goals)
    if wrong.any():
        return _press(world, presses(wrong, world.columns)[0])
    return None


def _press(world: World, button: int) -> Part:
    return Part("button", button, (1 - world.buttons[button],))


def _slide(world: World, name: str, goal: float) -> Part:
    lock = LOCKS[name]
    return Part(name, 0, (goal,)) if world.buttons[lock] else _press(world, lock)


def presses(wrong: NDArray[np.bool_], columns: int) -> Sequence[int]:
    """The fewest buttons to press so that the wrong ones turn. ValueError where nothing helps."""
    count = len(wrong)
    if not columns:
        return np.flatnonzero(wrong).tolist()
    place = np.array([divmod(button, columns) for button in range(count)])
    turns = np.abs(place[:, None] - place).sum(axis=2) <= 1  # a button and its neighbours
    for many in range(count + 1):
        for chosen in itertools.combinations(range(count), many):
            if (np.logical_xor.reduce(turns[list(chosen)], axis=0) == wrong).all():
                return chosen
    raise ValueError("no presses solve this puzzle")


class Expert:
    """An expert for one attempt in one environment (unwrapped): observation → action (5,)."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._part: Part | None = None
        self._oracle: Any = None

    def __call__(self, _: Float) -> Float:
        """The action for how the simulator stands now; the observation says less."""
        told: dict[str, Any] = self._environment.compute_ob_info()
        part = todo(world_of(self._environment, told))
        free = (
            told["proprio/effector_pos"][2] > RAISED and told["proprio/gripper_contact"][0] < LOOSE
        )
        if self._part is None or (part not in {self._part, None} and free):
            self._part = part or Part("block", 0)
            self._oracle = _oracle(self._part.kind, self._environment)
            self._oracle.reset(None, told)
            # It would leave in a random direction: the same seed must give the same attempt.
            self._oracle._final_yaw = told["proprio/effector_yaw"][0]  # noqa: SLF001
        told |= _targets(self._part, self._environment, told)
        action: Float = self._oracle.select_action(None, told).astype(np.float32)
        return action


def distance(environment: Any, told: dict[str, Any]) -> float:
    """Metres from the hand to what comes next, and from there to where it should be."""
    part = todo(world_of(environment, told))
    if part is None:
        return 0.0
    targets = _targets(part, environment, told)
    hand = told["proprio/effector_pos"]
    if part.kind == "button":
        return float(np.linalg.norm(targets["privileged/target_button_top_pos"] - hand))
    if part.kind == "block":
        place = told[f"privileged/block_{part.which}_pos"]
        goal = targets["privileged/target_block_pos"]
    else:
        place = told[f"privileged/{part.kind}_handle_pos"]
        goal = targets[f"privileged/target_{part.kind}_handle_pos"]
    return float(np.linalg.norm(place - hand) + np.linalg.norm(goal - place))


def world_of(environment: Any, told: dict[str, Any]) -> World:
    """What `todo` needs to know."""
    blocks = [told[key] for key in sorted(told) if key.endswith("_pos") and "/block_" in key]
    goals = environment.data.mocap_pos[getattr(environment, "_cube_target_mocap_ids", [])]
    slides = {name: float(told[f"privileged/{name}_pos"][0]) for name in LOCKS if _has(told, name)}
    return World(
        np.reshape(blocks, (-1, 3)),
        goals.reshape(-1, 3),
        tuple(getattr(environment, "_cur_button_states", ())),
        tuple(getattr(environment, "_target_button_states", ())),
        slides,
        {name: float(getattr(environment, f"_target_{name}_pos")) for name in slides},
        getattr(environment, "_num_cols", 0),
    )


def _has(told: dict[str, Any], slide: str) -> bool:
    return f"privileged/{slide}_pos" in told


def _oracle(kind: str, environment: Any) -> Any:
    from ogbench.manipspace.oracles.markov import (
        button_markov,
        cube_markov,
        drawer_markov,
        window_markov,
    )

    found: Any = {
        "block": cube_markov.CubeMarkovOracle,
        "button": button_markov.ButtonMarkovOracle,
        "drawer": drawer_markov.DrawerMarkovOracle,
        "window": window_markov.WindowMarkovOracle,
    }[kind]
    return found(env=environment)


def _targets(part: Part, environment: Any, told: dict[str, Any]) -> dict[str, Any]:
    """What an oracle is told of its target beside the state."""
    if part.kind == "block":
        return {
            "privileged/target_block": part.which,
            "privileged/target_block_pos": np.array(part.goal),
            "privileged/target_block_yaw": np.zeros(1),
        }
    if part.kind == "button":
        top = environment.data.site_xpos[environment._button_site_ids[part.which]]  # noqa: SLF001
        return {
            "privileged/target_button": part.which,
            "privileged/target_button_state": part.goal[0],
            "privileged/target_button_top_pos": top.copy(),
        }
    left = part.goal[0] - told[f"privileged/{part.kind}_pos"]
    handle = told[f"privileged/{part.kind}_handle_pos"]
    return {f"privileged/target_{part.kind}_handle_pos": handle + AXES[part.kind] * left}
