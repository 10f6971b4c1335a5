"""A proxy before the API server that counts writes and does harm, as a `Fault` says."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from fleet_cli.local.cluster import LocalCluster

LARGEST = 4 * 2**20  # bytes of one object in a watch
_PASSED_ON = ("Authorization", "Accept", "Content-Type")
_VERBS = {"POST": "create", "PATCH": "apply", "PUT": "update", "DELETE": "delete"}


class Call(NamedTuple):
    """What a caller asks of the API server."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes
    number: int  # of a write, from 1 as they came; 0: it only reads
    verb: str  # get, list, watch, create, apply, update or delete
    resource: str  # as in a role: "pods", "robotactors/status"
    name: str  # empty where it is in the body or there is none

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name}".strip()


class Answer(NamedTuple):
    """What the caller gets."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Cut(Exception):
    """The connection ends without an answer."""


class Fault:
    """What becomes of calls; this one lets all of them through."""

    async def before(self, call: Call) -> Answer | None:
        """An answer in the server's place, None to ask it. May raise ``Cut``."""
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        """What reaches the caller of what the server answered. May raise ``Cut``."""
        return answer

    def line(self, call: Call, line: bytes) -> bytes:
        """What reaches the caller of one event of a watch; empty: nothing."""
        return line


class Written(NamedTuple):
    """One write that came, and what became of it at the server; 0: it never got there."""

    call: Call
    status: int
    at: str  # the time of day, for people


class ApiProxy:
    """Plain HTTP on loopback; what the caller says, its token included, goes through as it is."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.fault = Fault()
        self.writes: list[Written] = []
        self._server = URL(cluster.server)
        self._tls = ssl.create_default_context(cafile=str(cluster.ca))
        self._silent = False
        self._number = 0
        self._watches: dict[web.StreamResponse, web.Request] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, cluster: LocalCluster, kubeconfig: Path) -> AsyncIterator[Self]:
        """Runs, and writes a kubeconfig that leads through it."""
        proxy = cls(cluster)
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", proxy._serve)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        _lead(cluster.kubeconfig, kubeconfig, f"http://{host}:{port}")
        connector = aiohttp.TCPConnector(ssl=proxy._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, read_bufsize=LARGEST) as session:
            proxy._session = session
            try:
                yield proxy
            finally:
                proxy.cut()
                await runner.cleanup()

    def silence(self) -> None:
        """From now on no watch brings anything; all else is answered, and connections stand."""
        self._silent = True

    def heal(self) -> None:
        """Silent watches end, as those of a dead connection do at last; new ones work."""
        self._silent = False
        self.cut()

    def cut(self) -> None:
        """Every watch ends in the middle."""
        for request in self._watches.values():
            if request.transport is not None:
                request.transport.abort()

    async def say(self, line: bytes) -> None:
        """To every watch, as its last word."""
        for response in list(self._watches):
            with contextlib.suppress(ConnectionError):
                await response.write(line)
        self.cut()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = self._read(request, await request.read())
        status = 0
        try:
            answer = await self.fault.before(call)
            if answer is None and call.verb == "watch":
                return await self._watch(request, call)
            if answer is None:
                answer = await self._ask(call)
                status = answer.status
                answer = await self.fault.after(call, answer)
        except (Cut, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # nobody reads it
        finally:
            if call.number:
                self.writes.append(Written(call, status, f"{datetime.now(UTC):%H:%M:%S.%f}"))
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _read(self, request: web.Request, body: bytes) -> Call:
        words = request.path.strip("/").split("/")
        below = words[-2:] if "namespaces" in words[-2:-1] else words[-1:]
        if "namespaces" in words[:-2]:
            below = words[words.index("namespaces") + 2 :]
        resource, name = "/".join([*below[:1], *below[2:]]), "".join(below[1:2])
        reading = "watch" if request.query.get("watch") == "true" else "get" if name else "list"
        verb = _VERBS.get(request.method, reading)
        if request.method in _VERBS:
            self._number += 1
        headers = {key: request.headers[key] for key in _PASSED_ON if key in request.headers}
        url = self._server.join(request.rel_url)
        number = self._number if request.method in _VERBS else 0
        return Call(request.method, url, headers, body, number, verb, resource, name)

    async def _ask(self, call: Call) -> Answer:
        async with self._session.request(
            call.method, call.url, headers=call.headers, data=call.body or None
        ) as answer:
            kind = answer.headers.get("Content-Type", "text/plain")
            return Answer(answer.status, await answer.read(), {"Content-Type": kind})

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.get(call.url, headers=call.headers, timeout=forever) as answer:
            kind = answer.headers.get("Content-Type", "text/plain")
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": kind})
            await response.prepare(request)
            self._watches[response] = request
            try:
                async for line in answer.content:
                    if not self._silent and (passed := self.fault.line(call, line)):
                        await response.write(passed)
            finally:
                self._watches.pop(response, None)
            return response

    _session: aiohttp.ClientSession


def refusal(status: int, reason: str, message: str, **headers: str) -> Answer:
    """As the API server refuses."""
    return Answer(status, status_object(status, reason, message), {**_JSON, **headers})


def status_object(status: int, reason: str, message: str) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return json.dumps(body | {"message": message, "reason": reason, "code": status}).encode()


_JSON = {"Content-Type": "application/json"}


def _lead(source: Path, to: Path, server: str) -> None:
    document = yaml.safe_load(source.read_text())
    document["clusters"][0]["cluster"] = {"server": server}
    to.write_text(yaml.safe_dump(document))
