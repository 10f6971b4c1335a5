"""`fleet lint` on what robots will send: as worked out by hand, with what it assumes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fleet_cli.main import app
from fleet_cli.uplink import Uplink, line, uplink
from fleet_contract.agents import SPOOL_RECORDS
from fleet_contract.resources import FleetTrainingJobSpec
from fleet_contract.resources.training_job import Transport

GIB = 2**30


def job(*cameras: int, hz: float = 20, **simulated: Any) -> FleetTrainingJobSpec:
    """Ten numbers seen, two done, and square-pixelled cameras of so many rows (4:3 from 480 on)."""
    images = {
        f"c{i}": [rows, rows * 4 // 3 if rows >= 480 else rows, 3] for i, rows in enumerate(cameras)
    }
    spaces = {"observationSize": 10, "actionLow": [-1, -1], "actionHigh": [1, 1], "images": images}
    return FleetTrainingJobSpec.model_validate(
        {
            "tasks": [{"name": "reach"}],
            "policy": {"parameters": {"spaces": spaces}},
            "robots": {"simulated": {"controlHz": hz, **simulated}},
        }
    )


def told(spec: FleetTrainingJobSpec) -> Uplink:
    found = uplink(spec)
    assert isinstance(found, Uplink)
    return found


@pytest.mark.parametrize(
    ("spec", "a_second"),
    [
        # 10 seen in 4 bytes, 2 done and wanted in 4 each, and 22 beside: 78 bytes a step.
        pytest.param(job(), 20 * 78, id="numbers alone"),
        pytest.param(job(hz=10, timeScale=4), 40 * 78, id="faster than life"),
        pytest.param(job(96), 20 * (78 + 2_000), id="a small camera"),
        pytest.param(job(128, 128, hz=20), 20 * (78 + 12_000), id="two of 128 × 128"),
        pytest.param(job(480, 480, 480, hz=30), 30 * (78 + 240_000), id="three of 640 × 480"),
        pytest.param(job(960, hz=1), 78 + 320_000, id="one beyond what was measured"),
    ],
)
def test_the_figures_are_those_of_the_format(spec: FleetTrainingJobSpec, a_second: float) -> None:
    found = told(spec)
    assert found.mbits == pytest.approx(8e-6 * a_second)
    assert found.hours == pytest.approx(4 * GIB / a_second / 3600)


def test_a_spool_of_parts_is_full_of_records_sooner() -> None:
    experience = {"mode": "Streaming", "every": "1s"}
    streaming = job().model_copy(
        update={"transport": Transport.model_validate({"experience": experience})}
    )
    found = told(streaming)
    assert found.hours == pytest.approx(SPOOL_RECORDS / 3600)
    assert "100000 parts of episodes" in found.assumed[-1]


def test_the_page_on_cameras_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs/cameras.md").read_text()
    assert "two cameras of 128 × 128 at 20 Hz: five hours" in page
    assert told(job(128, 128)).hours == pytest.approx(5, abs=0.5)
    assert "three of 640 × 480 at 30 Hz: ten minutes" in page
    assert 60 * told(job(480, 480, 480, hz=30)).hours == pytest.approx(10, abs=0.5)


def test_what_a_step_costs_is_what_an_episode_holds() -> None:
    from fleet_cli.uplink import Shape, a_step
    from fleet_runtime.experience.types import ARRAYS
    from helpers.learner import ACTION, OBSERVATION, episode

    made = episode("e", steps=1000)
    shape = Shape(OBSERVATION, ACTION, {}, lossless=False, horizon=None, source="")
    assert len(ARRAYS) == 9
    assert made.nbytes / 1000 == pytest.approx(a_step(shape), rel=0.01)


def test_a_robot_of_a_plug_in_is_asked_what_it_sees_and_how_long_it_tries() -> None:
    spec = FleetTrainingJobSpec.model_validate(
        {"tasks": [{"name": "reach"}], "robots": {"simulated": {"replicas": 4}}}
    )
    found = told(spec)
    assert found.mbits == pytest.approx(8e-6 * 20 * (4 * 39 + 8 * 4 + 22))
    said = line(found)
    assert "39 numbers seen and 4 done a step (metaworld), not compressed" in said
    assert "from all 4" in said


def test_short_episodes_fill_the_spool_by_their_number() -> None:
    few = told(job())
    assert few.hours > 200
    spec = FleetTrainingJobSpec.model_validate(
        {"tasks": [{"name": "reach"}], "robots": {"simulated": {"replicas": 1}}}
    )
    from fleet_cli import plugins

    horizon = plugins.world(spec).spec.horizon
    most = 100_000 * horizon / 20 / 3600
    assert told(spec).hours == pytest.approx(min(most, 4 * GIB / (20 * 210) / 3600))


def test_what_nobody_told_is_not_made_up() -> None:
    spec = FleetTrainingJobSpec.model_validate({"tasks": [{"name": "reach"}]})
    assert "not known" in line(uplink(spec))


def test_lint_prints_it_for_people_and_for_programs(tmp_path: Path) -> None:
    document = {
        "apiVersion": "fleetloop.dev/v1alpha1",
        "kind": "FleetTrainingJob",
        "metadata": {"name": "filmed"},
        "spec": job(128).model_dump(mode="json", by_alias=True, exclude_unset=True),
    }
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(document))
    said = CliRunner().invoke(app, ["lint", str(file)])
    assert said.exit_code == 0, said.output
    assert "filmed: 0.972 Mbit/s from each robot while it acts" in said.output
    assert "c0 128 × 128 at 6.0 kB a frame (JPEG at quality 90)" in said.output
    (found,) = json.loads(CliRunner().invoke(app, ["lint", str(file), "-o", "json"]).output)[
        "robots"
    ]
    assert found["mbitsPerSecond"] == pytest.approx(0.97248)
    document["spec"]["rolout"] = {}  # type: ignore[index]
    file.write_text(yaml.safe_dump(document))
    assert "Mbit/s" not in CliRunner().invoke(app, ["lint", str(file)]).output
