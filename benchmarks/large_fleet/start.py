"""An operator's process, ours or the peer's, and its cold start before robots that are there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, NamedTuple, Self

from fleet_cli.local.ports import free_ports
from fleet_contract.names import Reason
from helpers.control import JOBS, ROBOTS, enroll, training_job
from helpers.counts import burned, resident, settled, writes
from helpers.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_cli.local.cluster import LocalCluster
    from fleet_cli.local.node.api import Api, Json

WITHIN = 900.0  # seconds for anything
AT_ONCE = 32  # creations under way
TURNS = re.compile(r'^fleet_operator_reconciles_total\{kind="RobotActor".*\} (\S+)$', re.MULTILINE)
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""A container's image has the bytecode of what is in it; here `warm` makes it."""


class Start(NamedTuple):
    """An operator that finds robots without a status."""

    seconds: float  # from its start until each has one
    cpu: float  # seconds of a core until then and until it is quiet
    robots: float  # writes for each robot, of itself or its status
    events: float  # … of Events
    memory: float  # MiB


class Operator:
    """A process, ours or the peer's. Use it in ``async with``."""

    def __init__(self, cluster: LocalCluster, namespace: str, *program: str) -> None:
        self._program = program or ("fleet_operator",)
        self._port = free_ports(["metrics"])["metrics"]
        self._environment = os.environ | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "FLEET_NAMESPACE": namespace,
            "FLEET_NATS_URL": cluster.nats_url,
            "FLEET_STORAGE_URL": cluster.storage_url,
            "FLEET_PROBE_PORT": "0",
            "FLEET_METRICS_PORT": str(self._port),
            **COMPILED,
        }

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *self._program),
            env=self._environment,
            stderr=subprocess.DEVNULL,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process.returncode is None, "the operator ended by itself"
        return self._process.pid

    async def looked_at(self, robots: int) -> None:
        """Ours: until it has had so many turns of robots."""
        async with asyncio.timeout(WITHIN):
            while self._turns() < robots:  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.2)

    def _turns(self) -> float:
        try:
            url = f"http://127.0.0.1:{self._port}/metrics"
            with urllib.request.urlopen(url, timeout=30) as answer:
                found = TURNS.findall(answer.read().decode())
        except OSError:
            return 0.0  # it does not listen yet
        return sum(map(float, found))


def warm() -> None:
    """Import once what operators are made of."""
    what = "import fleet_operator.main, benchmarks.peers.kopf_handlers"
    subprocess.run((sys.executable, "-c", what), env=os.environ | COMPILED, check=True)


async def made(api: Api, name: str, robots: int) -> Kube:
    """A namespace with a job and External robots that nobody has looked at."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await api.create("/api/v1/namespaces", namespace)
    kube = Kube(api, name)
    await kube.create(JOBS, training_job())
    each = [[f"robot-{at}" for at in range(first, robots, AT_ONCE)] for first in range(AT_ONCE)]
    async with asyncio.TaskGroup() as group:
        for some in each:
            group.create_task(enroll(kube, "job", *some))
    return kube


async def cold(cluster: LocalCluster, kube: Kube, robots: int, *program: str) -> Start:
    """A start before robots that nobody has looked at."""
    api = kube.api
    before, began = await writes(api), time.monotonic()
    async with Operator(cluster, kube.namespace, *program) as operator:
        async with asyncio.timeout(WITHIN):
            await until_all(kube, robots, lambda status: status["observedGeneration"] > 0)
        seconds = time.monotonic() - began
        wrote = await settled(api) - before
        cpu, memory = burned(operator.pid), resident(operator.pid)
        if not program:  # what it does not tell of the learner's pod is its successor's to tell
            await kube.until(JOBS, "job", lambda job: not _pending(job), WITHIN)
    each = wrote["robotactors"] / robots, wrote["events"] / robots
    return Start(seconds, cpu, *each, memory)


def _pending(job: Json) -> bool:
    """Whether its learner's pod is told to be on its way."""
    return any(one["reason"] == Reason.LEARNER_PENDING for one in job["status"]["conditions"])


async def again(cluster: LocalCluster, kube: Kube, robots: int, *program: str) -> int:
    """The writes of a start before robots to which nothing has happened since the last."""
    before = await settled(kube.api)
    async with Operator(cluster, kube.namespace, *program) as operator:
        if program:
            await asyncio.sleep(2.0 + robots / 50)  # it tells nobody when it is done
        else:
            await operator.looked_at(robots)
        wrote = await settled(kube.api) - before
    return wrote.total()


async def until_all(kube: Kube, count: int, holds: Callable[[Json], bool]) -> None:
    """Until so many robots have a status of which that holds."""
    so: set[str] = set()
    async for _, seen in kube.api.watch(kube.path(ROBOTS)):
        for robot in seen.get("items", [seen]):
            if holds(robot["status"]):
                so.add(robot["metadata"]["name"])
        if len(so) == count:
            return
