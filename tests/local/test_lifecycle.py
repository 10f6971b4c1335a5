"""Up, down, and every way in which a cluster can end: nothing of it stays, nothing else goes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from fleet_cli.local import binaries
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.lifecycle import _interrupt, connection, down, up
from fleet_cli.local.node.api import Api
from fleet_cli.local.processes import Child, ProcessId
from fleet_cli.local.state import State, lock, read_state
from helpers.kube import Kube, await_exit, container


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process of somebody else's."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    yield tmp_path / "test"
    down("test")


def pids(folder: Path) -> list[int]:
    state = read_state(folder)
    assert state is not None
    return [state.owner.pid, *(process.pid for process in state.processes.values())]


async def test_a_cluster_outlives_its_shell_survives_its_own_death_and_goes_down(
    home: Path, bystander: int
) -> None:
    """One long story, because each chapter needs a running cluster."""
    found = up("test")
    assert up("test").pid == found.pid  # found running, not started again
    every = pids(home)
    async with Api(found.kubeconfig) as api:
        kube = Kube(api, "default")
        script = "trap '' TERM HUP; setsid sleep 1000 & echo $$$$ $!; wait"
        await kube.run("again", "sh", "-c", script, pod={"restartPolicy": "Always"})
        await kube.run("once", "sh", "-c", "sleep 1000")
        for name in ("again", "once"):
            await kube.phase(name, "Running")
        processes: list[str] = []
        while len(processes) < 2:
            processes = (await kube.logs("again")).split()
    os.kill(found.pid, signal.SIGKILL)
    for pid in (*every, *map(int, processes)):
        await_exit(pid)
    assert connection("test") is None

    found = up("test")
    every = pids(home)
    async with Api(found.kubeconfig) as api:
        kube = Kube(api, "default")
        # What ran when the node died: run again, or failed where it must run only once.
        await kube.until("pods", "again", lambda p: container(p)["restartCount"] == 1)
        seen = await kube.phase("once", "Failed")
        assert container(seen)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"

    assert down("test")
    for pid in every:
        await_exit(pid, 1)
    os.kill(bystander, 0)
    assert not down("test")


def ignored(pid: int) -> set[int]:
    """The signals that a process ignores."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigIgn:")[2].split()[0], 16)
    return {sign for sign in range(1, 65) if mask >> (sign - 1) & 1}


async def test_a_second_cluster_in_the_foreground_is_apart_and_ctrl_c_leaves_nothing_of_it(
    home: Path, kube: Kube
) -> None:
    script = (
        "from fleet_cli.local.lifecycle import up;"
        "up('test', detach=False, ready=lambda _: print('up', flush=True))"
    )
    nohup = ("env", "--ignore-signal=HUP")
    process = await asyncio.create_subprocess_exec(
        *nohup, sys.executable, "-c", script, stdout=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    assert signal.SIGHUP in ignored(process.pid)  # the terminal may close
    every = pids(home)
    with pytest.raises(RuntimeError, match="a cluster already runs in"):
        up("test", detach=False)
    async with Api(home / "kubeconfig") as other:
        listed = await other.get("/api/v1/namespaces")
    assert kube.namespace not in {one["metadata"]["name"] for one in listed["items"]}
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    for pid in every:
        await_exit(pid, 1)
    assert await kube.get("pods")  # the first one is still there


def test_who_is_told_to_end_twice_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    with pytest.raises(KeyboardInterrupt):
        _interrupt(signal.SIGTERM, None)
    assert handlers == dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


def test_down_never_ends_a_stranger_that_got_an_old_process_id(home: Path, bystander: int) -> None:
    home.mkdir(parents=True)
    stale = ProcessId(bystander, started=1)
    State(owner=stale, processes={"etcd": stale}, ready=True).write(home)
    assert connection("test") is None
    assert not down("test")
    os.kill(bystander, 0)


def test_a_damaged_state_file_is_named_and_nothing_is_killed(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "cluster.json").write_text(json.dumps({"owner": 1}))
    with pytest.raises(RuntimeError, match=r"cluster.json is damaged"):
        down("test")
    (home / "cluster.json").unlink()


def test_purge_removes_the_folder_of_a_cluster_that_is_down(home: Path) -> None:
    home.mkdir(parents=True)
    State(owner=ProcessId(2**22, started=1)).write(home)
    down("test", purge=True)
    assert not home.exists()


def test_a_program_that_does_not_start_is_named_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in binaries.PROGRAMS:
        path = tmp_path / "assets" / name
        path.parent.mkdir(exist_ok=True)
        says = "echo the disk is full; exit 3" if name == "etcd" else "exec sleep 1000"
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    cluster = LocalCluster(tmp_path / "cluster")
    with pytest.raises(RuntimeError, match=r"(?s)etcd ended with exit code 3.*the disk is full"):
        cluster.start()
    for pid in pids(cluster.dir)[1:]:
        await_exit(pid, 1)
    with lock(cluster.dir):
        pass  # free again


def test_a_program_that_ends_later_is_noticed(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    child = Child("etcd", ["sh", "-c", "echo out of memory; exit 9"], tmp_path / "etcd.log")
    child.start()
    assert child.process is not None
    child.process.wait()
    cluster.children["etcd"] = child
    with pytest.raises(RuntimeError, match=r"(?s)etcd ended by itself \(exit code 9\).*memory"):
        cluster.check()
