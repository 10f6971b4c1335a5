"""The smoke of the data plane's rows of `make torture`."""

from pathlib import Path

import pytest

from faults import hostile, losses, publishing
from fleet_runtime import wire
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


async def test_a_robot_whose_connection_was_forgotten_catches_up_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_PING", 1)  # at its own pace the row itself does it
    found = await losses.partition(tmp_path, 1, Harm.FORGOTTEN, seconds=1)
    assert found["wrong"] == []
