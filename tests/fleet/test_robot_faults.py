"""What a robot does about its own faults: its arm, its sensors, its disk."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fleet_contract.errors import Retry
from fleet_contract.messages import EventKind, Outcome
from fleet_contract.resources.experience import Experience, ExperienceMode
from fleet_runtime.robot import loop
from fleet_runtime.robot import spool as spooled
from fleet_runtime.robot.episode import EpisodeRun, Stamp
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.scribe import Scribe
from fleet_runtime.robot.spool import Spool
from helpers.alone import Alone, loaded
from helpers.records import draft
from helpers.world import PointRobot, flow

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_runtime.robot.env import Observation

STREAMING = Experience(mode=ExperienceMode.STREAMING, every="100ms")


def driven(alone: Alone) -> None:
    alone.desk.change(lambda slot: dataclasses.replace(slot, pending=loaded(1, flow())))


def test_an_arm_that_was_off_for_a_night_is_brought_up_in_the_morning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Off(PointRobot):
        tries = 0

        def connect(self) -> None:
            self.tries += 1
            if self.tries < 1100:
                raise OSError("no power")

    caplog.set_level("CRITICAL")
    monkeypatch.setattr(loop, "_MOST_PAUSE", 0.0)
    with Alone(tmp_path, Off(), hz=200) as alone:
        driven(alone)
        alone.until(1)


@pytest.mark.parametrize("wrong", [[np.nan, 1.0], [np.inf, 1.0], [1e39, 1.0], [1.0]], ids=str)
def test_what_a_broken_sensor_says_ends_the_attempt_and_is_no_fault_of_the_policys(
    tmp_path: Path, wrong: list[float]
) -> None:
    class Broken(PointRobot):
        def observe(self) -> Observation:
            seen = super().observe()
            if len(self.acted) != 5:
                return seen
            self.acted.append(0.0)
            return dataclasses.replace(seen, value=np.array(wrong))

    with Alone(tmp_path, Broken(), hz=200) as alone:
        driven(alone)
        alone.until(2)
        record, _ = alone.spool.read(1)
    aborted, after = alone.of(EventKind.OUTCOME)[:2]
    assert (aborted.outcome, aborted.judged, aborted.frames) == (Outcome.ABORTED, None, 5)
    assert "observ" in aborted.detail
    assert (record.episode_id, record.outcome) == (aborted.episode_id, Outcome.ABORTED)
    assert after.policy == aborted.policy
    assert not alone.of(EventKind.GUARD)


def test_a_part_of_an_episode_that_broke_off_is_none_of_the_next_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, job_uid="uid-1")
    who = Identity("default", "r0", "robot-uid", "job", "uid-1")
    scribe = Scribe(who, spool, quality=None, wanted=STREAMING, spooled=lambda: None)

    def run(name: str) -> EpisodeRun:
        made = EpisodeRun(PointRobot(), "left", stamp=Stamp(id=name, robot="r0"), execute=5)
        made.give(np.zeros((5, 1), np.float32))
        for _ in range(5):
            made.tick()
        return made

    scribe.begin(loaded(1, flow()), 0.0)
    scribe.tick(run("one"), 10.0)  # its end never comes
    scribe.begin(loaded(1, flow()), 20.0)
    other = run("two")
    other.abort("test")
    scribe.end(other.episode())
    scribe.close()
    records = [spool.read(n)[0] for n in spool.pending()]
    spool.close()
    assert [(r.episode_id, r.segment, r.last) for r in records] == [
        ("one", 0, False),
        ("one", 1, True),
        ("two", 0, True),
    ]


def test_a_disk_that_is_gone_is_told_in_words_and_harms_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spooled, "RECENT_RECORDS", 0)
    spool = Spool(tmp_path, job_uid="uid-1", max_bytes=6000)
    first, second = (spool.append(draft(b"x" * 2500, "e"), b"x" * 2500).n for _ in range(2))
    spool._recent.clear()
    shutil.rmtree(spool.folder)
    with pytest.raises(Retry, match="put it right there"):
        spool.append(draft(b"y" * 2500, "e"), b"y" * 2500)
    with pytest.raises(Retry, match="put it right there"):
        spool.read(first)
    assert spool.settle([first, second]) == 2
    assert "receipted" in caplog.text
    assert spool.pending() == []
    spool.close()


def test_a_robot_whose_disk_is_gone_drives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    robot = PointRobot()
    with Alone(tmp_path, robot, hz=200) as alone:
        driven(alone)
        alone.until(4)
        stops, alone.spool._max_bytes = robot.stops, alone.spool.nbytes  # full, too
        shutil.rmtree(alone.spool.folder)
        alone.until(7)
        assert alone.desk.tally.lost >= 2
        assert "Episodes are lost" in alone.desk.tally.spool_fault
        assert robot.stops == stops
    assert "the robot failed" not in caplog.text
