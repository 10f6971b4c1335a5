"""The Kubernetes API, and nothing else: plain objects in and out through ``kubernetes.aio``."""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException

from fleet_contract import names
from fleet_contract.errors import FleetError, Retry
from fleet_contract.names import Kind
from fleet_contract.resources.base import ObjectMeta
from fleet_operator import metrics

TIMEOUT = 30.0  # seconds for one request
THROTTLED = {429, 503}  # answers that may say when to come again
LONGEST_WAIT = 30.0  # seconds: more than that no server asks for in earnest
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
PATHS = {
    "FleetTrainingJob": (names.API_VERSION, names.PLURALS[Kind.TRAINING_JOB]),
    "RobotActor": (names.API_VERSION, names.PLURALS[Kind.ROBOT_ACTOR]),
    "PolicyVersion": (names.API_VERSION, names.PLURALS[Kind.POLICY_VERSION]),
    "Job": ("batch/v1", "jobs"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "Secret": ("v1", "secrets"),
    "ConfigMap": ("v1", "configmaps"),
}
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
VERBS = {
    "GET": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "apply",
    "DELETE": "delete",
}
Object = dict[str, Any]


def in_cluster() -> bool:
    """Whether to be the pod's service account; a kubeconfig that somebody names comes first."""
    return "KUBECONFIG" not in os.environ and TOKEN.exists()


class RefusedError(FleetError):
    """The API server will not have it, now or later: the one who wrote the spec must change it."""


class Cluster:
    """One namespace as the operator's service account sees it. Use it in ``async with``."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._client: ApiClient | None = None
        self._installation = ""
        self._closed_until = 0.0  # by the loop's clock: an overloaded server asked us to wait

    async def __aenter__(self) -> Self:
        configuration = Configuration()
        try:
            if in_cluster():
                config.load_incluster_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
            else:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
        except ConfigException as fault:
            raise FleetError(
                f"no Kubernetes API to work with ({fault}): set KUBECONFIG, or run as a pod with "
                "a service account"
            ) from fault
        # No proxy of the environment, as kopf: to ask for one takes a thread at each request.
        configuration.client_session_kwargs = {"trust_env": False}
        self._client = ApiClient(configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]

    @property
    def identity(self) -> Configuration:
        """Where the API server is and who we are to it."""
        if self._client is None:
            raise RuntimeError("the cluster is closed: use it in an `async with` block")
        who: Configuration = self._client.configuration
        return who

    async def get(self, kind: str, name: str) -> Object | None:
        """One object, None where there is none."""
        return await self._call("GET", self._path(kind, name), absent={404})

    async def metadata(self, kind: str, name: str) -> Object | None:
        """One object without what it holds, None where there is none."""
        return await self._call("GET", self._path(kind, name), accept=ONE, absent={404})

    async def replace(self, manifest: Object) -> Object | None:
        """In place of the version it names; None where that was changed since: it is left alone."""
        path = self._path(manifest["kind"], manifest["metadata"]["name"])
        query = {"fieldManager": names.FIELD_MANAGER}
        return await self._call("PUT", path, query=query, body=manifest, absent={404, 409})

    async def list(self, kind: str, **selectors: str) -> list[Object]:
        """All objects, by ``labelSelector`` or ``fieldSelector``."""
        listed = await self._call("GET", self._path(kind), query=selectors) or {}
        items: list[Object] = listed.get("items", [])
        return items

    async def versions(self, kind: str, **selectors: str) -> tuple[int, Sequence[Object]]:
        """The version of a list, never of a cached one, and the metadata of what is in it."""
        listed = await self._call("GET", self._path(kind), query=selectors, accept=METADATA) or {}
        found = [one["metadata"] for one in listed["items"] or []]
        return int(listed["metadata"]["resourceVersion"]), found

    async def create(self, manifest: Object) -> Object | None:
        """The new object; None where one of that name exists, ours or not."""
        query = {"fieldManager": names.FIELD_MANAGER}
        path = self._path(manifest["kind"])
        return await self._call("POST", path, query=query, body=manifest, absent={409})

    async def claim(self, manifest: Object, owner_uid: str) -> str:
        """Create it; its kind and name where one of that name exists that is not this owner's."""
        if await self.create(manifest) is not None:
            return ""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        found = await self.get(kind, name)
        owners = found["metadata"].get("ownerReferences", []) if found else [{"uid": owner_uid}]
        return "" if any(one["uid"] == owner_uid for one in owners) else f"{kind} {name}"

    async def installation(self) -> str:
        """The namespace's UID: what tells us from an operator of another cluster at one broker."""
        if not self._installation:
            found = await self._call("GET", f"/api/v1/namespaces/{self.namespace}")
            self._installation = found["metadata"]["uid"] if found else ""
        return self._installation

    async def freeze(self) -> str:
        """Why the namespace is frozen, by its annotation; empty where it is not."""
        found = await self._call("GET", f"/api/v1/namespaces/{self.namespace}")
        annotations = found["metadata"].get("annotations", {}) if found else {}
        why = str(annotations.get(names.Label.FREEZE, ""))
        return "" if why == "false" else why

    async def end_job(self, name: str, uid: str, refusal: str) -> None:
        """Let a batch Job fail at its next restart, and keep with it why.

        Its pods go with their logs; the Job stays, so that nobody makes it anew.
        """
        manifest = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "uid": uid,
                "annotations": {names.Label.REFUSAL.value: refusal},
            },
            "spec": {"backoffLimit": 0},
        }
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        path = self._path("Job", name)
        await self._call("PATCH", path, query=query, body=manifest, absent={404, 409})

    async def write_status(self, kind: Kind, at: ObjectMeta, status: Object) -> None:
        """Server-side apply of the whole status, on the object as it was read.

        Its version keeps it off a namesake made anew: of a status the API server looks at no UID.
        Raises ``Retry`` where the object has changed since.
        """
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": kind.value,
            "metadata": {"name": at.name, "resourceVersion": at.resource_version},
            "status": status,
        }
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        path = f"{self._path(kind, at.name)}/status"
        await self._call("PATCH", path, query=query, body=manifest, absent={404})

    async def delete(self, kind: str, name: str, uid: str, *, foreground: bool = False) -> None:
        """Delete this very object; one that is gone or was made anew is left alone."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        await self._call("DELETE", self._path(kind, name), body=body, absent={404, 409})

    def _path(self, kind: str, name: str = "") -> str:
        version, plural = PATHS[kind]
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _words(self, method: str, path: str) -> tuple[str, str]:
        """Verb and resource, as people who write roles call them."""
        _, _, below = path.partition(f"/namespaces/{self.namespace}/")
        plural, *rest = below.split("/") if below else ("namespaces", self.namespace)
        verb = "list" if method == "GET" and not rest else VERBS[method]
        return verb, plural if len(rest) < 2 else f"{plural}/{rest[1]}"  # noqa: PLR2004 - name, part

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        accept: str = "application/json",
        absent: frozenset[int] | set[int] = frozenset(),
    ) -> Object | None:
        """The answer; None for the status codes in ``absent``. Raises Retry or RefusedError."""
        assert self._client is not None, "use Cluster in `async with`"  # noqa: S101 - our own fault
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._closed_until - clock())
        what, ended = f"{method} {path}", "unreachable"
        patch = "application/apply-patch+yaml"
        headers = {"Content-Type": patch if method == "PATCH" else "application/json"}
        try:
            method, url, headers, sent, form = await self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=list((query or {}).items()),
                header_params=headers | {"Accept": accept},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(
                method, url, headers, sent, form, _request_timeout=TIMEOUT
            )
            data = await answer.read()  # type: ignore[no-untyped-call]
            ended = "absent" if answer.status in absent else _result(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise Retry(f"{what}: the API server cannot be reached ({fault!r})") from fault
        finally:
            metrics.API_REQUESTS.labels(*self._words(method, path), ended).inc()
        if answer.status in absent:
            return None
        if answer.status >= 400:  # noqa: PLR2004 - HTTP's border
            message = _message(data)
            if answer.status in {400, 403, 422} and "being terminated" not in message:
                raise RefusedError(f"{what}: the API server refused it: {message}")
            if answer.status in THROTTLED:
                asked = retry_after(answer.headers.get("Retry-After"), time.time())
                self._closed_until = clock() + asked
            raise Retry(f"{what}: {answer.status} {message}")
        result: Object = json.loads(data)
        return result


def _result(status: int) -> str:
    return "ok" if status < 400 else "refused"  # noqa: PLR2004 - HTTP's border


def retry_after(said: str | None, now: float) -> float:
    """Seconds; 0 where it says nothing. A proxy may say it as a date; ``now``: Unix seconds."""
    if not said:
        return 0.0
    try:
        wait = float(said) if said.isdecimal() else parsedate_to_datetime(said).timestamp() - now
    except ValueError:
        return 0.0
    return min(max(0.0, wait), LONGEST_WAIT)


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")
