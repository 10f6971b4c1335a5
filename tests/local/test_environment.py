"""What the node makes of a pod: references, mount paths, files, the last lines of a log."""

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest

from fleet_cli.local.node import volumes
from fleet_cli.local.node.api import Api, Json
from fleet_cli.local.node.container import Container
from fleet_cli.local.node.environment import Paths, expand
from fleet_cli.local.node.launch import Surroundings
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


class Shaky(Api):
    """An API server that ends every other connection without an answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Queue[int]()
        self.count = 0

    async def get(self, path: str, **params: str) -> Json:
        self.count += 1
        self.asked.put_nowait(self.count)
        if self.count % 2:
            raise aiohttp.ServerDisconnectedError
        return {"data": {"learner": str(self.count)}}


POD: Json = {
    "metadata": {"name": "pod", "namespace": "lab", "uid": "uid"},
    "spec": {
        "volumes": [{"name": "trust", "configMap": {"name": "trust"}}],
        "containers": [
            {
                "name": "main",
                "image": "none",
                "command": ["sleep", "1000"],
                "envFrom": [{"configMapRef": {"name": "trust"}}],
            }
        ],
    },
}


async def test_files_are_kept_fresh_also_after_a_lost_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "REFRESH_SECONDS", 0.0)
    api = Shaky()
    keeping = asyncio.create_task(
        volumes.Volumes(api, POD, tmp_path, "127.0.0.1").keep_fresh(), name="keeping"
    )
    async with asyncio.timeout(60):
        while await api.asked.get() < 5:
            assert not keeping.done()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert int((tmp_path / "trust" / "learner").read_text()) >= 4


async def test_a_container_waits_for_an_api_server_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    told: list[str] = []
    api = Shaky()
    around = Surroundings(
        api=api,
        pod=POD,
        folder=tmp_path,
        ip="127.0.0.1",
        base={"PATH": os.environ["PATH"]},
        volumes=volumes.Volumes(api, POD, tmp_path / "volumes", "127.0.0.1"),
        stopping=asyncio.Event(),
        replaced=asyncio.Event(),
        changed=lambda: None,
        tell=lambda _kind, _reason, words: told.append(words),
        grace=lambda: 1.0,
    )
    container = Container("main", around, "Never", initial=False)
    async with asyncio.timeout(60):
        process = await container._start()
    assert process is not None
    process.kill()
    await process.wait()
    assert told == ["Server disconnected"]
