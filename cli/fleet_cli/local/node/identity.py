"""A pod's way to the API server: a kubeconfig around its service account's token.

Clients look for the token at a fixed path below /var/run, which only root could provide here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_cli.local.node.api import Json
    from fleet_cli.local.node.volumes import Volumes

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path


def with_token(pod: Json) -> Json | None:
    """A container that mounts the token; None where the pod has no business with the API."""
    return next(
        (
            container
            for container in pod["spec"]["containers"]
            if any(
                mount["mountPath"] == TOKEN_FOLDER for mount in container.get("volumeMounts", [])
            )
        ),
        None,
    )


def write_kubeconfig(path: Path, pod: Json, volumes: Volumes, server: str) -> None:
    """Refers to the token's file, which is renewed in place."""
    container = with_token(pod)
    folder = volumes.mounts(container, {}).folder(TOKEN_FOLDER) if container else None
    if folder is None:
        return
    namespace = pod["metadata"]["namespace"]
    context = {"cluster": "local", "user": "pod", "namespace": namespace}
    cluster = {"server": server, "certificate-authority": str(folder / "ca.crt")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "pod", "user": {"tokenFile": str(folder / "token")}}],
        "contexts": [{"name": "local", "context": context}],
        "current-context": "local",
    }
    path.write_text(yaml.safe_dump(document))
