"""Text rules of the node: references, mount paths, the last lines of a log."""

from pathlib import Path

import pytest

from fleet_cli.local.node.environment import Paths, expand
from fleet_cli.local.node.logs import _start_of_last

MOUNTS = Paths({"/data": Path("/pod/v/d"), "/data/deep": Path("/pod/v/e"), "/etc/x/": Path("/p/x")})


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        pytest.param("/data", "/pod/v/d", id="the path itself"),
        pytest.param("/data/file", "/pod/v/d/file", id="a file below it"),
        pytest.param("/data/deep/file", "/pod/v/e/file", id="the longest mount wins"),
        pytest.param("/database /var/data", "/database /var/data", id="whole components only"),
        pytest.param("/data.old /data-2", "/data.old /data-2", id="dots and dashes are components"),
        pytest.param("--dir=/data:/etc/x/y", "--dir=/pod/v/d:/p/x/y", id="inside an argument"),
        pytest.param("file:///data/o", "file:///pod/v/d/o", id="a file URL"),
        pytest.param("http://host/data", "http://host/data", id="another URL's path is not ours"),
        pytest.param("cat '/data/a';ls /data", "cat '/pod/v/d/a';ls /pod/v/d", id="a script"),
    ],
)
def test_mount_paths_are_rewritten_where_they_stand_as_paths(text: str, rewritten: str) -> None:
    assert MOUNTS.rewrite(text) == rewritten


def test_without_mounts_nothing_is_rewritten() -> None:
    assert Paths({}).rewrite("/data") == "/data"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)/$(B)", "1/$(B)"),
        ("$$(A)", "$(A)"),
        ("$$", "$"),
        ("$A ${A} $", "$A ${A} $"),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@pytest.mark.parametrize(
    ("content", "lines", "last"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 1, "c"),
        ("a\n", 5, "a\n"),
        ("\n\n", 1, "\n"),
        ("a\nb\n", 0, ""),
        ("", 3, ""),
        ("x" * 200_000 + "\ny\n", 2, "x" * 200_000 + "\ny\n"),
        ("x\n" * 100_000, 3, "x\nx\nx\n"),
    ],
)
def test_the_last_lines_are_found_from_the_end(
    content: str, lines: int, last: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_text(content)
    assert path.read_text()[_start_of_last(path, lines) :] == last
