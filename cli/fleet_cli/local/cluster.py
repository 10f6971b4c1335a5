"""A real Kubernetes on this machine: etcd, the control plane, NATS and a node of our own.

No root, no containers, nothing outside one folder. Several clusters run side by side, each in a
folder of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, Self

from fleet_cli.local import binaries
from fleet_cli.local.control_plane import PORTS, Component, ControlPlane
from fleet_cli.local.pki import IDENTITIES, ensure_pki, write_kubeconfig
from fleet_cli.local.ports import free_ports
from fleet_cli.local.processes import POLL, Child, ProcessId
from fleet_cli.local.state import State, lock, read_state

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from fleet_cli.local.pki import Pki

READY_WITHIN = 60.0  # seconds for each program; on an idle machine all of them take five
ATTEMPTS = 3  # somebody may take a port between our choice and its use


class LocalCluster:
    """A cluster that lives as long as the ``with`` block, or from ``start`` to ``stop``.

    Start it from a thread that outlives it: the kernel ends the programs with that thread.
    """

    plane_type: ClassVar[type[ControlPlane]] = ControlPlane

    def __init__(self, folder: Path, *, accounts: bool = False) -> None:
        """With ``accounts`` its NATS takes only whom an operator minted, else everybody."""
        self.accounts = accounts
        self.dir = folder.absolute()
        self.kubeconfig = self.dir / "kubeconfig"
        self.children: dict[str, Child] = {}
        self.plane: ControlPlane | None = None
        self._held = ExitStack()
        self._components: dict[str, Component] = {}

    @property
    def server(self) -> str:
        return self._running().url("apiserver")

    @property
    def ca(self) -> Path:
        return self._running().pki.ca

    @property
    def token(self) -> str:
        """The administrator's bearer token."""
        return self._running().pki.token("admin")

    @property
    def nats_url(self) -> str:
        return self._running().url("nats", "nats")

    @property
    def nats_root(self) -> dict[str, str]:
        """From what an operator mints for its NATS; empty where everybody is taken."""
        return self._running().pki.nats_root() if self.accounts else {}

    @property
    def nats_monitor_url(self) -> str:
        return self._running().url("nats-monitor", "http")

    @property
    def storage_url(self) -> str:
        return f"file://{self.dir / 'objects'}"

    @property
    def kubectl(self) -> Path:
        return self._running().binaries["kubectl"]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bring everything up; returns when the node is Ready."""
        if not sys.platform.startswith("linux"):
            message = (
                "the local cluster needs Linux (an address in 127.0.0.0/8 for each pod): "
                "here, use kind or another cluster and give its kubeconfig"
            )
            raise RuntimeError(message)
        programs = binaries.resolve()
        if self.plane_type.programs:
            programs |= binaries.resolve(*self.plane_type.programs)
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held.enter_context(lock(self.dir))
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._start(programs)
                    break
                except RuntimeError as failure:
                    self._end_children()
                    if attempt == ATTEMPTS or "address already in use" not in str(failure):
                        raise
        except BaseException:
            self.stop()
            raise

    def _start(self, programs: dict[str, Path]) -> None:
        before = read_state(self.dir)
        pki = ensure_pki(self.dir / "pki", self.plane_type.addresses)
        ports = free_ports(PORTS, before.ports if before else self.plane_type.preferred)
        plane = self.plane = self.plane_type(self.dir, ports, pki, programs, self.accounts)
        (self.dir / "objects").mkdir(exist_ok=True)
        for identity in IDENTITIES:
            write_kubeconfig(plane.kubeconfig(identity), self.server, pki, identity)
        write_kubeconfig(self.kubeconfig, self.server, pki, "admin")
        own = ProcessId.of(os.getpid())
        assert own is not None  # noqa: S101 - we are running
        state = State(owner=own, ports=dict(ports))
        state.write(self.dir)
        for group in plane.groups():
            for component in group:
                self._launch(component)
                if (started := self.children[component.name].id) is not None:
                    state.processes[component.name] = started
            state.write(self.dir)
            for component in group:
                self._await(component, pki)
        state.ready = True
        state.write(self.dir)

    def stop(self) -> None:
        """End everything that was started, in reverse order; the data stays in the folder."""
        self._end_children()
        self._held.close()

    def restart(self, name: str) -> int:
        """End one program by SIGKILL and start it again, on its ports and with its data.

        Like ``start``, from a thread that outlives the cluster. Returns the process id of the
        killed one once its successor is ready.
        """
        plane, component, child = self._running(), self._components[name], self.children[name]
        assert child.process is not None  # noqa: S101 - what has a component was launched
        killed = child.process.pid
        child.process.kill()
        child.process.wait()
        self._launch(component)
        state, started = read_state(self.dir), self.children[name].id
        if state is not None and started is not None:  # `fleet down` looks there
            state.processes[name] = started
            state.write(self.dir)
        self._await(component, plane.pki)
        return killed

    def check(self) -> None:
        """Raise where a program ended by itself: a cluster without it only looks alive."""
        for name, child in self.children.items():
            code = child.exit_code()
            if code is not None:
                message = f"{name} ended by itself (exit code {code}); its log {child.log} ends:\n"
                raise RuntimeError(message + child.tail())

    def _running(self) -> ControlPlane:
        if self.plane is None:
            message = f"the cluster in {self.dir} was not started: use it in a `with` block"
            raise RuntimeError(message)
        return self.plane

    def _launch(self, component: Component) -> None:
        log = self.dir / "logs" / f"{component.name}.log"
        child = Child(component.name, component.command, log)
        child.start()
        self.children[component.name] = child
        self._components[component.name] = component

    def _end_children(self) -> None:
        while self.children:
            name, child = self.children.popitem()
            child.stop(self._components[name].grace)

    def _await(self, component: Component, pki: Pki) -> None:
        child = self.children[component.name]
        deadline = time.monotonic() + READY_WITHIN
        context = ssl.create_default_context(cafile=str(pki.ca))
        context.load_cert_chain(pki.cert, pki.key)  # etcd asks for it
        headers = {}
        if "/api/" in component.ready:  # no other program is shown the administrator's token
            headers["Authorization"] = f"Bearer {pki.token('admin')}"
        request = urllib.request.Request(component.ready, headers=headers)  # noqa: S310 - loopback
        while not _answers(request, context):
            code = child.exit_code()
            if code is not None or time.monotonic() > deadline:
                what = (
                    f"ended with exit code {code}"
                    if code is not None
                    else f"was not ready within {READY_WITHIN:.0f} s ({component.ready})"
                )
                message = f"{component.name} {what}; its log {child.log} ends:\n{child.tail()}"
                raise RuntimeError(message)
            time.sleep(POLL)


def _answers(request: urllib.request.Request, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:  # noqa: S310
            body = response.read()
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False
    if not request.full_url.endswith("/nodes/local"):
        return True
    conditions = json.loads(body).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
