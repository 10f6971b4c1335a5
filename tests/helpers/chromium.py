"""A real Chromium, steered over its own protocol: found, or taken out of Debian's packages.

Looked for in ``FLEET_CHROMIUM`` and on PATH; else apt reads its indexes into a folder of ours and
downloads, and the packages are unpacked into the project's cache. Nothing is installed.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import platform
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from fleet_cli.local.binaries import cache_root

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIBRARIES = ("usr/lib/{0}-linux-gnu", "lib/{0}-linux-gnu", "usr/lib/{0}-linux-gnu/pulseaudio")
WITHIN = 60.0  # seconds


def resolve() -> tuple[str, dict[str, str]]:
    """The program, and the variables it wants. Raises ``CalledProcessError`` where apt fails."""
    for name in (os.environ.get("FLEET_CHROMIUM", ""), *NAMES):
        if name and (found := shutil.which(name)):
            return found, {}
    folder = cache_root() / "debian" / "chromium"
    if not folder.is_dir():
        _fetch(folder)
    libraries = ":".join(str(folder / one.format(platform.machine())) for one in LIBRARIES)
    return str(folder / "usr/lib/chromium/chromium"), {"LD_LIBRARY_PATH": libraries}


def _fetch(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        for below in ("state/lists/partial", "cache/archives/partial"):
            (folder / below).mkdir(parents=True)
        apt = ["apt-get", "-q", "-o", f"Dir::State={folder}/state"]
        apt += ["-o", f"Dir::Cache={folder}/cache"]
        apt += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"]
        wanted = ("--yes", "--no-install-recommends", "--download-only", "install", "chromium")
        for words in (("update",), wanted):
            subprocess.run([*apt, *words], check=True, capture_output=True)
        for package in folder.glob("cache/archives/*.deb"):
            subprocess.run(["dpkg", "-x", str(package), folder / "unpacked"], check=True)
        with contextlib.suppress(OSError):  # somebody else was as fast
            (folder / "unpacked").rename(target)


class Browser:
    """One page of it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.said: list[str] = []
        """What its console had to say."""

    async def ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told = await self._socket.receive_json(timeout=WITHIN)
            if told.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                self.said.append(str(told["params"]))
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    async def tell(self, expression: str) -> Any:
        """What a line of JavaScript comes to."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = await self.ask("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Until it holds; fails with the page's text."""
        try:
            async with asyncio.timeout(WITHIN):
                while not await self.tell(expression):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.1)
        except TimeoutError:
            text = await self.tell("document.body.innerText")
            raise AssertionError(f"never {expression}: {text}\n{self.said}") from None

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def picture(self, path: Path) -> None:
        found = await self.ask("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(found["data"]))


@contextlib.asynccontextmanager
async def browsing(folder: Path, url: str, width: int, height: int) -> AsyncIterator[Browser]:
    """The page at ``url``, opened."""
    program, env = await asyncio.to_thread(resolve)
    process = await asyncio.create_subprocess_exec(
        program,
        "--headless",
        "--no-sandbox",  # as root it has none
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},{height}",
        "about:blank",
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    told = folder / "profile" / "DevToolsActivePort"
    try:
        async with asyncio.timeout(WITHIN):
            while not (told.exists() and told.read_text().count("\n")):
                assert process.returncode is None, "Chromium did not start"
                await asyncio.sleep(0.1)
        port = told.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                (page,) = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                browser = Browser(socket)
                for method in ("Runtime.enable", "Log.enable", "Page.enable"):
                    await browser.ask(method)
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                await browser.ask("Emulation.setDeviceMetricsOverride", **size)
                await browser.ask("Page.navigate", url=url)
                yield browser
    finally:
        process.kill()
        await process.wait()
