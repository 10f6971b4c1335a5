"""A pod's volumes as folders, filled from the API and kept fresh."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.api import Api, ApiError, Json
from fleet_cli.local.node.environment import ConfigError, Paths, expand, source
from fleet_cli.local.node.environment import field as pod_field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

REFRESH_SECONDS = 60.0  # as often as a kubelet looks again
TOKEN_RENEW_AT = 0.8  # of its life, as a kubelet does
KINDS = ("emptyDir", "configMap", "secret", "projected", "downwardAPI", "hostPath")


@dataclass
class Volumes:
    """The volumes of one pod below one folder."""

    api: Api
    pod: Json
    folder: Path
    ip: str
    # A token by its file, and when (monotonic seconds) to ask for the next one.
    _tokens: dict[Path, tuple[bytes, float]] = field(default_factory=dict)

    async def fill(self) -> None:
        """Write every volume's files; those already as they should be stay untouched."""
        for volume in self.pod["spec"].get("volumes", []):
            folder = self.path(volume)
            if "hostPath" in volume:
                if volume["hostPath"].get("type") == "DirectoryOrCreate":
                    folder.mkdir(parents=True, exist_ok=True)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            await self._fill(volume, folder)

    def changing(self) -> bool:
        kinds = {"configMap", "secret", "projected", "downwardAPI"}
        return any(kinds & volume.keys() for volume in self.pod["spec"].get("volumes", []))

    async def keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.fill()
            except (ConfigError, ApiError, aiohttp.ClientError, OSError):
                continue  # a running pod keeps what it has, as on every node

    def path(self, volume: Json) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        return self.folder / str(volume["name"])

    def mounts(self, container: Json, env: Mapping[str, str]) -> Paths:
        """Where each of the container's mount paths lies on this machine."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        mounts = {}
        for mount in container.get("volumeMounts", []):
            folder = self.path(volumes[mount["name"]])
            below = mount.get("subPath") or expand(mount.get("subPathExpr", ""), env)
            if below:
                folder /= below
                if "emptyDir" in volumes[mount["name"]]:
                    folder.mkdir(parents=True, exist_ok=True)
            mounts[mount["mountPath"]] = folder
        # Like a kubelet, which mounts this file by itself.
        mounts[last_words_path(container)] = self.last_words(container["name"])
        return Paths(mounts)

    def last_words(self, container: str) -> Path:
        """The file in which a container's process says why it ends."""
        return self.folder.parent / "last-words" / container

    async def _fill(self, volume: Json, folder: Path) -> None:
        kind = next((kind for kind in KINDS if kind in volume), None)
        if kind is None:
            kinds = ", ".join(key for key in volume if key != "name")
            message = f"volume {volume['name']}: the local node has {', '.join(KINDS)}, not {kinds}"
            raise ConfigError(message)
        if kind == "emptyDir":
            return
        spec = volume[kind]
        mode = spec.get("defaultMode", 0o644)
        origins = spec.get("sources", []) if kind == "projected" else [{kind: spec}]
        wanted: dict[str, tuple[bytes, int]] = {}
        for origin in origins:
            wanted |= await self._files(origin, folder, mode)
        for name, (content, its_mode) in wanted.items():
            _write(folder / name, content, its_mode)
        _remove_others(folder, wanted)

    async def _files(self, origin: Json, folder: Path, mode: int) -> dict[str, tuple[bytes, int]]:
        if token := origin.get("serviceAccountToken"):
            path = folder / token["path"]
            return {token["path"]: (await self._token(token, path), 0o600)}
        if downward := origin.get("downwardAPI"):
            items = downward.get("items", [])
            return {
                item["path"]: (
                    pod_field(self.pod, item["fieldRef"]["fieldPath"], self.ip).encode(),
                    item.get("mode", mode),
                )
                for item in items
            }
        kind = "configmaps" if "configMap" in origin else "secrets"
        spec = origin.get("configMap") or origin["secret"]
        name = spec.get("name") or spec.get("secretName")
        namespace, optional = self.pod["metadata"]["namespace"], bool(spec.get("optional"))
        data = await source(self.api, namespace, kind, name, optional=optional) or {}
        if "items" not in spec:
            return {key: (value, mode) for key, value in data.items()}
        missing = [item["key"] for item in spec["items"] if item["key"] not in data]
        if missing and not optional:
            message = f"{kind.removesuffix('s')} {namespace}/{name} has no key {', '.join(missing)}"
            raise ConfigError(message)
        return {
            item["path"]: (data[item["key"]], item.get("mode", mode))
            for item in spec["items"]
            if item["key"] in data
        }

    async def _token(self, spec: Json, path: Path) -> bytes:
        kept, until = self._tokens.get(path, (b"", 0.0))
        if time.monotonic() < until:
            return kept
        metadata = self.pod["metadata"]
        account = self.pod["spec"].get("serviceAccountName") or "default"
        lifetime = spec.get("expirationSeconds", 3600)
        audiences = [spec["audience"]] if spec.get("audience") else []
        pod = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        answer = await self.api.create(
            f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": audiences,
                    "expirationSeconds": lifetime,
                    "boundObjectRef": pod,
                },
            },
        )
        token = str(answer["status"]["token"]).encode()
        self._tokens[path] = token, time.monotonic() + TOKEN_RENEW_AT * lifetime
        return token


def last_words_path(container: Json) -> str:
    """Where the container's process believes that file to be."""
    return str(container.get("terminationMessagePath") or "/dev/termination-log")


def _remove_others(folder: Path, wanted: Collection[str]) -> None:
    """A key that was taken out of its ConfigMap leaves the folder, too."""
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in wanted:
            path.unlink()


def _write(path: Path, content: bytes, mode: int) -> None:
    """Readers see the old file or the new one."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"..{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.chmod(mode | 0o400)  # we run as its owner, and read it again
    temporary.replace(path)
