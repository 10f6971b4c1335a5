"""The demo's story, its two views and its report, told from messages alone."""

import asyncio
import io
import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from fleet_cli.demo import report
from fleet_cli.demo.courses import COURSES, cast, course
from fleet_cli.demo.feed import swept
from fleet_cli.demo.story import Story, TaskStory, mean_rate
from fleet_cli.demo.view import line, picture, show
from fleet_cli.lint import faults
from fleet_contract.messages import (
    Event,
    EventKind,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    Outcome,
    PolicyRef,
    RobotState,
)
from fleet_contract.resources import FleetTrainingJob
from helpers.nats import half_a_broker

POLICY = PolicyRef(sequence=3, digest="sha256:" + "0" * 64, uri="jobs/u/versions/3.json")


def heartbeat(robot: str = "demo-sim-0", **changes: object) -> Heartbeat:
    fields: dict[str, object] = {
        "robot": robot,
        "robot_uid": "r",
        "job_uid": "u",
        "state": RobotState.RUNNING,
        "active": POLICY,
        "control_hz": 80.0,
        "at": 0.0,
    }
    return Heartbeat.model_validate(fields | changes)


def outcome(task: str, judged: bool | None, human_frames: int = 0) -> Event:
    return Event(
        kind=EventKind.OUTCOME,
        robot="demo-sim-0",
        robot_uid="r",
        job_uid="u",
        task=task,
        outcome=Outcome.SUCCESS if judged else Outcome.TIMEOUT,
        judged=judged,
        human_frames=human_frames,
        at=0.0,
    )


@pytest.fixture
def story() -> Story:
    return Story({"push": TaskStory(), "drawer-open": TaskStory()})


def test_a_neutral_episode_counts_as_an_episode_but_not_in_the_success_rate(story: Story) -> None:
    story.on_event(1.0, outcome("push", True))
    story.on_event(2.0, outcome("push", None, human_frames=15))
    push = story.tasks["push"]
    assert (push.episodes, push.interventions, push.rate) == (2, 1, 1.0)


def test_the_goal_seems_met_only_when_every_task_has_enough_evidence(story: Story) -> None:
    for _ in range(12):
        story.on_event(1.0, outcome("push", True))
    assert not story.seems_met(0.9, 12)
    for _ in range(12):
        story.on_event(2.0, outcome("drawer-open", True))
    assert story.seems_met(0.9, 12)
    for _ in range(6):
        story.on_event(3.0, outcome("drawer-open", False))
    assert not story.seems_met(0.9, 12)


def test_an_outcome_of_a_task_the_job_does_not_have_changes_nothing(story: Story) -> None:
    story.on_event(1.0, outcome("juggling", True))
    assert story.rates == {}


def test_the_first_moving_robot_is_noted_once(story: Story) -> None:
    for at, speed in ((3.0, 0.0), (5.0, 80.0), (6.0, 80.0)):
        story.on_heartbeat(at, heartbeat(control_hz=speed))
    assert story.first_step_at == 5.0
    assert len(story.log) == 1


def test_a_deleted_job_is_told_and_kept(story: Story) -> None:
    job = FleetTrainingJob.model_validate(
        {"metadata": {"name": "demo"}, "spec": {"tasks": [{"name": "push"}]}}
    )
    story.on_job(1.0, "ADDED", job)
    story.on_job(2.0, "DELETED", job)
    assert story.deleted
    assert "deleted" in story.log[-1][1]


def test_what_a_job_is_stalled_by_is_told_once(story: Story) -> None:
    stalled = {"type": "Stalled", "status": "True", "reason": "ImagePullFailed"}
    stalled |= {"message": "no image", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    spec = {"metadata": {"name": "demo"}, "spec": {"tasks": [{"name": "push"}]}}
    job = FleetTrainingJob.model_validate(spec | {"status": {"conditions": [stalled]}})
    for at in (1.0, 2.0):
        story.on_job(at, "MODIFIED", job)
    assert story.log == [(1.0, "demo is stalled: no image")]


def test_both_views_tell_tasks_robots_learner_and_rollout(story: Story) -> None:
    story.on_event(1.0, outcome("push", True))
    story.on_heartbeat(1.0, heartbeat())
    story.on_learner(
        LearnerHeartbeat(
            job_uid="u", epoch=1, stage=LearnerStage.ONLINE, step=40, steps_per_second=99.6, at=0.0
        )
    )
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(picture(story, 2.0))
    drawn = console.export_text()
    for wanted in ("push", "100%", "demo-sim-0", "v3", "step 40", "100/s", "rollout"):
        assert wanted in drawn
        if wanted != "demo-sim-0":
            assert wanted in line(story, 2.0)


def test_a_robot_that_fell_silent_is_shown_as_silent(story: Story) -> None:
    story.on_heartbeat(1.0, heartbeat())
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(picture(story, 60.0))
    assert "silent" in console.export_text()


def test_the_report_leaves_numbers_and_a_picture(story: Story, tmp_path: Path) -> None:
    story.on_event(1.0, outcome("push", True))
    story.base = {"push": (1, 4), "drawer-open": (3, 4)}
    story.final = {"push": (4, 4), "drawer-open": (4, 4)}
    report.write(tmp_path, story, report.summary(story, 1.5, "goal met"))
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (numbers["base"]["success"], numbers["final"]["success"]) == (0.5, 1.0)
    assert numbers["fleet"]["push"]["curve"] == [[1.0, 1.0]]
    assert (tmp_path / "learning-curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", COURSES)
def test_the_demo_plays_each_algorithm_with_a_job_that_nothing_refuses(name: str) -> None:
    job = yaml.safe_load(files("fleet_cli.demo").joinpath("job.yaml").read_text())
    cast(job, course(name))
    assert job["spec"]["algorithm"]["name"] == name
    assert job["spec"]["learner"]["checkpoint"] == {"interval": "30s"}
    assert [fault for fault in faults(yaml.safe_dump(job)) if not fault.hint] == []


def test_an_algorithm_without_a_course_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(ValueError, match="there is no 'recp'; did you mean recap"):
        course("recp")


def test_the_mean_counts_every_task_alike() -> None:
    assert mean_rate({"a": (1, 1), "b": (0, 100)}) == 0.5


async def test_without_a_terminal_every_entry_of_the_log_is_a_line_and_the_last_one_too(
    story: Story,
) -> None:
    console = Console(width=200, file=io.StringIO())
    story.say(1.0, "the beginning")
    shown = asyncio.create_task(show(story, lambda: 2.0, console))
    await asyncio.sleep(0)
    story.say(2.0, "the end")
    shown.cancel()
    await asyncio.wait([shown])
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0].endswith("* the beginning")
    assert lines[-1].endswith("* the end")


async def test_whoever_waits_for_a_broker_in_vain_leaves_no_socket_behind() -> None:
    async with half_a_broker() as (url, happened):
        assert not await swept(url, "fleet-demo", "demo", within=0.5)
        assert await asyncio.wait_for(happened.get(), 60) == "came"
        assert await asyncio.wait_for(happened.get(), 60) == "left"
