"""Rows 13, 16 and 17 of the scoreboard, small; `make torture` plays them at full size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults import drive, offline
from fleet_runtime.experience.types import Float
from fleet_runtime.robot.agent import Agent
from fleet_runtime.robot.guard import Guard, GuardSettings
from fleet_runtime.robot.loop import ControlLoop
from fleet_runtime.robot.swap import Loaded

Patch = Callable[[pytest.MonkeyPatch], object]


def test_no_version_drives_before_the_episode_of_another_is_over(tmp_path: Path) -> None:
    found = drive.swaps(tmp_path, seed=1, episodes=60)
    assert found["wrong"] == []
    assert found["episodes"] >= 60
    assert found["swaps"] > 20


@pytest.mark.parametrize("seed", [1, 2])
def test_what_no_motor_must_hear_is_held_within_a_tick(tmp_path: Path, seed: int) -> None:
    found = drive.bad_actions(tmp_path, seed, acts=4000)
    assert found["wrong"] == []
    assert found["faults"] > 10
    assert found["holds"] >= 10
    assert 0 < found["hold_ticks"] <= 1


# --- the same with a bug in it ---------------------------------------------------------------


def at_once(patch: pytest.MonkeyPatch) -> None:
    """What is offered drives from the next chunk on."""
    chunk: Any = ControlLoop._chunk

    def newest(self: ControlLoop, loaded: Loaded, *more: Any) -> Float:
        answer: Float = chunk(self, self._desk.slot.pending or loaded, *more)
        return answer

    patch.setattr(ControlLoop, "_chunk", newest)


def test_a_swap_in_the_middle_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)
    assert "was driven by" in " ".join(drive.swaps(tmp_path, seed=1, episodes=60)["wrong"])


def unguarded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Guard, "chunk", lambda _, chunk: chunk)
    patch.setattr(Guard, "action", lambda _self, action, **_: action)


def unjudged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Guard, "_fault", lambda *_: None)


@pytest.mark.parametrize(
    ("bug", "settings", "words"),
    [
        pytest.param(unguarded, GuardSettings(), "reached the motor", id="no guard"),
        pytest.param(unjudged, GuardSettings(rate=0.1), "jumped", id="no rate"),
        pytest.param(
            lambda _: None, GuardSettings(patience=3), "a late answer", id="more patience than time"
        ),
    ],
)
def test_an_action_that_comes_through_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bug: Patch,
    settings: GuardSettings,
    words: str,
) -> None:
    bug(monkeypatch)
    assert words in " ".join(drive.bad_actions(tmp_path, 1, 2000, settings)["wrong"])


# --- alone -----------------------------------------------------------------------------------


async def test_without_a_network_a_robot_goes_on_and_nothing_it_lived_through_is_lost(
    tmp_path: Path,
) -> None:
    found = await offline.hours_alone(tmp_path, hours=2)
    assert found["wrong"] == []
    assert found["whole"] >= 119
    assert found["given_up"] == 0


async def test_a_full_spool_gives_up_its_oldest_episodes_and_says_so(tmp_path: Path) -> None:
    found = await offline.hours_alone(tmp_path, hours=0.6, steps=120, room=60_000)
    assert found["wrong"] == []
    assert found["given_up"] > 3
    assert found["whole"] > 3


async def test_a_robot_that_stands_still_without_its_network_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "PATIENCE", 2.0)
    monkeypatch.setattr(Agent, "_remember", lambda _: None)
    with pytest.raises(TimeoutError):
        await offline.hours_alone(tmp_path, hours=0.5)


async def test_a_lost_episode_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep: Any = ControlLoop._keep

    def forget(self: ControlLoop, episode: Any, *more: Any) -> None:
        if self._desk.tally.episodes != 5:
            keep(self, episode, *more)
        else:
            self._desk.tally.episodes += 1
            self._report.outcome(episode, more[0], latency=None)

    monkeypatch.setattr(ControlLoop, "_keep", forget)
    found = await offline.hours_alone(tmp_path, hours=0.5)
    assert "are kept" in " ".join(found["wrong"])
