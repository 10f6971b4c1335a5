"""How each program of the control plane is started, and where it says that it is ready."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fleet_cli.local.ports import LOOPBACK
from fleet_contract import names
from fleet_contract.identity import Root, server_settings
from fleet_contract.trust import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet_cli.local.pki import Pki

PORTS = (
    "etcd",
    "etcd-peer",
    "apiserver",
    "controller-manager",
    "scheduler",
    "nats",
    "nats-monitor",
    "node",
)


@dataclass(frozen=True)
class Component:
    """A program, the address that answers 200 once it is ready, and how long it may take to end."""

    name: str
    command: list[str]
    ready: str
    grace: float = 5.0  # seconds


@dataclass(frozen=True)
class ControlPlane:
    """Everything the command lines depend on."""

    folder: Path
    ports: Mapping[str, int]
    pki: Pki
    binaries: Mapping[str, Path]

    accounts: bool = False
    """Whether the broker takes only whom an operator minted."""

    programs: ClassVar[tuple[str, ...]] = ()
    """What is needed beside a cluster's usual programs."""
    addresses: ClassVar[tuple[str, ...]] = (LOOPBACK,)
    """Where its servers are reached: their certificate says so."""
    preferred: ClassVar[Mapping[str, int]] = {}
    """Ports to take where nobody holds them; for the others any will do."""

    def groups(self) -> tuple[tuple[Component, ...], ...]:
        """In the order of starting; those of a group start together."""
        # Those that need an API server give up when they meet none: it goes first, with its store.
        return (
            (self.etcd(), self.nats(), self.apiserver()),
            (self.controller_manager(), self.scheduler(), self.node()),
        )

    def url(self, port: str, scheme: str = "https") -> str:
        return f"{scheme}://{LOOPBACK}:{self.ports[port]}"

    def kubeconfig(self, identity: str) -> Path:
        return self.folder / "kubeconfigs" / identity

    def etcd(self) -> Component:
        # Whoever writes to etcd runs programs as this user: on a machine with several users the
        # loopback address alone keeps nobody out, so both ports ask for a certificate of ours.
        tls = {"cert-file": self.pki.cert, "key-file": self.pki.key, "trusted-ca-file": self.pki.ca}
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": self.url("etcd"),
            "advertise-client-urls": self.url("etcd"),
            "listen-peer-urls": self.url("etcd-peer"),
            "initial-advertise-peer-urls": self.url("etcd-peer"),
            "initial-cluster": f"default={self.url('etcd-peer')}",
            "log-level": "warn",
            # A killed program loses nothing that it has written; a power cut may.
            "unsafe-no-fsync": "true",
            "client-cert-auth": "true",
            "peer-client-cert-auth": "true",
            **tls,
            **{f"peer-{flag}": path for flag, path in tls.items()},
        }
        return Component("etcd", self._command("etcd", flags), f"{self.url('etcd')}/health")

    def nats(self) -> Component:
        config = self.folder / "nats.conf"
        store = json.dumps(str(self.folder / "nats"))
        config.write_text(
            f"listen: {LOOPBACK}:{self.ports['nats']}\n"
            f"http: {LOOPBACK}:{self.ports['nats-monitor']}\n"
            # Streams reserve what they may grow to, over a GB a job. By default the server promises
            # no more than three quarters of what is free, and a small disk would take few jobs.
            f"jetstream: {{ store_dir: {store}, max_file_store: 1TB }}\n"
            "max_payload: 8MB\n" + (self._accounts() if self.accounts else "")
        )
        ready = f"{self.url('nats-monitor', 'http')}/healthz?js-enabled-only=true"
        return Component(
            "nats-server", [str(self.binaries["nats-server"]), "-c", str(config)], ready
        )

    def _accounts(self) -> str:
        root = Root(*(PrivateKey(self.pki.nats_root()[entry]) for entry in names.NATS_ROOT))
        return server_settings(root, str(self.folder / "nats-accounts"), int(time.time()))

    def apiserver(self) -> Component:
        flags = {
            "etcd-servers": self.url("etcd"),
            "etcd-cafile": self.pki.ca,
            "etcd-certfile": self.pki.cert,
            "etcd-keyfile": self.pki.key,
            "secure-port": self.ports["apiserver"],
            "bind-address": LOOPBACK,
            "advertise-address": LOOPBACK,
            "tls-cert-file": self.pki.cert,
            "tls-private-key-file": self.pki.key,
            "token-auth-file": self.pki.tokens,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self.pki.service_account_public,
            "service-account-signing-key-file": self.pki.service_account_key,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "kubelet-certificate-authority": self.pki.ca,
            "kubelet-client-certificate": self.pki.cert,
            "kubelet-client-key": self.pki.key,
            "kubelet-preferred-address-types": "InternalIP",
            "service-cluster-ip-range": "10.0.0.0/16",
            # It would publish a loopback address as the service's endpoint, which the API refuses.
            "endpoint-reconciler-type": "none",
            "profiling": "false",
        }
        return Component(
            "kube-apiserver",
            self._command("kube-apiserver", flags),
            f"{self.url('apiserver')}/readyz",
        )

    def controller_manager(self) -> Component:
        flags = {
            **self._client("controller-manager"),
            "use-service-account-credentials": "true",
            "service-account-private-key-file": self.pki.service_account_key,
            "root-ca-file": self.pki.ca,
        }
        return Component(
            "kube-controller-manager",
            self._command("kube-controller-manager", flags),
            # The account it makes: before that, the API server refuses every pod.
            f"{self.url('apiserver')}/api/v1/namespaces/default/serviceaccounts/default",
        )

    def scheduler(self) -> Component:
        command = self._command("kube-scheduler", self._client("scheduler"))
        return Component("kube-scheduler", command, f"{self.url('scheduler')}/readyz")

    def node(self) -> Component:
        command = [sys.executable, "-m", "fleet_cli.local.node"]
        flags = {
            "kubeconfig": self.kubeconfig("node"),
            "folder": self.folder / "node",
            "pki": self.pki.folder,
            "port": self.ports["node"],
        }
        command += [f"--{flag}={value}" for flag, value in flags.items()]
        # Pods get time of their own to end before the node does.
        return Component("node", command, f"{self.url('apiserver')}/api/v1/nodes/local", grace=15.0)

    def _client(self, identity: str) -> dict[str, object]:
        kubeconfig = self.kubeconfig(identity)
        return {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "secure-port": self.ports[identity],
            "bind-address": LOOPBACK,
            "tls-cert-file": self.pki.cert,
            "tls-private-key-file": self.pki.key,
            "leader-elect": "false",
            # It looks for a client authority that we do not have: tokens do.
            "authentication-skip-lookup": "true",
            # One tenant, one machine: the default of 20 a second costs four seconds at the start.
            "kube-api-qps": "1000",
            "kube-api-burst": "1000",
            "profiling": "false",
        }

    def _command(self, binary: str, flags: Mapping[str, object]) -> list[str]:
        return [str(self.binaries[binary]), *(f"--{flag}={value}" for flag, value in flags.items())]
