"""Startup, readiness and liveness: one look, and the counting of looks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.environment import runnable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from fleet_cli.local.node.api import Json
    from fleet_cli.local.node.environment import Paths

SUCCESS = range(200, 400)  # what a kubelet takes for one


@dataclass(frozen=True)
class Target:
    """Where a container's probes go."""

    ip: str
    ports: Mapping[str, int]  # by name
    env: Mapping[str, str]
    cwd: Path
    paths: Paths

    def port(self, given: str | int) -> int:
        return given if isinstance(given, int) else self.ports.get(given) or int(given)


async def verdicts(probe: Json, target: Target) -> AsyncIterator[tuple[bool, str]]:
    """Each time enough looks in a row agree: healthy or not, and what the last one said."""
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    needed = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
    last, count = None, 0
    while True:
        healthy, message = await look(probe, target)
        count = count + 1 if healthy == last else 1
        last = healthy
        if count >= needed[healthy]:
            yield healthy, message
        await asyncio.sleep(probe.get("periodSeconds", 10))


async def look(probe: Json, target: Target) -> tuple[bool, str]:
    seconds = probe.get("timeoutSeconds", 1)
    try:
        async with asyncio.timeout(seconds):
            if "exec" in probe:
                return await run(probe["exec"]["command"], target)
            if "httpGet" in probe:
                return await _http(probe["httpGet"], target)
            if "tcpSocket" in probe:
                return await _tcp(probe["tcpSocket"], target)
    except TimeoutError:
        return False, f"no answer within {seconds} s"
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return False, str(error) or repr(error)
    return False, "the local node probes by exec, httpGet and tcpSocket only"


async def run(command: Sequence[str], target: Target) -> tuple[bool, str]:
    """A command beside the container's process; ended when the caller stops waiting."""
    process = await asyncio.create_subprocess_exec(
        *runnable([target.paths.rewrite(word) for word in command]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(target.env),
        cwd=target.cwd,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode == 0, output.decode(errors="replace")[-1000:].strip()


async def _http(spec: Json, target: Target) -> tuple[bool, str]:
    scheme = spec.get("scheme", "HTTP").lower()
    host = spec.get("host") or target.ip
    url = f"{scheme}://{host}:{target.port(spec['port'])}{spec.get('path', '/')}"
    headers = {header["name"]: header["value"] for header in spec.get("httpHeaders", [])}
    connector = aiohttp.TCPConnector(ssl=False)  # a probe asks for life, not for identity
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, headers=headers) as response,
    ):
        return response.status in SUCCESS, f"HTTP {response.status}"


async def _tcp(spec: Json, target: Target) -> tuple[bool, str]:
    host = spec.get("host") or target.ip
    _, writer = await asyncio.open_connection(host, target.port(spec["port"]))
    writer.close()
    return True, "connected"
