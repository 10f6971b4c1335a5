"""A real Prometheus in a test, and what it answers."""

import asyncio
import contextlib
import json
import math
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from fleet_cli.local import prometheus
from fleet_cli.local.ports import LOOPBACK, free_ports

INTERVAL = "1s"
LOOK_EVERY = 0.5  # seconds; it tells nobody when it has scraped
WITHIN = 60.0  # seconds
Figures = dict[tuple[str, ...], float]


class Series(NamedTuple):
    """One series of an answer."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def ask(self, promql: str) -> list[Series]:
        """An instant query."""
        asked = self._session.get(f"{self._url}/api/v1/query", params={"query": promql})
        async with asked as answer:
            found = await answer.json()
        assert found["status"] == "success", f"{promql}: {found}"
        return [Series(one["metric"], float(one["value"][1])) for one in found["data"]["result"]]

    async def rules(self) -> dict[str, str]:
        """Alert → its health: ok, err, or unknown before it was first evaluated."""
        async with self._session.get(f"{self._url}/api/v1/rules") as answer:
            groups = (await answer.json())["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    async def until(
        self, promql: str, holds: Callable[[list[Series]], bool], within: float
    ) -> list[Series]:
        """The answer once it is as awaited; fails with the last one."""
        found: list[Series] = []
        try:
            async with asyncio.timeout(within):
                while not holds(found := await self.ask(promql)):  # noqa: ASYNC110 - see LOOK_EVERY
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            raise AssertionError(f"{promql}: not as awaited after {within} s: {found}") from None
        return found


@contextlib.asynccontextmanager
async def scraping(
    folder: Path, targets: Mapping[str, str], *rules: Path
) -> AsyncIterator[Prometheus]:
    """Scrapes each target, name → host:port, as docs/metrics.md says; ready when entered."""
    jobs = [
        {
            "job_name": name,
            "honor_labels": True,
            "static_configs": [{"targets": [address]}],
        }
        for name, address in targets.items()
    ]
    config = folder / "prometheus.yml"
    asked = {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(one) for one in rules],
        "scrape_configs": jobs,
    }
    config.write_text(json.dumps(asked))
    programs = await asyncio.to_thread(prometheus.resolve)
    address = f"{LOOPBACK}:{free_ports(['prometheus'])['prometheus']}"
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            programs["prometheus"],
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address={address}",
            "--log.level=warn",
            stdout=output,
            stderr=output,
        )
    try:
        async with aiohttp.ClientSession() as session:
            while not await _ready(session, address):
                assert process.returncode is None, f"prometheus did not start:\n{log.read_text()}"
                await asyncio.sleep(0.1)
            yield Prometheus(f"http://{address}", session)
    finally:
        process.kill()
        await process.wait()


async def _ready(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.get(f"http://{address}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def scraped(address: str) -> str:
    """What an endpoint serves at this moment."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}/metrics") as answer,
    ):
        return await answer.text()


class Endpoint:
    """What a program serves: (sample's name, label values in the order of their names) → value."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def until(self, what: str, holds: Callable[[Figures], bool]) -> Figures:
        found: Figures = {}
        try:
            async with asyncio.timeout(WITHIN):
                while not holds(found := await self._figures()):  # noqa: ASYNC110 - it never tells
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"not {what} within {WITHIN} s: {found}") from None
        return found

    async def _figures(self) -> Figures:
        try:
            text = await scraped(self._address)
        except OSError:
            return {}  # it is starting
        return {
            (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


async def linted(text: str) -> str:
    """What ``promtool check metrics`` has to say against it; empty where nothing."""
    promtool = (await asyncio.to_thread(prometheus.resolve))["promtool"]
    process = await asyncio.create_subprocess_exec(
        promtool,
        "check",
        "metrics",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate(text.encode())
    return said.decode() or ("" if process.returncode == 0 else f"exit {process.returncode}")


def finite(found: list[Series]) -> bool:
    """There is an answer, and it is all numbers."""
    return bool(found) and all(math.isfinite(one.value) for one in found)


def recent(found: list[Series]) -> bool:
    """Unix seconds of the last minute."""
    return bool(found) and all(0 <= time.time() - one.value < 60 for one in found)
