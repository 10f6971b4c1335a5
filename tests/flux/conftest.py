"""Flux's own kustomize-controller on the test's cluster, with folders in place of a Git server."""

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.conftest import Kubectl
from fleet_cli.local import binaries
from fleet_cli.local.building import find_go
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.ports import LOOPBACK, free_ports
from fleet_cli.local.progress import Progress
from fleet_cli.setup import DISCOVERED_WITHIN, install_kinds
from helpers.control import Operator
from helpers.kube import Kube
from helpers.nats import drop_streams

NAMESPACE = "flux-system"
CRDS = {
    "github.com/fluxcd/kustomize-controller@v1.9.5": "config/crd/bases",
    "github.com/fluxcd/source-controller@v1.9.5": "config/crd/bases",
    "github.com/argoproj/argo-cd/v3@v3.5.7": "manifests/crds/application-crd.yaml",
}
"""Of Go modules: where they keep the kinds that our samples are of."""


@cache
def module(name: str) -> Path:
    """The folder of a Go module, fetched where need be."""
    with Progress() as progress:
        go = find_go(binaries.cache_root(), progress)
    answer = subprocess.check_output([go, "mod", "download", "-json", name], text=True)
    return Path(json.loads(answer)["Dir"])


@dataclass
class Source:
    """A GitRepository whose commits are made here."""

    kubectl: Kubectl
    url: str
    folder: Path
    commits: int = field(default=0)

    def commit(self, files: Mapping[str, Any]) -> None:
        """What Flux's source-controller does with a commit: pack it, tell of it."""
        self.commits += 1
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in files.items():
                data = yaml.safe_dump_all(content).encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        name = f"{self.commits}.tar.gz"
        (self.folder / name).write_bytes(packed.getvalue())
        artifact = {
            "url": f"{self.url}/{name}",
            "path": name,
            "revision": f"main@sha1:{self.commits:040}",
            "digest": f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}",
            "lastUpdateTime": f"2026-01-01T00:00:{self.commits:02}Z",
            "size": len(packed.getvalue()),
        }
        patch = json.dumps({"status": {"artifact": artifact}})
        words = ("patch", "gitrepository", "robots", "--subresource=status", "--type=merge")
        self.kubectl(*words, f"--patch={patch}")


@pytest.fixture
async def operator(cluster: LocalCluster, kube: Kube) -> AsyncIterator[Operator]:
    install_kinds(cluster.kubectl, cluster.kubeconfig)
    running = await Operator(cluster, kube.namespace).start()
    yield running
    await running.stop()
    await drop_streams(cluster.nats_url, kube.namespace)


@pytest.fixture(scope="session")
def kubectl(cluster: LocalCluster) -> Kubectl:
    """In the namespace that Flux watches; theirs, Argo CD's and our kinds are there."""
    install_kinds(cluster.kubectl, cluster.kubeconfig)
    kubectl = Kubectl(cluster, NAMESPACE)
    for name, folder in CRDS.items():
        kubectl("apply", "--server-side", "-f", str(module(name) / folder))
    for namespace in (NAMESPACE, "argocd"):
        kubectl("create", "namespace", namespace)
    deadline = time.monotonic() + DISCOVERED_WITHIN
    while kubectl.run("get", "kustomizations,gitrepositories,applications").returncode:
        assert time.monotonic() < deadline, "the kinds of Flux and Argo CD are not served"
        time.sleep(0.1)  # nothing tells that kubectl would find them now
    return kubectl


@pytest.fixture
def flux(cluster: LocalCluster, kubectl: Kubectl, tmp_path: Path) -> Iterator[None]:
    """Flux's kustomize-controller, while the test runs."""
    ports = free_ports(["metrics", "health"])
    program = binaries.resolve("kustomize-controller")["kustomize-controller"]
    log = tmp_path / "flux.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                str(program),
                "--watch-all-namespaces=false",
                f"--metrics-addr={LOOPBACK}:{ports['metrics']}",
                f"--health-addr={LOOPBACK}:{ports['health']}",
            ],
            env=os.environ
            | {"KUBECONFIG": str(cluster.kubeconfig), "RUNTIME_NAMESPACE": NAMESPACE},
            stdout=output,
            stderr=output,
        )
    yield
    process.kill()
    process.wait()
    sys.stdout.write(log.read_text())  # shown where a test fails


@pytest.fixture
def source(flux: None, kubectl: Kubectl, tmp_path: Path) -> Iterator[Source]:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Source(kubectl, f"http://{LOOPBACK}:{server.server_address[1]}", folder)
    server.shutdown()
    server.server_close()
