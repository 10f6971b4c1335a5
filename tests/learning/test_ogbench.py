"""OGBench's arm: names, what comes next in a task, and attempts in the real simulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_runtime.experience import codec
from fleet_runtime.robot import environments, record
from fleet_runtime.robot.episode import EpisodeRun, Stamp
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from fleet_runtime.robot.ogbench import FAMILIES, OGBench, parse, spec
from fleet_runtime.robot.ogbench_expert import IN_DRAWER, OPEN, Part, World, presses, todo

if TYPE_CHECKING:
    from pathlib import Path

HERE, THERE = (0.4, 0.1, 0.02), (0.4, -0.1, 0.02)
CLOSED, INSIDE = (0.0, 0.0), (0.33, -0.356, 0.066)


@pytest.mark.parametrize(
    ("name", "family", "number"),
    [
        ("cube-single-task1", "cube-single", 1),
        ("cube-single-singletask-task5-v0", "cube-single", 5),
        ("cube-double-play-singletask-task2-v0", "cube-double", 2),
        ("puzzle-3x3-play-singletask-task4-v0", "puzzle-3x3", 4),
        ("scene-noisy-singletask-task3-v0", "scene", 3),
    ],
)
def test_a_task_goes_by_its_short_name_and_by_ogbenchs_own(
    name: str, family: str, number: int
) -> None:
    assert parse(name) == (family, number)


@pytest.mark.parametrize("name", ["cube-single", "cube-single-task6", "antmaze-task1", "push"])
def test_what_ogbench_does_not_have_is_refused_with_what_it_has(name: str) -> None:
    with pytest.raises(ValueError, match="among OGBench's tasks there is no"):
        OGBench((name,))


def test_tasks_that_look_different_are_refused() -> None:
    with pytest.raises(ValueError, match="one job, one family"):
        OGBench(("cube-single-task1", "scene-task1"))


def scene(**changes: object) -> World:
    """A scene in which all is well, but for the changes."""
    names = ("drawer", "window")
    world = World(
        np.array([HERE]), np.array([HERE]), (1, 1), (1, 1),
        dict(zip(names, CLOSED, strict=True)), dict(zip(names, CLOSED, strict=True)),
    )  # fmt: skip
    return world._replace(**changes)  # type: ignore[arg-type]


SLID = {"drawer": OPEN, "window": 0.0}


@pytest.mark.parametrize(
    ("world", "part"),
    [
        pytest.param(scene(), None, id="nothing is left"),
        pytest.param(
            scene(block_goals=np.array([THERE])), Part("block", 0, THERE), id="a cube elsewhere"
        ),
        pytest.param(
            World(np.array([HERE, HERE]), np.array([(0, 0, 0.06), (0, 0, 0.02)])),
            Part("block", 1, (0.0, 0.0, 0.02)),
            id="a stack grows from below",
        ),
        pytest.param(
            scene(slide_goals=SLID), Part("drawer", 0, (OPEN,)), id="a drawer that is not locked"
        ),
        pytest.param(
            scene(slide_goals=SLID, buttons=(0, 1)),
            Part("button", 0, (1,)),
            id="a locked drawer: its button first",
        ),
        pytest.param(scene(button_goals=(1, 0)), Part("button", 1, (0,)), id="the locks come last"),
        pytest.param(
            scene(block_goals=np.array([INSIDE])),
            Part("drawer", 0, (OPEN,)),
            id="a cube for the drawer: it must be open",
        ),
        pytest.param(
            scene(block_goals=np.array([INSIDE]), slides=SLID),
            Part("block", 0, tuple(IN_DRAWER)),
            id="then the cube goes in",
        ),
        pytest.param(
            scene(blocks=np.array([IN_DRAWER]), block_goals=np.array([INSIDE]), slides=SLID),
            Part("drawer", 0, (0.0,)),
            id="then the drawer is shut",
        ),
    ],
)
def test_what_comes_next(world: World, part: Part | None) -> None:
    assert todo(world) == part


@given(st.sets(st.integers(0, 8)))
def test_a_puzzle_of_lights_is_solved_with_the_fewest_presses(pressed: set[int]) -> None:
    def press(lights: np.ndarray, button: int) -> None:
        row, column = divmod(button, 3)
        for r, c in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]:
            if 0 <= row + r < 3 and 0 <= column + c < 3:
                lights[3 * (row + r) + column + c] ^= True

    lights = np.zeros(9, bool)
    for button in pressed:
        press(lights, button)
    found = presses(lights, 3)
    assert len(found) <= len(pressed)
    for button in found:
        press(lights, button)
    assert not lights.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_arm_sees_and_acts_as_its_spec_says(family: str) -> None:
    robot = OGBench((f"{family}-task1",))
    robot.reset(f"{family}-task1", seed=0)
    assert robot.observe().value.shape == (spec((f"{family}-task1",)).observation_size,)
    assert robot.act(np.full(5, 2.0, np.float32)).tolist() == [1.0] * 5
    robot.close()


@pytest.mark.parametrize("task", ["cube-single-task1", "puzzle-3x3-task1"])
def test_fleet_record_stores_what_the_expert_shows(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--storage", f"file://{tmp_path}", "--folder", "shown", "--count", "1")
    record.main([task, "--environment", "ogbench", *where])
    assert json.loads(capsys.readouterr().out) == {"episodes": 1}
    (file,) = (tmp_path / "shown").glob("*.episode")
    made = codec.decode(file.read_bytes())
    made.validate(observation_size=spec((task,)).observation_size, action_size=5, tasks=(task,))
    assert made.success
    assert made.intervention.all()
    assert len(made) < 100


def test_an_environment_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(LookupError, match="there is no 'ogbensh'; did you mean ogbench"):
        environments.find("ogbensh")


TASK = "cube-single-task2"


def test_a_human_helps_where_the_policy_stalls_and_the_same_seed_gives_the_same_attempt() -> None:
    def attempt(robot: OGBench, seed: int) -> np.ndarray:
        human = ScriptedHuman(robot.expert, GateSettings(scheduled_fraction=0, takeovers=1))
        stamp = Stamp(id="e", robot="r")
        run = EpisodeRun(robot, TASK, stamp=stamp, execute=4, human=human, seed=seed)
        while not run.done:
            if run.wanted is not None:
                run.give(np.zeros((4, 5), np.float32))  # a policy that does nothing
            run.tick()
        made = run.episode().validate(observation_size=28, action_size=5, tasks=(TASK,))
        assert made.success
        assert 0 < made.intervention.argmax() < 40
        return made.observation

    fresh, used = OGBench((TASK,)), OGBench((TASK,), seed=1)
    other = attempt(used, 1)
    first, second = attempt(fresh, 2), attempt(used, 2)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], other[0])
    fresh.close()
    used.close()
