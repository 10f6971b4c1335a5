"""The smoke of the data plane's rows of `make torture`."""

import subprocess
from pathlib import Path
from subprocess import PIPE

import pytest

from faults import hostile, losses, power, publishing
from faults.stream import CUTS
from fleet_runtime import wire
from fleet_runtime.robot.files import write_whole
from helpers.cable import Harm


async def test_what_a_broker_lost_with_its_disk_comes_from_the_spools(tmp_path: Path) -> None:
    found = await losses.rots(tmp_path, 1, 200, "a bit in a block")
    assert found["wrong"] == []
    assert found["held"] == 200


async def test_what_is_sent_again_to_one_learner_after_the_other_trains_once(
    tmp_path: Path,
) -> None:
    found = await losses.repeats(tmp_path, 1, 200, times=1)
    assert found["wrong"] == []
    assert found["lives"] == 2


async def test_parts_sent_again_across_a_learners_death_are_each_episode_once(
    tmp_path: Path,
) -> None:
    found = await losses.repeats(tmp_path, 1, 100, times=1, cuts=CUTS)
    assert found["wrong"] == []
    assert (found["records"], found["held"], found["lives"]) == (300, 100, 2)


async def test_bad_inputs_of_every_family_are_refused_and_cost_their_neighbours_nothing(
    tmp_path: Path,
) -> None:
    found = await hostile.attacked(tmp_path, 1, 300)
    assert found["wrong"] == []
    assert (found["refused"], found["neighbours"]) == (240, 90)


@pytest.mark.parametrize("at", [26, 39])
async def test_a_learner_killed_in_a_publication_leaves_whole_versions(
    at: int, tmp_path: Path
) -> None:
    found = await publishing.killed(tmp_path, at)
    assert found["wrong"] == []


@pytest.mark.skipif(not power.possible(), reason="wants root and loop devices")
def test_a_disk_comes_back_after_a_power_cut_also_where_a_container_holds_its_mount(
    tmp_path: Path,
) -> None:
    with power.disk(tmp_path / "disk") as on:
        write_whole(on.path / "synced", b"there")
        apart = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec cat"]
        with subprocess.Popen(apart, stdin=PIPE, stdout=PIPE) as container:
            assert container.stdout is not None
            container.stdout.readline()
            on.cut()
            with pytest.raises(OSError, match="Input/output error"):
                write_whole(on.path / "after", b"")
            on.again()
            assert (on.path / "synced").read_bytes() == b"there"
            write_whole(on.path / "after", b"")
            container.communicate()


async def test_a_robot_whose_connection_was_forgotten_catches_up_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_PING", 1)  # at its own pace the row itself does it
    found = await losses.partition(tmp_path, 1, Harm.FORGOTTEN, seconds=1)
    assert found["wrong"] == []
