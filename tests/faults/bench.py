"""One namespace under fire: an operator behind a proxy, kept alive as a kubelet would keep it."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

import aiohttp

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api
from fleet_cli.local.ports import free_ports
from helpers.control import Operator
from helpers.kube import Kube
from helpers.nats import drop_streams
from helpers.proxy import ApiProxy

PROBES = 3  # failures in a row after which the kubelet ends it, as our Deployment has it
RESYNC = "FLEET_RESYNC_SECONDS"
LOST_AFTER = "FLEET_LOST_AFTER"
FAST = MappingProxyType(
    {
        RESYNC: "5",
        LOST_AFTER: "6",
        "FLEET_PATIENCE_SECONDS": "3",
    }
)
"""The operator's times in most runs, so that a quiet while holds two resyncs."""
STEADY = MappingProxyType(FAST | {RESYNC: "10", LOST_AFTER: "30"})
"""For hours on a machine that others use: there heartbeats of robots that live come late, and a
watch that is late by a quarter of a resync is dead."""


class Ground(NamedTuple):
    """What a run stands on."""

    cluster: LocalCluster
    api: Api
    folder: Path  # for logs
    env: Mapping[str, str] = FAST  # what the operator is told
    program: Path | None = None  # the folder that it is taken from, in place of ours

    @property
    def resync(self) -> float:
        """Seconds."""
        return float(self.env[RESYNC])

    @property
    def lost_after(self) -> float:
        """Seconds."""
        return float(self.env[LOST_AFTER])


class Bench:
    """Use ``of``."""

    def __init__(self, kube: Kube, nats_url: str, proxy: ApiProxy, operator: Operator) -> None:
        self.kube, self.nats_url, self.proxy, self.operator = kube, nats_url, proxy, operator
        self.hit = ""
        """What the fault met; empty while it has not."""
        self.starts = 1
        self.unwell = asyncio.Event()
        """Its probe failed at least once."""

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, ground: Ground, *, probe_every: float = 1.0) -> AsyncIterator[Self]:
        """A fresh namespace with the operator at work in it; probed every so many seconds."""
        cluster, api, folder = ground.cluster, ground.api, ground.folder
        kube = Kube(api, f"fire-{uuid.uuid4().hex[:8]}")
        await api.create("/api/v1/namespaces", {"metadata": {"name": kube.namespace}})
        await kube.until("serviceaccounts", "default", lambda _: True)
        port = free_ports(["probe"])["probe"]
        env = {"FLEET_PROBE_PORT": str(port), **ground.env}
        if ground.program is not None:
            env["PYTHONPATH"] = str(ground.program)
        kubeconfig = folder / f"{kube.namespace}.kubeconfig"
        log = folder / f"{kube.namespace}.log"
        async with ApiProxy.before(cluster, kubeconfig) as proxy:
            operator = Operator(
                cluster,
                kube.namespace,
                log=log,
                **{"KUBECONFIG": str(kubeconfig), **env},
            )
            bench = cls(kube, cluster.nats_url, proxy, operator)
            await operator.start()
            kubelet = [
                asyncio.create_task(bench._keep_running()),
                asyncio.create_task(bench._probe(port, probe_every)),
            ]
            try:
                yield bench
            finally:
                for task in kubelet:
                    task.cancel()
                await asyncio.gather(*kubelet, return_exceptions=True)
                await operator.kill()
                await drop_streams(cluster.nats_url, kube.namespace)
                await api.delete(f"/api/v1/namespaces/{kube.namespace}", {})

    async def crash(self, at: str) -> None:
        """kill -9 of the operator; its successor comes by itself."""
        self.hit = at
        await self._strike()

    async def _strike(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.operator.pid, signal.SIGKILL)
        await self.operator.ended()

    async def _keep_running(self) -> None:
        while True:
            await self.operator.ended()
            self.starts += 1
            await self.operator.start()

    async def _probe(self, port: int, every: float) -> None:
        failed, of, well = 0, self.starts, False
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                await asyncio.sleep(every)
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                        failed = 0 if answer.status == 200 else failed + 1
                    if failed:
                        self.unwell.set()
                        well = well or not failed
                except (aiohttp.ClientError, TimeoutError):
                    failed += well and of == self.starts  # else it starts
                if of != self.starts:
                    failed, of, well = 0, self.starts, False
                if failed == PROBES:
                    failed = 0
                    await self._strike()
                    self.proxy.heal()
