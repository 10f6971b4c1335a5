"""The one room for the Kubernetes API in the command line: plain objects in and out."""

from __future__ import annotations

import asyncio
import json
import shlex
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from kubernetes.aio.client import ApiClient

from fleet_cli.exits import Exit, Fault
from fleet_cli.kubeconfig import Target, log_in
from fleet_contract import names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
WATCH_SECONDS = 240  # the server closes the watch then, and we ask for the next one
HEALS_WITHIN = 60.0  # seconds for which a watch is tried again before we give up
RETRY = 1.0
GONE = 410
TOO_MANY_REQUESTS = 429  # nothing was done: it may be asked again
PATIENCE = 5  # times that it is
NAMED = 10  # objects in one sentence
PATHS = {kind.value: (names.API_VERSION, plural) for kind, plural in names.PLURALS.items()} | {
    "Deployment": ("apps/v1", "deployments"),
    "Pod": ("v1", "pods"),
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
}
PATCH = {"Content-Type": "application/merge-patch+json"}
MANAGER = "fleet"
"""Our field manager: who looks at managedFields sees what was changed by hand."""

Object = dict[str, Any]


class Kube:
    """One namespace as the caller's kubeconfig reaches it. Use it in ``async with``.

    Every method raises ``Fault``: with a code for what is not there and for what is not allowed.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.namespace = target.namespace
        self._headers: dict[str, str] = {}
        self._client: ApiClient | None = None

    async def __aenter__(self) -> Self:
        login = await log_in(self._target)
        self.namespace, self._headers = login.namespace, login.headers
        self._client = ApiClient(login.configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]

    @property
    def asked(self) -> str:
        """The options that lead here, for a command that somebody may paste."""
        given = self._target._asdict().items()
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in given if value)

    # --- objects --------------------------------------------------------------------------

    async def get(self, kind: str, name: str) -> Object:
        """One object; where there is none, the fault names those there are."""
        found = await self.find(kind, name)
        if found is None:
            others = await self._instead_of(kind, name)
            raise Fault(
                f"no {kind} {name!r} in namespace {self.namespace}: {others}", Exit.NOT_FOUND
            )
        return found

    async def _instead_of(self, kind: str, name: str) -> str:
        """What there is, the likest of many, as far as the caller may see it."""
        try:
            there = sorted(one["metadata"]["name"] for one in await self.list(kind))
        except Fault as fault:
            if fault.code is Exit.NO_ACCESS:
                return "which there are you may not see"
            raise
        if len(there) <= NAMED:
            return f"there: {', '.join(there)}" if there else "there is none at all"
        near = get_close_matches(name, there, NAMED, cutoff=0.0)
        return f"there: {', '.join(near)} and {len(there) - NAMED} more"

    async def find(self, kind: str, name: str) -> Object | None:
        """One object, None where there is none."""
        return await self.call("GET", self.path(kind, name), absent=True)

    async def list(self, kind: str, **selectors: str) -> list[Object]:
        """All objects, by ``labelSelector`` or ``fieldSelector``."""
        listed = await self.call("GET", self.path(kind), query=selectors) or {}
        items: list[Object] = listed.get("items", [])
        return items

    async def create(self, manifest: Object) -> Object:
        """The new object."""
        query = {"fieldManager": MANAGER}
        made = await self.call("POST", self.path(manifest["kind"]), query=query, body=manifest)
        return made or {}

    async def merge(self, kind: str, name: str, patch: Object) -> Object:
        """The object after a merge patch of it."""
        query = {"fieldManager": MANAGER}
        path = self.path(kind, name)
        return await self.call("PATCH", path, query=query, body=patch, headers=PATCH) or {}

    async def follow(self, kind: str, **selectors: str) -> AsyncGenerator[dict[str, Object], None]:
        """All objects by name, at first and after every change, for ever.

        A watch that ends is begun anew; the fault comes when that fails for a minute.
        """
        loop, first = asyncio.get_running_loop(), True
        failing: float | None = None  # since when
        while True:
            try:
                listed = await self.call("GET", self.path(kind), query=selectors) or {}
                version = listed["metadata"]["resourceVersion"]
                known = {one["metadata"]["name"]: one for one in listed["items"]}
                failing, first = None, False
                yield known
                async for what, seen in self._events(kind, version, selectors):
                    at = seen["metadata"]["name"]
                    known = {name: one for name, one in known.items() if name != at}
                    known |= {} if what == "DELETED" else {at: seen}
                    yield known
            except Fault:
                now = loop.time()
                failing = now if failing is None else failing
                if first or now - failing > HEALS_WITHIN:
                    raise
                await asyncio.sleep(RETRY)

    async def _events(
        self, kind: str, version: str, selectors: Mapping[str, str]
    ) -> AsyncGenerator[tuple[str, Object], None]:
        query = dict(selectors, watch="true", resourceVersion=version)
        query["timeoutSeconds"] = str(WATCH_SECONDS)
        # The server ends a watch in time: one that is silent for longer has a dead connection.
        async for line in self.lines(self.path(kind), query, silent=WATCH_SECONDS + 30):
            event = json.loads(line)
            if event["type"] == "ERROR":
                if event["object"].get("code") == GONE:
                    return
                raise Fault(f"the watch of {kind} ended: {event['object'].get('message')}")
            yield event["type"], event["object"]

    async def lines(
        self, path: str, query: Mapping[str, str], *, silent: float | None = None
    ) -> AsyncGenerator[str, None]:
        """Lines that may come for ever; ``silent`` is the longest gap between two, in seconds."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silent)
        try:
            answer = await self._send("GET", path, query, limit=limit)
            try:
                async for line in answer.content:
                    yield line.decode(errors="replace").rstrip("\n")
            finally:
                answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise self._unreachable(fault) from fault

    # --- one request ----------------------------------------------------------------------

    def path(self, kind: str, name: str = "") -> str:
        version, plural = PATHS[kind]
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        headers: Mapping[str, str] | None = None,
        absent: bool = False,
    ) -> Object | None:
        """The answer; None where nothing is there and ``absent`` allows for it."""
        try:
            answer = await self._send(method, path, query, body=body, headers=headers)
            result: Object = json.loads(await answer.read())
        except Fault as fault:
            if absent and fault.code is Exit.NOT_FOUND:
                return None
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise self._unreachable(fault) from fault
        return result

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        headers: Mapping[str, str] | None = None,
        limit: aiohttp.ClientTimeout = TIMEOUT,
    ) -> aiohttp.ClientResponse:
        if self._client is None:
            raise RuntimeError("the cluster is closed: use it in an `async with` block")
        method, url, sent_headers, sent, form = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", **self._headers, **(headers or {})},
            body=body,
            auth_settings=["BearerToken"],
        )
        for again in range(PATIENCE, -1, -1):
            answer = await self._client.call_api(
                method, url, sent_headers, sent, form, _request_timeout=limit
            )
            if answer.status != TOO_MANY_REQUESTS or not again:
                break
            await asyncio.sleep(float(answer.headers.get("Retry-After", RETRY)))
        if answer.status >= 400:  # noqa: PLR2004 - HTTP's border
            message = _message(await answer.read())  # type: ignore[no-untyped-call]
            raise Fault(*_refusal(answer.status, message))
        response: aiohttp.ClientResponse = answer.response
        return response

    def _unreachable(self, fault: BaseException) -> Fault:
        host = self._client.configuration.host if self._client else "?"
        why = str(fault) or type(fault).__name__
        return Fault(
            f"the API server at {host} cannot be reached ({why}): look whether the cluster runs, "
            "and whether --context and --kubeconfig name the one you mean",
            Exit.NO_ACCESS,
        )


def _refusal(status: int, message: str) -> tuple[str, Exit]:
    if status == 404 and "requested resource" in message:  # noqa: PLR2004
        return "the cluster does not have our kinds: see `fleet doctor`", Exit.NOT_FOUND
    if status == 404:  # noqa: PLR2004
        return message, Exit.NOT_FOUND
    if status == 401:  # noqa: PLR2004
        return f"{message}: log in to the cluster again", Exit.NO_ACCESS
    if status == 403:  # noqa: PLR2004
        return f"{message}; `fleet doctor` lists what you may do", Exit.NO_ACCESS
    return message, Exit.NOT_DONE


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")
