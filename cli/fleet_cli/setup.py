"""What ``fleet up`` puts into a fresh cluster, and what it says afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from fleet_cli.crds import render
from fleet_contract.names import Env
from fleet_contract.schema import crds

if TYPE_CHECKING:
    from fleet_cli.local.lifecycle import Connection

Object = dict[str, Any]
READY_WITHIN = "60s"

BASE = Path(__file__).parents[2] / "manifests" / "base"
"""The operator's manifests, in a checkout; a wheel carries none."""
PERMISSIONS = {
    *("Namespace", "ServiceAccount"),
    *("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
}
"""Kinds of the base that an operator needs, wherever it runs."""


class Reachable(Protocol):
    """A running cluster: ``LocalCluster`` or ``Connection``."""

    @property
    def kubectl(self) -> Path: ...
    @property
    def kubeconfig(self) -> Path: ...
    @property
    def nats_url(self) -> str: ...
    @property
    def storage_url(self) -> str: ...


def at_hand() -> bool:
    """Whether there are manifests to run an operator from."""
    return (BASE / "kustomization.yaml").is_file()


def install(kubectl: Path, kubeconfig: Path, namespace: str = "default") -> None:
    """Apply the kinds and, where they are at hand, the operator's permissions; again is harmless.

    Raises ``RuntimeError`` with kubectl's own words.
    """
    apply(kubectl, kubeconfig, "---\n".join(map(render, crds())))
    _kubectl(kubectl, kubeconfig, "wait", "--for=condition=Established", "crd", "--all")
    if at_hand():
        chosen = [item for item in _base(kubectl, namespace) if item["kind"] in PERMISSIONS]
        apply(kubectl, kubeconfig, _stream(namespace, chosen))


def run_operator(cluster: Reachable, namespace: str) -> None:
    """Run the operator as a pod of this cluster, for one namespace; returns when it is ready.

    Raises ``RuntimeError`` where there are no manifests, or with kubectl's own words.
    """
    if not at_hand():
        raise RuntimeError(
            f"no manifests in {BASE}: they come with a checkout of the project, run it there"
        )
    items = _base(cluster.kubectl, namespace)
    deployments = [item for item in items if item["kind"] == "Deployment"]
    told = {Env.NATS_URL: cluster.nats_url, Env.STORAGE_URL: cluster.storage_url}
    for container in _containers(deployments):
        kept = [one for one in container.get("env", []) if one["name"] not in told]
        container["env"] = kept + [{"name": str(key), "value": told[key]} for key in told]
    apply(cluster.kubectl, cluster.kubeconfig, _stream(namespace, items))
    for item in deployments:
        name = f"deployment/{item['metadata']['name']}"
        words = ("rollout", "status", name, "--namespace", namespace, f"--timeout={READY_WITHIN}")
        _kubectl(cluster.kubectl, cluster.kubeconfig, *words)


def _containers(deployments: list[Object]) -> list[Object]:
    return [
        container
        for item in deployments
        for container in item["spec"]["template"]["spec"]["containers"]
    ]


def _base(kubectl: Path, namespace: str) -> list[Object]:
    """The base as kustomize renders it for a namespace, subjects of role bindings included."""
    with TemporaryDirectory() as folder:
        # Kustomize takes no absolute path, and looks for a relative one behind all links.
        way = os.path.relpath(BASE.resolve(), Path(folder).resolve())
        overlay = {"namespace": namespace, "resources": [way]}
        (Path(folder) / "kustomization.yaml").write_text(render(overlay))
        text = _run([str(kubectl), "kustomize", folder])
    return list(yaml.safe_load_all(text))


def _stream(namespace: str, items: list[Object]) -> str:
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    missing = all(item["kind"] != "Namespace" for item in items)
    return "---\n".join(map(render, [home, *items] if missing else items))


def apply(kubectl: Path, kubeconfig: Path, documents: str) -> None:
    """Server-side apply of a YAML stream; raises ``RuntimeError`` with kubectl's own words."""
    words = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    _kubectl(kubectl, kubeconfig, *words, stdin=documents)


def greeting(connection: Connection, name: str, *, operator: bool) -> str:
    """The next steps, ready to be pasted."""
    end = "fleet down" if name == "default" else f"fleet down --name {name}"
    by_hand = (
        ""
        if operator
        else "  FLEET_NAMESPACE=default"
        f" FLEET_NATS_URL={connection.nats_url}"
        f" FLEET_STORAGE_URL={connection.storage_url} python -m fleet_operator &\n"
    )
    return (
        f"\nCluster {name} is ready. In your shell:\n\n"
        f"  export KUBECONFIG={connection.kubeconfig}\n"
        f'  export PATH="{connection.kubectl.parent}:$PATH"\n\n'
        f"Then:\n\n{by_hand}"
        "  fleet record reach push\n"
        "  kubectl apply -f manifests/samples/staged.yaml\n"
        "  kubectl get fleet --watch\n\n"
        f"NATS is at {connection.nats_url}, objects lie in {connection.storage_url}.\n"
        f"`{end}` ends it; its data stays."
    )


def _kubectl(kubectl: Path, kubeconfig: Path, *words: str, stdin: str = "") -> str:
    return _run([str(kubectl), "--kubeconfig", str(kubeconfig), *words], stdin)


def _run(command: list[str], stdin: str = "") -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
    return result.stdout
