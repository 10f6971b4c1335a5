"""``fleet up`` and ``fleet down``: a named cluster that other shells can find and end.

``python -m fleet_cli.local.lifecycle <folder>`` is the process behind a detached cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_cli.local import binaries
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.pki import Pki
from fleet_cli.local.ports import LOOPBACK
from fleet_cli.local.processes import POLL, tail
from fleet_cli.local.state import State, read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

DETACHED_WITHIN = 120.0  # seconds until a detached cluster is ready
DOWN_WITHIN = 45.0  # seconds in which the owner ends its programs, pods included
ENDING = (signal.SIGTERM, signal.SIGHUP)  # the latter: the terminal was closed
LOOK_EVERY = 0.5  # seconds between two looks whether a program ended by itself


@dataclass(frozen=True)
class Connection:
    """How to reach a running cluster."""

    dir: Path
    kubeconfig: Path
    server: str
    token: str = field(repr=False)
    ca: Path
    nats_url: str
    nats_monitor_url: str
    nats_root: dict[str, str] = field(repr=False)
    storage_url: str
    kubectl: Path
    pid: int


def home(name: str) -> Path:
    """The folder of a named cluster, below ``$FLEET_HOME`` where that is set."""
    if chosen := os.environ.get("FLEET_HOME"):
        return Path(chosen).expanduser().absolute() / name
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "fleetloop" / name


def connection(name: str = "default") -> Connection | None:
    """The cluster of that name where it runs and is ready."""
    folder = home(name)
    state = read_state(folder)
    if state is None or not state.ready or not state.owner.alive():
        return None
    return _connection(folder, state)


def up(
    name: str = "default",
    *,
    detach: bool = True,
    ready: Callable[[Connection], None] | None = None,
) -> Connection:
    """Start the cluster, or find it running; ``ready`` is told how to reach it.

    Detached, it goes on until ``down``. In the foreground this returns after Ctrl-C or SIGTERM,
    when nothing of it is left.
    """
    folder = home(name)
    binaries.resolve()  # here, where its progress is seen
    if detach:
        found = connection(name) or _detach(folder)
        if ready is not None:
            ready(found)
        return found
    return _hold(folder, ready)


def down(name: str = "default", *, purge: bool = False) -> bool:
    """End the cluster from any shell; False where none ran. ``purge`` removes its data too."""
    folder = home(name)
    state = read_state(folder)
    ran = state is not None and _end(state)
    if purge and state is not None:
        shutil.rmtree(folder)
    return ran


def _end(state: State) -> bool:
    living = [process for process in state.processes.values() if process.alive()]
    ran = state.owner.alive() or bool(living)
    state.owner.end(DOWN_WITHIN)
    for process in living:  # only where the owner could not
        process.end(5.0)
    return ran


def _hold(folder: Path, ready: Callable[[Connection], None] | None) -> Connection:
    before = {sign: signal.getsignal(sign) for sign in ENDING}
    for sign, handler in before.items():
        if handler is not signal.SIG_IGN:  # as below nohup
            signal.signal(sign, _interrupt)
    cluster = LocalCluster(folder, accounts=True)
    found: Connection | None = None
    try:
        with cluster:
            state = read_state(folder)
            assert state is not None  # noqa: S101 - written by the start above
            found = _connection(folder, state)
            if ready is not None:
                ready(found)
            while True:
                cluster.check()
                time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        if found is None:  # before it was up: the caller must not take it for a success
            raise
        return found
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does, and once: another signal would break the end off."""
    for sign in ENDING:
        signal.signal(sign, signal.SIG_IGN)
    raise KeyboardInterrupt


def _detach(folder: Path) -> Connection:
    log = folder / "logs" / "cluster.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pid = _spawn([sys.executable, "-m", "fleet_cli.local.lifecycle", str(folder)], log)
    deadline = time.monotonic() + DETACHED_WITHIN
    try:
        while time.monotonic() < deadline:
            state = read_state(folder)
            if state is not None and state.owner.pid == pid and state.ready:
                return _connection(folder, state)
            if os.waitpid(pid, os.WNOHANG)[0]:
                break
            time.sleep(POLL)
        else:
            os.kill(pid, signal.SIGTERM)
    except BaseException:  # Ctrl-C while it starts: nothing half-started stays
        os.kill(pid, signal.SIGTERM)
        raise
    message = f"the cluster in {folder} did not come up; {log} ends:\n{tail(log, 15)}"
    raise RuntimeError(message)


def _spawn(command: list[str], log: Path) -> int:
    """A process in a session of its own, so that the terminal may close; nobody waits for it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        os.environ,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def _connection(folder: Path, state: State) -> Connection:
    pki = Pki(folder / "pki")
    ports = state.ports
    return Connection(
        dir=folder,
        kubeconfig=folder / "kubeconfig",
        server=f"https://{LOOPBACK}:{ports['apiserver']}",
        token=pki.token("admin"),
        ca=pki.ca,
        nats_url=f"nats://{LOOPBACK}:{ports['nats']}",
        nats_monitor_url=f"http://{LOOPBACK}:{ports['nats-monitor']}",
        nats_root=pki.nats_root(),
        storage_url=f"file://{folder / 'objects'}",
        kubectl=binaries.resolve("kubectl")["kubectl"],
        pid=state.owner.pid,
    )


if __name__ == "__main__":
    os.chdir("/")  # it must not keep a folder from being unmounted
    try:
        _hold(Path(sys.argv[1]), None)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(143)
