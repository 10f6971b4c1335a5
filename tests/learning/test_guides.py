"""The Python of docs/robots.md and docs/learning.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet_runtime import algorithms
from fleet_runtime.robot.env import Attended, Robot, Scripted
from fleet_runtime.robot.episode import EpisodeRun, Stamp
from fleet_runtime.robot.main import make_human
from fleet_runtime.robot.renamed import renamed

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """What is defined when both pages are typed in."""
    found: dict[str, Any] = {"__name__": "guide"}
    for page in ("robots.md", "learning.md"):
        for block in BLOCK.findall((DOCS / page).read_text()):
            exec(compile(block, page, "exec", dont_inherit=True), found)
    return found


def test_the_robots_are_what_the_page_calls_them(shown: dict[str, Any]) -> None:
    plain, attended, simulated = (
        shown[name](["center"]) for name in ("Carriage", "AttendedCarriage", "SimulatedCarriage")
    )
    assert all(isinstance(one, Robot) for one in (plain, attended, simulated))
    assert isinstance(attended, Attended)
    assert isinstance(simulated, Scripted)
    assert not isinstance(plain, (Attended, Scripted))


def test_whoever_stands_by_a_robot_takes_it_over_also_under_the_jobs_names(
    shown: dict[str, Any],
) -> None:
    attended: Any = shown["AttendedCarriage"]

    class Held(attended):  # type: ignore[misc]
        acted = 0

        def act(self, action: Any) -> Any:
            self.acted += 1
            return super().act(action)

        def human(self) -> Any:
            return shown["Pad"](lambda: 0.3 if self.acted in {1, 2} else None)

    robot = renamed(Held(["center"]), {"mitte": "center"})
    nothing: Any = None  # is read for a person
    human = make_human(nothing, robot)
    run = EpisodeRun(robot, "mitte", stamp=Stamp(id="e", robot="r"), execute=1, human=human)
    while run.steps < 4:
        run.give(np.zeros((1, 1), np.float32))
        run.tick()
    run.abort("enough")
    assert run.episode().intervention.tolist() == [False, True, True, False]
    assert run.episode().action[:, 0].tolist() == pytest.approx([0, 0.3, 0.3, 0])


def test_what_is_learned_by_oneself_is_learned(shown: dict[str, Any]) -> None:
    assert shown["clone"] > 0.8


def test_the_algorithm_of_the_page_learns_too(
    shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algorithms, "find", lambda _: shown["Brisk"])
    assert shown["learned"]("brisk", 300, hidden=64) > 0.8
    with pytest.raises(ValueError, match="discount"):
        shown["Brisk"].create(None, {"discount": 2})
