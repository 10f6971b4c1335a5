"""What ``fleet up`` puts into a fresh cluster, and what it says afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fleet_cli.crds import render
from fleet_contract.schema import crds

if TYPE_CHECKING:
    from fleet_cli.local.lifecycle import Connection

BASE = Path(__file__).parents[2] / "manifests" / "base"
"""In a checkout; a wheel carries no manifests, and whoever runs the operator applies them."""
PERMISSIONS = {
    *("Namespace", "ServiceAccount"),
    *("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
}
"""Kinds of the base that a cluster needs before an operator runs on it or beside it."""


def install(kubectl: Path, kubeconfig: Path) -> None:
    """Apply the kinds and, where they are at hand, the operator's permissions; again is harmless.

    Raises ``RuntimeError`` with kubectl's own words.
    """
    apply(kubectl, kubeconfig, "---\n".join(map(render, crds())))
    _kubectl(kubectl, kubeconfig, "wait", "--for=condition=Established", "crd", "--all")
    if (BASE / "kustomization.yaml").is_file():
        base = yaml.safe_load_all(_kubectl(kubectl, kubeconfig, "kustomize", str(BASE)))
        chosen = [item for item in base if item["kind"] in PERMISSIONS]
        apply(kubectl, kubeconfig, "---\n".join(map(render, chosen)))


def apply(kubectl: Path, kubeconfig: Path, documents: str) -> None:
    """Server-side apply of a YAML stream; raises ``RuntimeError`` with kubectl's own words."""
    words = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    _kubectl(kubectl, kubeconfig, *words, stdin=documents)


def greeting(connection: Connection, name: str) -> str:
    """The next steps, ready to be pasted."""
    end = "fleet down" if name == "default" else f"fleet down --name {name}"
    return (
        f"\nCluster {name} is ready. In your shell:\n\n"
        f"  export KUBECONFIG={connection.kubeconfig}\n"
        f'  export PATH="{connection.kubectl.parent}:$PATH"\n\n'
        "Then:\n\n"
        "  kubectl apply -f manifests/samples/minimal.yaml\n"
        "  kubectl get fleet --watch\n\n"
        f"NATS is at {connection.nats_url}, objects lie in {connection.storage_url}.\n"
        f"`{end}` ends it; its data stays."
    )


def _kubectl(kubectl: Path, kubeconfig: Path, *words: str, stdin: str = "") -> str:
    result = subprocess.run(
        [str(kubectl), "--kubeconfig", str(kubeconfig), *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"`kubectl {' '.join(words)}` failed: {result.stderr.strip()}")
    return result.stdout
