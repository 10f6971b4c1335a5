"""The page's server, on loopback: three files and one document. It writes nothing anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from aiohttp import web

from fleet_cli.dashboard.overview import overview
from fleet_cli.exits import Fault
from fleet_cli.local.ports import LOOPBACK
from fleet_cli.oncall import latency, world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fleet_cli.kube import Kube
    from fleet_cli.oncall.views import Overview

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
ENDS_WITHIN = 1.0
"""Seconds for which Ctrl-C waits for answers that are under way; the cluster may be away."""
FRESH = 1.0
"""Seconds for which a look is shown again: many pages ask the cluster no more than one."""
HEADERS = {
    # Nothing from elsewhere, nothing inline, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


async def show_page(kube: Kube, job: str, port: int) -> None:
    """Until Ctrl-C. Raises ``Fault`` where there is no such job."""
    look = looking(kube, job)
    await look()
    async with serving(look, port) as url:
        typer.echo(f"{job} is shown at {url} until Ctrl-C; only this machine reaches it")
        await asyncio.Event().wait()


def looking(kube: Kube, job: str) -> Callable[[], Awaitable[Overview]]:
    """How the page's document is made."""

    async def look() -> Overview:
        seen, told = await asyncio.gather(world.observe(kube, job), latency.scraped(kube))
        return overview(seen, told)

    return look


@contextlib.asynccontextmanager
async def serving(look: Callable[[], Awaitable[Overview]], port: int = 0) -> AsyncIterator[str]:
    """The page's address, while it is served. Raises ``Fault`` where the port is taken."""
    app = web.Application(middlewares=[_guarded])
    for path, (name, kind) in FILES.items():
        app.router.add_get(path, _file(name, kind))
    app.router.add_get("/overview.json", _document(look))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=ENDS_WITHIN)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, port)
        try:
            await site.start()
        except OSError as fault:
            raise Fault(f"port {port} cannot be had ({fault.strerror}): name another") from fault
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@web.middleware
async def _guarded(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    # Else a page from elsewhere could read this one, by a name of its own that leads here.
    if request.url.host not in {LOOPBACK, "localhost"}:
        raise web.HTTPForbidden(text="only by the address that the command printed")
    answer = await handler(request)
    answer.headers.update(HEADERS)
    return answer


def _file(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    text = (Path(__file__).parent / "page" / name).read_text()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind)

    return answer


def _document(
    look: Callable[[], Awaitable[Overview]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    lock, seen_at = asyncio.Lock(), float("-inf")
    seen: dict[str, Any] = {}

    async def answer(_: web.Request) -> web.StreamResponse:
        nonlocal seen, seen_at
        async with lock:
            if time.monotonic() - seen_at > FRESH:
                try:
                    seen, seen_at = (await look()).document(), time.monotonic()
                except Fault as fault:
                    return web.json_response({"error": str(fault)}, status=503)
        return web.json_response(seen)

    return answer
