"""What we put into a cluster: kinds, operator; and what ``fleet up`` says afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from fleet_cli.crds import render
from fleet_contract import names
from fleet_contract.names import Env
from fleet_contract.schema import crds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet_cli.local.lifecycle import Connection

Object = dict[str, Any]
READY_WITHIN = "60s"
DISCOVERED_WITHIN = 30.0
"""Seconds from a kind's being served to its being listed."""

_PACKED = Path(__file__).with_name("manifests")
MANIFESTS = _PACKED if _PACKED.is_dir() else Path(__file__).parents[2] / "manifests"
"""A wheel carries them, a checkout has them at its root."""
BASE = MANIFESTS / "base"
DEV = MANIFESTS / "components" / "dev"
"""NATS and an S3 server, for clusters that have none."""
NETWORK = MANIFESTS / "components" / "network"
"""Who may call whom, at the ports of those two."""
OPERATOR = "operator"
"""The operator's container in its Deployment."""
WORKLOADS = {"Deployment", "StatefulSet"}
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
    def nats_root(self) -> dict[str, str]:
        """From what an operator mints identities for its NATS; empty where everybody is taken."""

    @property
    def storage_url(self) -> str: ...


def at_hand() -> bool:
    """Whether there are manifests to run an operator from."""
    return (BASE / "kustomization.yaml").is_file()


def install_kinds(kubectl: Path, kubeconfig: Path) -> None:
    """Apply the kinds and await that the cluster serves them; again is harmless.

    Raises ``RuntimeError`` with kubectl's own words.
    """
    kinds = crds()
    apply(kubectl, kubeconfig, "---\n".join(map(render, kinds)))
    deadline = time.monotonic() + DISCOVERED_WITHIN
    made = [f"crd/{kind['metadata']['name']}" for kind in kinds]
    while True:
        try:
            ask(kubectl, kubeconfig, "wait", "--for=condition=Established", *made)
            break
        except RuntimeError as fault:
            # kubectl does not wait for one that as yet has no condition at all.
            if "conditions accessor error" not in str(fault) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    # Established comes a moment before discovery, and kubectl keeps for hours what it discovers.
    while lacking := unknown_kinds(kubectl, kubeconfig):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the API server does not list {', '.join(sorted(lacking))}")
        time.sleep(0.1)


def unknown_kinds(kubectl: Path, kubeconfig: Path) -> set[str]:
    """Those of our kinds that the API server does not list; raises ``RuntimeError``."""
    group = f"--api-group={names.GROUP}"
    listed = ask(kubectl, kubeconfig, "api-resources", group, "--output=name").split()
    return {f"{plural}.{names.GROUP}" for plural in names.PLURALS.values()} - set(listed)


def install(kubectl: Path, kubeconfig: Path, namespace: str = "default") -> None:
    """Apply the kinds and, where they are at hand, the operator's permissions; again is harmless.

    Raises ``RuntimeError`` with kubectl's own words.
    """
    install_kinds(kubectl, kubeconfig)
    if at_hand():
        items = manifests(kubectl, namespace)
        chosen = [item for item in items if item["kind"] in PERMISSIONS]
        apply(kubectl, kubeconfig, _stream(namespace, chosen))


def run_operator(
    cluster: Reachable, namespace: str, settings: Mapping[Env, str] = MappingProxyType({})
) -> None:
    """Run the operator as a pod of this cluster, for one namespace; returns when it is ready.

    ``settings`` are further variables of it. Raises ``RuntimeError`` where there are no manifests,
    or with kubectl's own words.
    """
    items = manifests(cluster.kubectl, namespace)
    told = {Env.NATS_URL: cluster.nats_url, Env.STORAGE_URL: cluster.storage_url}
    if root := cluster.nats_root:
        told[Env.NATS_ACCOUNTS] = "true"
        give_root(cluster.kubectl, cluster.kubeconfig, namespace, root)
    tell(items, {**told, **settings})
    apply(cluster.kubectl, cluster.kubeconfig, _stream(namespace, items))
    rolled_out(cluster.kubectl, cluster.kubeconfig, items)


