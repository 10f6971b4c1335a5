"""`fleet dataset` as docs/datasets.md tells it."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fleet_cli.main import app

ROOT = Path(__file__).parents[2]
FOREIGN = ROOT / "tests" / "foreign" / "dataset"
PAGE = (ROOT / "docs" / "datasets.md").read_text()
COMMANDS = [
    line.removeprefix("fleet ")
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def fleet(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_every_command_of_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOREIGN, tmp_path / "cubes")
    shutil.copytree(FOREIGN.with_name("filmed"), tmp_path / "filmed")
    monkeypatch.chdir(tmp_path)
    said = {}
    for command in COMMANDS:
        done = fleet(*shlex.split(command))
        assert done.exit_code == 0, (command, done.output)
        said[command] = done.output
    assert len(said) == 8
    assert {path.name for path in tmp_path.glob("[!.]*")} == {
        *("cubes", "demos", "failures", "for-lerobot"),
        *("filmed", "seen", "blind", "seen-by-lerobot"),
    }
    table = said["dataset inspect cubes"]
    assert "episodes  3, 15 frames, 10 a second" in table
    assert re.search(r"^Pick up the cube\. +2 +10$", table, re.MULTILINE)
    assert json.loads(said["dataset inspect cubes --output json"])["outcomes"] == {"success": 3}
    assert "3 episodes in demos; left out: observation.effort" in "".join(said.values())
    failures = json.loads(fleet("dataset", "inspect", "failures", "--output", "json").output)
    assert (failures["outcomes"], failures["interventions"]["frames"]) == ({"failure": 3}, 0)
    exported = json.loads(fleet("dataset", "inspect", "for-lerobot", "--output", "json").output)
    assert (exported["kind"], exported["fps"]) == ("lerobot", 10)
    assert exported["tasks"]["pick"] == {"episodes": 2, "frames": 10}


def test_a_fault_is_a_sentence_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "junk.episode").write_bytes(b"junk")
    done = fleet("dataset", "inspect", tmp_path)
    assert done.exit_code == 1
    assert f"fault: file://{tmp_path}/junk.episode: Malformed" in done.output
    done = fleet("dataset", "import", tmp_path / "nothing", tmp_path / "target")
    assert done.exit_code == 1
    assert "error: " in done.output
    assert "Traceback" not in done.output
    done = fleet("dataset", "import", FOREIGN, tmp_path / "target", "--task", "pick")
    assert done.exit_code == 2
    assert "WORDS=NAME" in done.output
