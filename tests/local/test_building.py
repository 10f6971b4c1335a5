"""What becomes of a build that the network, or the code, lets down."""

from pathlib import Path

import pytest

from fleet_cli.local import building
from fleet_cli.local.binaries import PROGRAMS

NATS = PROGRAMS["nats-server"]
AWAY = "main.go:1: Get https://mirror/x.zip: dial tcp: lookup mirror: i/o timeout"
WRONG = "main.go:1: undefined: x"


def a_go(folder: Path, *fails: str) -> None:
    """A compiler that fails so, one time after the other, and then makes what is asked for."""
    (folder / "go").mkdir()
    for number, said in enumerate(fails):
        (folder / "go" / f"{number}").write_text(said)
    go = folder / "bin" / "go"
    go.parent.mkdir()
    go.write_text(f"""#!/bin/sh
[ "$1" = env ] && echo go1.99.0 && exit
for said in {folder}/go/*; do
  [ -f "$said" ] && cat "$said" && rm "$said" && exit 1
done
while [ "$1" != -o ]; do shift; done
output="$2"; shift 2
echo "$*" >> {folder}/builds
for package in "$@"; do
  case "$output" in */) echo made > "$output${{package##*/}}" ;; *) echo made > "$output" ;; esac
done
""")
    go.chmod(0o755)


@pytest.fixture(autouse=True)
def at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "PAUSE", 0.01)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def test_a_build_is_tried_again_where_the_network_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_go(tmp_path, AWAY, AWAY)
    building.build([NATS], tmp_path / "cache")
    assert (tmp_path / "cache" / "nats-server").read_text() == "made\n"
    assert capsys.readouterr().err.count("the network let Go down (i/o timeout): again in") == 2


def test_programs_of_one_module_are_built_at_once_and_each_is_there(tmp_path: Path) -> None:
    a_go(tmp_path)
    kit = [program for program in PROGRAMS.values() if program.kit == "cluster"]
    building.build(kit, tmp_path / "cache")
    commands = (tmp_path / "builds").read_text().splitlines()
    assert [len(command.split()) for command in commands] == [1, 1, 4]  # NATS, etcd, Kubernetes
    left = {path.name for path in (tmp_path / "cache").iterdir()} - {".lock"}
    assert left == {program.name for program in kit}


@pytest.mark.parametrize(
    ("fails", "left"),
    [
        pytest.param([WRONG, AWAY], 1, id="the code is wrong: at once"),
        pytest.param([AWAY] * 9, 9 - building.ATTEMPTS, id="the network stays away: in the end"),
    ],
)
def test_a_build_that_cannot_be_done_says_what_go_said(
    fails: list[str], left: int, tmp_path: Path
) -> None:
    a_go(tmp_path, *fails)
    with pytest.raises(RuntimeError, match=r"main\.go:1"):
        building.build([NATS], tmp_path / "cache")
    assert len(list((tmp_path / "go").iterdir())) == left
