"""``kubectl logs``: the one thing of a kubelet's own API that people need every day."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet_cli.local.node.agent import Agent
    from fleet_cli.local.node.container import Container

POLL = 0.1  # seconds: a file has no event for "longer"
CHUNK = 65_536
UNSUPPORTED = {
    "timestamps": "--timestamps",
    "sinceSeconds": "--since",
    "sinceTime": "--since-time",
}


async def serve(agent: Agent, pki: Path, port: int) -> web.AppRunner:
    """Over TLS, to the API server only: it proves itself with a certificate of the cluster's."""
    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", Logs(agent).get)
    app.router.add_route("*", "/{rest:.*}", _refuse)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "local.crt", pki / "local.key")
    context.load_verify_locations(pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    return runner


async def _refuse(request: web.Request) -> web.Response:
    text = (
        f"the local node runs pods as plain processes and serves their logs only, "
        f"not {request.path}: to look into one, use a shell on this machine\n"
    )
    return web.Response(status=501, text=text)


class Logs:
    """Answers from the files of the agent's pods."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def get(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if refused := [
            flag for key, flag in UNSUPPORTED.items() if query.get(key, "false") != "false"
        ]:
            text = f"the local node keeps no time per line: leave out {', '.join(refused)}\n"
            return web.Response(status=400, text=text)
        names = request.match_info
        pod = self._agent.find(names["namespace"], names["pod"])
        container = next(
            (one for one in pod.containers if one.name == names["container"]) if pod else iter(()),
            None,
        )
        if container is None:
            text = (
                f"no container {names['container']} of {names['namespace']}/{names['pod']} here\n"
            )
            return web.Response(status=404, text=text)
        run = container.state.restarts - (query.get("previous") == "true")
        # Between two runs the newer one has no file yet: what people want is the one that ended.
        path = container.log(run)
        if not path.exists() and query.get("previous") != "true":
            path = container.log(run - 1)
        if not path.exists():
            text = f"container {container.name} has written no log for run {run + 1} yet\n"
            return web.Response(status=404 if query.get("previous") == "true" else 200, text=text)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        left = int(query.get("limitBytes", 2**62))
        lines = int(query["tailLines"]) if "tailLines" in query else None
        follow = query.get("follow") == "true"
        async for chunk in _read(path, container, run, lines=lines, follow=follow):
            await response.write(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                break
        await response.write_eof()
        return response


async def _read(
    path: Path, container: Container, run: int, *, lines: int | None, follow: bool
) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        if lines is not None:
            file.seek(_start_of_last(path, lines))
        while True:
            # Asked before reading: what was written until the end is then read, too.
            over = "running" not in container.state.state or container.state.restarts != run
            while chunk := file.read(CHUNK):
                yield chunk
            if not follow or over:
                return
            await asyncio.sleep(POLL)


def _start_of_last(path: Path, lines: int) -> int:
    """The offset at which the last so many lines begin, read from the end."""
    with path.open("rb") as file:
        end = position = file.seek(0, 2)
        if lines == 0:
            return end
        found = 0
        while position > 0:
            step = min(CHUNK, position)
            position -= step
            file.seek(position)
            block = file.read(step)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if position + at == end - 1:  # ends the last line
                    continue
                found += 1
                if found == lines:
                    return position + at + 1
    return 0
