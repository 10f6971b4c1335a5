"""The `fleet` command as people type it."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_cli import algorithms, crds, metrics_page, policies, reference
from fleet_cli.main import app

FLEET = Path(sys.executable).with_name("fleet")
ROOT = Path(__file__).parents[2]


def fleet(*words: str, code: int = 0) -> str:
    """What it prints, both streams; it must end with the code."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


def test_help_waits_for_nothing_that_takes_long_to_load() -> None:
    """A clock would tell how busy the machine is."""
    told = subprocess.check_output(
        [sys.executable, "-X", "importtime", FLEET, "--help"], stderr=subprocess.STDOUT, text=True
    )
    assert "algorithms" in told
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    heavy = {"torch", "numpy", "kubernetes", "nats", "pydantic", "yaml", "fleet_contract"}
    assert loaded & heavy == set()


def test_kubectl_finds_it_as_a_plugin() -> None:
    scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
    assert scripts["kubectl-fleet"] == scripts["fleet"] == "fleet_cli.main:app"


def test_the_version_names_the_api_too() -> None:
    assert fleet("version").strip() == f"fleetloop {version('fleetloop')} (fleetloop.dev/v1alpha1)"


def test_programs_are_told_the_version_as_json() -> None:
    told = json.loads(fleet("version", "--output", "json"))
    assert (told["kind"], told["version"], told["api"]) == (
        *("Program", version("fleetloop")),
        "fleetloop.dev/v1alpha1",
    )


def test_the_kinds_are_printed_as_one_stream() -> None:
    assert fleet("crds") == "---\n".join(crds.files().values())


def test_the_kinds_are_written_and_a_stale_one_goes(tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").write_text(f"{crds.HEADER}kind: Gone\n")
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    fleet("crds", "--output", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {*crds.files(), "kustomization.yaml"}


def test_the_metrics_are_a_page_of_their_own() -> None:
    assert fleet("docs", "metrics") == metrics_page.render()


def test_the_reference_is_written_where_asked(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "reference.md"
    assert fleet("docs", "--output", str(page)).strip() == str(page)
    assert page.read_text() == reference.render() == fleet("docs")


def test_the_page_of_algorithms_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "algorithms.md").read_text()
    assert page == algorithms.render() == fleet("docs", "algorithms"), (
        "run `make generate` and commit it"
    )


def test_the_page_of_policies_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    assert page == policies.render() == fleet("docs", "policies"), "run `make generate`"


def test_one_policy_can_be_asked_for_and_a_wrong_name_shows_the_right_ones() -> None:
    assert fleet("policies", "flow").startswith("## flow")
    assert "there are flow, lerobot" in fleet("policies", "guess", code=1)


def test_one_algorithm_can_be_asked_for_and_a_wrong_name_shows_the_right_ones() -> None:
    assert fleet("algorithms", "recap").startswith("## recap")
    assert "hg-dagger" in fleet("algorithms", "guess", code=1)


def test_a_folder_that_cannot_be_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert fleet("crds", "--output", str(tmp_path / "file" / "x"), code=1).startswith("error: ")


def test_the_demo_tells_its_own_options() -> None:
    help_text = subprocess.check_output(
        [FLEET, "demo", "--help"], text=True, env=os.environ | {"COLUMNS": "200"}
    )
    assert "fleet demo" in help_text
    assert "--minutes" in help_text


def test_a_cluster_comes_up_with_the_kinds_and_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    try:
        said = fleet("up", "--name", "trial")
        line = next(line for line in said.splitlines() if "KUBECONFIG=" in line)
        kubeconfig = line.split("=", 1)[1]
        path = next(line for line in said.splitlines() if "PATH=" in line)
        kubectl = path.split('"')[1].removesuffix(":$PATH") + "/kubectl"
        sample = ROOT / "manifests" / "samples" / "minimal.yaml"
        command = [kubectl, "--kubeconfig", kubeconfig]
        subprocess.run([*command, "apply", "-f", sample], check=True, stdout=subprocess.DEVNULL)
        assert "is ready" in fleet("up", "--name", "trial")  # again: found, and nothing is lost
        assert b"minimal" in subprocess.check_output([*command, "get", "fleet"])
    finally:
        said = fleet("down", "--name", "trial", "--purge")
    assert said == "cluster trial ended\n"
    assert not (tmp_path / "trial").exists()
    assert fleet("down", "--name", "trial") == "no cluster trial was running\n"


def test_recording_without_a_cluster_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    assert "start one with `fleet up`" in fleet("record", "reach", code=1)


def test_demonstrations_go_into_another_store_when_asked(tmp_path: Path) -> None:
    store = ["--storage", f"file://{tmp_path}", "--folder", "data"]
    said = fleet("record", "reach", "--count", "1", *store)
    assert said.startswith("1 demonstrations in data")
    assert len(list((tmp_path / "data").glob("*.episode"))) == 1