def give_root(kubectl: Path, kubeconfig: Path, namespace: str, root: Mapping[str, str]) -> None:
    """Let the namespace's operator mint identities under this root; again changes nothing.

    Raises ``RuntimeError`` with kubectl's own words.
    """
    meta = {"name": names.NATS_KEYS, "namespace": namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": dict(root)}
    apply(kubectl, kubeconfig, _stream(namespace, [secret]))


def manifests(kubectl: Path, namespace: str, components: Sequence[Path] = ()) -> list[Object]:
    """The base, with components, as kustomize renders it for a namespace.

    Raises ``RuntimeError`` where there are no manifests, or with kubectl's own words.
    """
    parts = [BASE, *components]
    for part in parts:
        if not (part / "kustomization.yaml").is_file():
            raise RuntimeError(
                f"no manifests in {part}: a wheel and a checkout of the project have them; "
                "install it again"
            )
    with TemporaryDirectory() as folder:
        # Kustomize takes no absolute path, and looks for a relative one behind all links.
        here = Path(folder).resolve()
        base, *more = (os.path.relpath(part.resolve(), here) for part in parts)
        overlay = {"namespace": namespace, "resources": [base], "components": more}
        (here / "kustomization.yaml").write_text(render(overlay))
        text = _run([str(kubectl), "kustomize", folder])
    return list(yaml.safe_load_all(text))


def tell(items: Sequence[Object], told: Mapping[Env, str], image: str = "") -> None:
    """Set variables of the operator among the manifests, and its image where one is given."""
    for container in _operators(items):
        kept = [one for one in container.get("env", []) if one["name"] not in told]
        container["env"] = kept + [{"name": str(key), "value": told[key]} for key in told]
        container["image"] = image or container["image"]


def is_told(items: Sequence[Object], name: Env) -> str:
    """What the manifests tell the operator by a variable; empty where nothing."""
    found = [one for container in _operators(items) for one in container.get("env", [])]
    return next((one.get("value", "") for one in found if one["name"] == name), "")


def _operators(items: Sequence[Object]) -> list[Object]:
    return [
        container
        for item in items
        if item["kind"] == "Deployment"
        for container in item["spec"]["template"]["spec"]["containers"]
        if container["name"] == OPERATOR
    ]


def rolled_out(
    kubectl: Path, kubeconfig: Path, items: Sequence[Object], within: str = READY_WITHIN
) -> None:
    """Returns when every workload among the manifests is ready.

    Raises ``RuntimeError`` with kubectl's own words.
    """
    for item in items:
        if item["kind"] in WORKLOADS:
            at = item["metadata"]
            name = f"{item['kind'].lower()}/{at['name']}"
            words = ("rollout", "status", name, "--namespace", at["namespace"])
            ask(kubectl, kubeconfig, *words, f"--timeout={within}")


def _stream(namespace: str, items: list[Object]) -> str:
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    missing = all(item["kind"] != "Namespace" for item in items)
    return "---\n".join(map(render, [home, *items] if missing else items))


def apply(kubectl: Path, kubeconfig: Path, documents: str) -> None:
    """Server-side apply of a YAML stream; raises ``RuntimeError`` with kubectl's own words."""
    words = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    ask(kubectl, kubeconfig, *words, stdin=documents)


def greeting(connection: Connection, name: str, *, operator: bool) -> str:
    """The next steps, ready to be pasted."""
    end = "fleet down" if name == "default" else f"fleet down --name {name}"
    by_hand = (
        ""
        if operator
        else "  FLEET_NAMESPACE=default"
        f" FLEET_NATS_URL={connection.nats_url}"
        f" FLEET_STORAGE_URL={connection.storage_url} FLEET_NATS_ACCOUNTS=true"
        " python -m fleet_operator &\n"
    )
    return (
        f"\nCluster {name} is ready. In your shell:\n\n"
        f"  export KUBECONFIG={connection.kubeconfig}\n"
        f'  export PATH="{connection.kubectl.parent}:$PATH"\n\n'
        f"Then:\n\n{by_hand}"
        "  fleet record reach push\n"
        "  kubectl apply -f manifests/samples/staged.yaml\n"
        "  kubectl get ftj --watch\n"
        "  fleet status staged --watch\n\n"
        f"NATS is at {connection.nats_url}, objects lie in {connection.storage_url}.\n"
        f"`{end}` ends it; its data stays."
    )


def ask(kubectl: Path, kubeconfig: Path, *words: str, stdin: str = "") -> str:
    """What kubectl prints; raises ``RuntimeError`` with its own words."""
    return _run([str(kubectl), "--kubeconfig", str(kubeconfig), *words], stdin)


def _run(command: list[str], stdin: str = "") -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
    return result.stdout
