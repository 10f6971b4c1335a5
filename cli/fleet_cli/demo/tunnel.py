"""Ways into a cluster that this machine is no part of: kubectl forwards, for as long as asked."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.api import Api
from fleet_cli.local.ports import LOOPBACK, free_ports
from fleet_cli.local.processes import POLL, Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

WITHIN = 30.0  # seconds until a way is open
AGAIN = 0.5  # seconds between its end, as when the pod behind it went, and the next try
GRACE = 5.0  # seconds


def port_forward(base: Sequence[str], service: str, port: int, local: int) -> list[str]:
    """The command that brings a Service's port to loopback; ``base`` is kubectl and its target."""
    way = f"{local}:{port}"
    return [*base, "port-forward", f"service/{service}", way, "--address", LOOPBACK]


def proxy(base: Sequence[str], path: Path) -> list[str]:
    """The command that serves the API on a socket: nobody else on this machine may open it."""
    return [*base, "proxy", "--unix-socket", str(path)]


class ProxiedApi(Api):
    """The API server behind ``kubectl proxy``, which knows every way to log in."""

    def __init__(self, path: Path) -> None:
        self.server = "http://localhost"
        self._path = path

    def _connection(self) -> tuple[aiohttp.BaseConnector, dict[str, str]]:
        return aiohttp.UnixConnector(str(self._path), limit=0), {}


@contextmanager
def forwarded(base: Sequence[str], service: str, port: int, log: Path) -> Iterator[int]:
    """The port on loopback that leads to a Service. Raises ``RuntimeError`` when none does."""
    local = free_ports([service])[service]
    child = Child(service, port_forward(base, service, port, local), log)
    with _kept_up(child, lambda: _connects((LOOPBACK, local), socket.AF_INET)):
        yield local


@contextmanager
def proxied(base: Sequence[str], folder: Path) -> Iterator[Path]:
    """The socket of the API server. Raises ``RuntimeError`` when nothing listens there."""
    path = folder / "api.sock"
    child = Child("api", proxy(base, path), folder / "api.log")
    with _kept_up(child, lambda: _connects(str(path), socket.AF_UNIX)):
        yield path


@contextmanager
def _kept_up(child: Child, ready: Callable[[], bool]) -> Iterator[None]:
    """Run a program while the block lasts, and again whenever it ends by itself."""
    over = threading.Event()

    def keep() -> None:  # one thread starts it each time: it would end with its starter
        while not over.is_set():
            child.start()
            assert child.process is not None  # noqa: S101 - started above
            child.process.wait()
            over.wait(AGAIN)

    keeper = threading.Thread(target=keep, name=child.name, daemon=True)
    keeper.start()
    try:
        deadline = time.monotonic() + WITHIN
        while not ready():
            if time.monotonic() > deadline:
                command = " ".join(child.command)
                raise RuntimeError(f"`{command}` opens no way in: {child.tail(3)}")
            time.sleep(POLL)  # it tells nobody but its log
        yield
    finally:
        over.set()
        while keeper.is_alive():  # it may have been started between the two lines above
            child.stop(GRACE)
            keeper.join(POLL)


def _connects(address: tuple[str, int] | str, family: socket.AddressFamily) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(address) == 0
