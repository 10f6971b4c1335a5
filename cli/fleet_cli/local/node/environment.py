"""What a container's process gets to see: its environment, its command, the paths in both."""

from __future__ import annotations

import base64
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_cli.local.node.api import Api, ApiError, Json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_FOUND = 404
# Of this machine's environment a pod gets what programs need to run at all, and no secrets.
INHERITED = (
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "MUJOCO_GL",
)
# A fleet on two cores is slower, not faster, when each process brings a thread per core.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_REFERENCE = re.compile(r"\$(\$|\(([^()]+)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


class ConfigError(Exception):
    """The container cannot start as it is written; the message says what is missing."""


class Paths:
    """Mount paths of a container and the folders that stand for them."""

    def __init__(self, mounts: Mapping[str, Path]) -> None:
        self._mounts = {path.rstrip("/") or "/": str(folder) for path, folder in mounts.items()}
        longest_first = sorted(self._mounts, key=len, reverse=True)
        # A whole path component: neither "/data" in "/var/data" nor "/data" in "/database"; but
        # the one in "file:///data" and in "--root=/data:/x".
        self._pattern = re.compile(
            r"(?:(?<=://)|(?<![\w./-]))(" + "|".join(map(re.escape, longest_first)) + r")(?![\w.-])"
        )

    def rewrite(self, text: str) -> str:
        if not self._mounts:
            return text
        return self._pattern.sub(lambda found: self._mounts[found[1]], text)

    def folder(self, mount_path: str) -> Path | None:
        found = self._mounts.get(mount_path)
        return None if found is None else Path(found)


def expand(text: str, env: Mapping[str, str]) -> str:
    """``$(NAME)`` by its value; ``$$`` is a dollar; an unknown name stays as it is written."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else env.get(found[2], found[0])

    return _REFERENCE.sub(value, text)


def field(pod: Json, path: str, ip: str) -> str:
    """The downward API: a field of the pod as text."""
    metadata, spec = pod["metadata"], pod["spec"]
    if found := _SUBSCRIPT.fullmatch(path):
        return str(metadata.get(found[1], {}).get(found[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        pairs = metadata.get(path.removeprefix("metadata."), {})
        return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": ip,
        "status.podIPs": ip,
        "status.hostIP": "127.0.0.1",
        "status.hostIPs": "127.0.0.1",
    }
    if path not in known:
        message = f"fieldRef {path!r} is not known to the local node: use one of {sorted(known)}"
        raise ConfigError(message)
    return str(known[path])


async def source(api: Api, namespace: str, kind: str, name: str, *, optional: bool) -> Json | None:
    """A ConfigMap's or Secret's data, values as bytes; None where it is optional and missing."""
    try:
        found = await api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
    except ApiError as error:
        if error.status == NOT_FOUND and optional:
            return None
        message = f"{kind.removesuffix('s')} {namespace}/{name}: {error}"
        raise ConfigError(message) from error
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
    plain = {key: value.encode() for key, value in found.get("data", {}).items()}
    return plain | {k: base64.b64decode(v) for k, v in found.get("binaryData", {}).items()}


async def container_env(
    api: Api, pod: Json, container: Json, ip: str, paths: Paths, base: Mapping[str, str]
) -> dict[str, str]:
    """The environment, later entries over earlier ones as the API has it."""
    namespace = pod["metadata"]["namespace"]
    env: dict[str, str] = {}
    for entry in container.get("envFrom", []):
        kind = "configmaps" if "configMapRef" in entry else "secrets"
        ref = entry.get("configMapRef") or entry["secretRef"]
        optional = bool(ref.get("optional"))
        data = await source(api, namespace, kind, ref["name"], optional=optional) or {}
        prefix = entry.get("prefix", "")
        env |= {prefix + key: paths.rewrite(value.decode()) for key, value in data.items()}
    for entry in container.get("env", []):
        if "valueFrom" in entry:
            value = await _value_from(api, pod, entry, ip)
            if value is not None:
                env[entry["name"]] = paths.rewrite(value)
        else:
            # Rewritten before what it refers to is put in: that is rewritten already.
            text = paths.rewrite(entry.get("value", ""))
            env[entry["name"]] = expand(text, {**base, **env})
    return {**base, **env}


async def _value_from(api: Api, pod: Json, entry: Json, ip: str) -> str | None:
    origin = entry["valueFrom"]
    if "fieldRef" in origin:
        return field(pod, origin["fieldRef"]["fieldPath"], ip)
    for key, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if key not in origin:
            continue
        ref = origin[key]
        namespace, optional = pod["metadata"]["namespace"], bool(ref.get("optional"))
        data = await source(api, namespace, kind, ref["name"], optional=optional)
        if data is not None and ref["key"] in data:
            return str(data[ref["key"]].decode())
        if optional:
            return None
        message = (
            f"env {entry['name']}: {kind.removesuffix('s')} {ref['name']} has no key {ref['key']!r}"
        )
        raise ConfigError(message)
    message = (
        f"env {entry['name']}: the local node knows fieldRef, configMapKeyRef and secretKeyRef, "
        f"not {', '.join(origin)}"
    )
    raise ConfigError(message)


def base_env(pod: Json, home: Path, cache: Path, server: str) -> dict[str, str]:
    """What every process gets before its own entries."""
    host, _, port = server.rpartition("//")[2].rpartition(":")
    own = str(Path(sys.executable).parent)  # "python3" in a script is ours, too
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {
        **inherited,
        **ONE_THREAD,
        "PATH": os.pathsep.join((own, os.environ.get("PATH", os.defpath))),
        # Not the user's: a client without credentials would find ~/.kube/config there.
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache),
        "TMPDIR": str(home),
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
        "PYTHONUNBUFFERED": "1",
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
    }


def command(container: Json, env: Mapping[str, str], paths: Paths) -> list[str]:
    """The command line, ready to run."""
    if not container.get("command"):
        message = (
            f"container {container['name']} has no `command`: the local node runs no images, so it "
            "cannot know the entry point; set `command`"
        )
        raise ConfigError(message)
    words = [*container["command"], *container.get("args", [])]
    return runnable([expand(paths.rewrite(word), env) for word in words])


def runnable(line: Sequence[str]) -> list[str]:
    """The same command line with our Python where it asks for one by name."""
    return [sys.executable if line[0] in {"python", "python3"} else line[0], *line[1:]]
