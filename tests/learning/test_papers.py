"""The virtual clock of benchmarks/papers, and that a killed table goes on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from benchmarks.papers.actor_scaling import ScalingPlan
from benchmarks.papers.cell import Cell, live, reached
from benchmarks.papers.clock import Clock
from benchmarks.papers.crew import Crew
from benchmarks.papers.figure import draw
from benchmarks.papers.pace import Budget
from benchmarks.papers.plan import Arm, Phase, Plan, Table
from benchmarks.papers.results import Results
from benchmarks.papers.runner import work
from benchmarks.papers.stats import mean_and_half, wilson
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import Side
from learning.makers import TASKS, Line

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.papers.fleet import Fleet

    from fleet_runtime.experience.types import Episode, Float

TINY = Plan(
    seeds=(0, 1),
    tasks=TASKS,
    robots=3,
    people=1,
    control_hz=10.0,
    reset_s=1.0,
    updates_per_minute=120.0,
    publish_every=5,
    publish_delay_s=2.0,
    upload_delay_s=0.5,
    demonstrations=1,
    first_updates=5,
    episodes=9,
    updates=30,
    attempts=3,
    watched=2,
    size={"hidden": 8, "layers": 1, "batch_size": 4, "horizon": 4, "execute": 2},
    gate={"stall_steps": 3, "scheduled_before": 4, "scheduled_steps": (2, 5)},
)


def line(plan: Plan, seed: int, *, region: float = 1.0) -> Line:
    """A robot on a line whose starts follow from its seed."""
    return _Seeded(seed)


class _Seeded(Line):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._starts = np.random.default_rng(seed)

    def reset(self, task: str, seed: int | None = None) -> None:
        super().reset(task, int(self._starts.integers(2**31)) if seed is None else seed)


def lived(plan: Plan, *phases: Phase) -> Fleet:
    cell = Cell(Arm(name="arm", phases=phases), plan, 0, line)
    cell.live()
    return cell.fleet


def episodes(fleet: Fleet) -> list[Episode]:
    known = (codec.decode(data) for data, _ in fleet.learner.known.values())
    return [one for one in known if one.robot.startswith("robot-")]


PACES = st.fixed_dictionaries(
    {
        "robots": st.integers(1, 4),
        "people": st.integers(0, 2),
        "control_hz": st.sampled_from([7.0, 10.0, 30.0]),
        "reset_s": st.sampled_from([0.0, 0.3, 2.0]),
        "updates_per_minute": st.sampled_from([30.0, 77.0, 150.0]),
        "publish_every": st.integers(1, 7),
        "publish_delay_s": st.sampled_from([0.0, 0.1, 3.0]),
        "upload_delay_s": st.sampled_from([0.0, 0.4, 5.0]),
    }
)


@settings(max_examples=8, deadline=None)
@given(pace=PACES, minutes=st.sampled_from([0.15, 0.25]))
def test_every_delay_of_the_plan_is_kept_whatever_the_pace(
    pace: dict[str, Any], minutes: float
) -> None:
    plan = dataclasses.replace(TINY, **pace)
    many = Phase(episodes=float("inf"), updates=float("inf"), minutes=minutes)
    fleet = lived(plan, many)
    assert fleet.lived
    for one in fleet.lived:
        # The newest version whose delay had passed, and no other.
        due = [
            n
            for n, made in enumerate(fleet.made)
            if n == 0 or made + plan.publish_delay_s <= one.started
        ]
        assert one.version == due[-1]
        assert one.ended - one.started == pytest.approx(one.frames / plan.control_hz)
        if one.id in fleet.arrived:
            assert fleet.arrived[one.id] == one.ended + plan.upload_delay_s
        else:
            assert one.ended + plan.upload_delay_s > minutes * 60
    assert set(fleet.arrived) == {one.id for one in episodes(fleet)}
    assert {one.policy_sequence for one in episodes(fleet)} <= {one.version for one in fleet.lived}


@settings(max_examples=8, deadline=None)
@given(pace=PACES)
def test_updates_and_versions_of_a_simulated_minute_are_exact(pace: dict[str, Any]) -> None:
    plan = dataclasses.replace(TINY, **pace | {"robots": 1})
    fleet = lived(
        plan, Phase(updates=float("inf"), minutes=0.5), Phase(updates=float("inf"), minutes=0.5)
    )
    assert fleet.updates == int(plan.updates_per_minute)
    assert len(fleet.made) == 1 + fleet.updates // plan.publish_every
    expected = [
        n * plan.publish_every * 60 / plan.updates_per_minute for n in range(len(fleet.made))
    ]
    assert fleet.made == pytest.approx(expected)


@pytest.mark.parametrize("people", [0, 1, 2])
def test_no_more_robots_are_helped_at_a_time_than_there_are_people(people: int) -> None:
    plan = dataclasses.replace(TINY, people=people, robots=4, reset_s=0.2)
    fleet = lived(plan, Phase(episodes=24))
    helped: dict[float, int] = {}
    for one in episodes(fleet):
        for at in np.round(one.time[one.intervention] * plan.control_hz):
            helped[at] = helped.get(at, 0) + 1
    assert max(helped.values(), default=0) == people  # the people have no idle minute here


def test_a_person_who_is_wanted_elsewhere_comes_when_free() -> None:
    crew = Crew(1)
    assert crew.help("a", wanted=True)
    assert not crew.help("b", wanted=True)
    assert crew.help("a", wanted=True)
    assert not crew.help("a", wanted=False)
    assert crew.help("b", wanted=True)


def test_an_arm_has_the_episodes_and_updates_of_its_phases() -> None:
    fleet = lived(
        TINY,
        Phase(episodes=4),
        Phase(updates=12, online=False, refit=True),
        Phase(episodes=5, updates=18),
    )
    assert len(fleet.lived) == len(fleet.arrived) == 9
    assert fleet.updates == 30
    assert {one.version for one in fleet.lived[:4]} == {0}
    assert all(one.version >= 2 for one in fleet.lived[4:])  # collected by what was trained


@pytest.mark.parametrize("what", ["frames", "human_frames"])
def test_no_attempt_begins_once_a_budget_of_frames_is_behind_the_robots(what: str) -> None:
    limits: dict[str, Any] = {what: 60}
    fleet = lived(TINY, Phase(episodes=100, **limits))
    assert sum(getattr(one, what) for one in fleet.lived) >= 60
    for one in fleet.lived:
        before = (other for other in fleet.lived if other.ended <= one.started)
        assert sum(getattr(other, what) for other in before) < 60


def test_rollouts_and_play_stand_beside_the_demonstrations_and_play_is_nobodys_example() -> None:
    plan = dataclasses.replace(TINY, rollouts=2, play=1)
    cell = Cell(Arm(name="arm"), plan, 0, line)
    known = [(codec.decode(data), side) for data, side in cell.learner.known.values()]
    assert {side for _, side in known} == {Side.OFFLINE}
    by = {who: [one for one, _ in known if one.robot == who] for who in ("rollout", "play")}
    assert [len(found) for found in by.values()] == [2 * len(TASKS), len(TASKS)]
    assert all(one.outcome == "failure" and one.autonomous for one in by["play"])
    assert cell.offline_frames == sum(len(one) for one, _ in known)
    assert cell.failed_frames == sum(len(one) for one, _ in known if not one.success)


def test_robots_that_start_together_share_an_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(TINY, robots=4, people=0)
    cell = Cell(Arm(name="arm"), plan, 0, line)
    policy, rows = cell.fleet.version.policy, []
    act = policy.act

    def counted(seen: Float, task: Any) -> Float:
        rows.append(len(seen))
        return act(seen, task)

    monkeypatch.setattr(policy, "act", counted)
    cell.fleet.run(Budget(episodes=4))
    assert rows[0] == 4


def test_watching_a_run_does_not_change_it() -> None:
    many = Phase(episodes=float("inf"), updates=float("inf"), minutes=0.3)
    arm = Arm(name="arm", phases=(many,))
    alone = live(arm, TINY, 0, line)
    seen = live(arm, dataclasses.replace(TINY, watch_every=0.1), 0, line)
    assert [minute for minute, _ in seen["curve"]] == pytest.approx([0.1, 0.2, 0.3])
    assert seen | {"curve": []} == alone | {"reached": seen["reached"]}


def test_an_arm_that_only_wants_its_target_ends_with_it() -> None:
    phase = Phase(episodes=float("inf"), updates=float("inf"), minutes=0.5)
    plan = dataclasses.replace(TINY, watch_every=0.1, target=0.0, until_target=True)
    found = live(Arm(name="arm", phases=(phase, phase)), plan, 0, line)
    assert found["minutes"] == pytest.approx(0.2)
    assert found["reached"] == pytest.approx(0.1)
    assert len(found["curve"]) == 2


def test_nothing_can_be_due_in_the_past() -> None:
    clock = Clock()
    clock.at(2.0, 0)
    clock.pop()
    with pytest.raises(ValueError, match="nothing can be due"):
        clock.at(1.0, 0)


@pytest.mark.parametrize(
    ("curve", "minute"),
    [
        ([], None),
        ([[1, 0.9]], None),
        ([[1, 0.9], [2, 0.7], [3, 0.8]], None),
        ([[1, 0.9], [2, 0.7], [3, 0.8], [4, 0.8], [5, 0.1]], 3),
        ([[1, (0.75 + 0.75 + 0.9) / 3], [2, (1 + 0.8 + 0.6) / 3]], 1),  # 0.8 less a last bit
    ],
)
def test_a_target_is_reached_when_two_evaluations_in_a_row_are_there(
    curve: list[list[float]], minute: float | None
) -> None:
    assert reached(curve, 0.8) == minute


def test_wilson_and_student_are_as_in_the_tables() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert mean_and_half([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.4841), abs=1e-4)
    assert np.isnan(mean_and_half([1.0])[1])


def table() -> Table:
    return Table(
        name="toy",
        title="Toy",
        arms=lambda plan: (
            Arm(name="SFT"),
            Arm(name="SOP", phases=(Phase(episodes=plan.episodes, updates=plan.updates),)),
        ),
        baseline="SFT",
        goal=lambda _: ("", True),
    )


def play(folder: Path, *, most: int = 100) -> int:
    """What the runner does, killed after `most` cells; how many it lived through."""
    done = 0

    def run(arm: Arm, plan: Plan, seed: int) -> dict[str, Any]:
        nonlocal done
        if done == most:
            raise KeyboardInterrupt
        done += 1
        return live(arm, plan, seed, line)

    names = [arm.name for arm in table().arms(TINY)]
    with contextlib.suppress(KeyboardInterrupt):
        work(table(), TINY, Results(folder), only=names, workers=0, estimated=False, run=run)
    return done


def test_a_picture_takes_runs_that_end_at_different_times() -> None:
    found = live(Arm(name="SFT"), TINY, 0, line)
    curves = ([[1.0, 0.5]], [[1.0, 0.5], [2.0, 0.9]])
    rows = {"SFT": {seed: found | {"curve": curve} for seed, curve in enumerate(curves)}}
    assert draw(table(), TINY, rows).startswith(b"\x89PNG")


def test_a_killed_table_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert play(whole) == 4
    assert play(killed, most=2) == 2
    assert "2 of 4 cells (unfinished)" in (killed / "table.md").read_text()
    with (killed / "cells.jsonl").open("a") as file:
        file.write('{"key": "cut sho')  # the kill fell into a line
    assert play(killed) == 2
    assert play(killed) == 0
    assert (killed / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert "unfinished" not in (whole / "table.md").read_text()


def test_which_arms_a_table_has_is_no_part_of_a_cell() -> None:
    grid = ScalingPlan(swept=(1,))
    assert Arm(name="SOP").key(grid, 0) == Arm(name="SOP").key(ScalingPlan(), 0)


def test_another_plan_does_not_take_over_a_cell() -> None:
    arm = Arm(name="SOP")
    more = dataclasses.replace(TINY, updates=31)
    assert arm.key(TINY, 0) != arm.key(more, 0)
    assert arm.key(TINY, 0) != arm.key(TINY, 1)
    assert arm.key(TINY, 0) == arm.key(dataclasses.replace(TINY, seeds=(0, 1, 2)), 0)
    assert json.loads(json.dumps(arm.changes)) == {}
