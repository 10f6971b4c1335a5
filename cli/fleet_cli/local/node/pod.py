"""One pod bound to this node, from its first file to its last status."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.api import Api, ApiError
from fleet_cli.local.node.container import CONFIG_RETRY_FIRST, CONFIG_RETRY_MOST, Container
from fleet_cli.local.node.environment import ConfigError, base_env
from fleet_cli.local.node.events import now, record
from fleet_cli.local.node.identity import with_token, write_kubeconfig
from fleet_cli.local.node.launch import Surroundings
from fleet_cli.local.node.report import Reporter
from fleet_cli.local.node.status import pod_status, waiting
from fleet_cli.local.node.volumes import Volumes
from fleet_cli.local.victims import POD_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet_cli.local.node.api import Json

DEFAULT_GRACE = 30.0  # seconds
FORCED_GRACE = 2.0  # seconds, where the object is gone already
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What all pods share."""

    api: Api
    folder: Path
    marker: Mapping[str, str]  # in the environment of every process of this node's run


def address() -> str:
    """A loopback address for a pod, so that two pods can listen on one port.

    Nobody hands these out, and another cluster on this machine picks its own: by chance out of 16
    million.
    """
    return ".".join(map(str, (127, *(random.randint(1, 254) for _ in range(3)))))  # noqa: S311


class Pod:
    """Runs as one task (``run``); told of changes by ``replace`` and ``gone``."""

    def __init__(self, document: Json, machine: Machine) -> None:
        metadata, former = document["metadata"], document.get("status", {})
        self.machine, self.document = machine, document
        self.namespace, self.name, self.uid = (
            metadata["namespace"],
            metadata["name"],
            metadata["uid"],
        )
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.folder = machine.folder / "pods" / self.uid
        self.ip = former.get("podIP") or address()
        self.stopping = asyncio.Event()
        self.deleted = False
        self.silent = False  # the node ends: the pod's status is left for its next run
        self._start_time = former.get("startTime") or now()
        # Before this run of the node.
        self._ended = former.get("phase") in {"Failed", "Succeeded"}
        self._reporter = Reporter(
            machine.api, self.path, self.uid, self._status, sent=former, silent=self._ended
        )
        self._failure: tuple[str, str] | None = None
        self._replaced = asyncio.Event()
        self._stop_by = float("inf")
        self._hurry = asyncio.Event()  # the deadline has come nearer
        self._events: set[asyncio.Task[None]] = set()
        self._volumes = Volumes(machine.api, document, self.folder / "volumes", self.ip)
        self._around = self._surroundings()
        policy = document["spec"].get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self.init = [
            Container(one["name"], self._around, init_policy, initial=True)
            for one in document["spec"].get("initContainers", [])
        ]
        self.app = [
            Container(one["name"], self._around, policy, initial=False)
            for one in document["spec"]["containers"]
        ]
        known = {
            one["name"]: one
            for key in ("initContainerStatuses", "containerStatuses")
            for one in former.get(key, [])
        }
        for container in self.containers:
            if container.name in known:
                container.resume(known[container.name])
        self.replace(document)

    @property
    def containers(self) -> list[Container]:
        return [*self.init, *self.app]

    def replace(self, document: Json) -> None:
        """A new version of the object; a deletion may come, or its grace shrink."""
        self.document = self._around.pod = self._volumes.pod = document
        metadata = document["metadata"]
        if "deletionTimestamp" in metadata:
            self.stop(metadata.get("deletionGracePeriodSeconds", 0))
        self._replaced.set()
        self._replaced.clear()

    def gone(self) -> None:
        """The object was removed: nobody is left to report to."""
        self.deleted = True
        self.stop(FORCED_GRACE)

    def stop(self, grace: float) -> None:
        by = time.monotonic() + grace
        if by < self._stop_by:
            self._stop_by = by
            self._hurry.set()
        self.stopping.set()

    async def run(self) -> None:
        """Until the pod is deleted, or the node ends."""
        reporter = asyncio.create_task(self._reporter.run())
        work = asyncio.create_task(self._work())
        stop = asyncio.create_task(self.stopping.wait())
        limit = self.document["spec"].get("activeDeadlineSeconds")
        try:
            await asyncio.wait({work, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not stop.done():
                text = "Pod was active on the node longer than the specified deadline"
                self._failure = ("DeadlineExceeded", text)
                await self._end_containers(self.grace())
            elif work.done():
                self._note_failure(work)
            self._reporter.changed()
            await stop
            await self._end_stopping()
        finally:
            for task in (work, reporter, stop):
                task.cancel()
            for container in self.containers:
                container.kill()
            await asyncio.gather(work, reporter, stop, return_exceptions=True)
        if not self.silent:
            await self._finish()

    def _surroundings(self) -> Surroundings:
        home = self.folder / "home"
        cache = self.machine.folder / "cache"
        base = base_env(self.document, home, cache, self.machine.api.server)
        if with_token(self.document):
            base["KUBECONFIG"] = str(self.folder / "kubeconfig")
        return Surroundings(
            api=self.machine.api,
            pod=self.document,
            folder=self.folder,
            ip=self.ip,
            base={**base, **self.machine.marker, POD_MARK: self.uid},
            volumes=self._volumes,
            stopping=self.stopping,
            replaced=self._replaced,
            changed=self._reporter.changed,
            tell=self._tell,
            grace=self.grace,
        )

    def grace(self) -> float:
        return float(self.document["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE))

    async def _work(self) -> None:
        if self._ended or all(one.state.final for one in self.containers):
            return
        await self._prepare()
        for container in self.init:
            await container.run()
            if container.state.exit_code != 0:
                return
        for container in self.app:
            if not container.state.final:
                container.state.state = waiting("ContainerCreating")
        fresh = self._volumes.keep_fresh() if self._volumes.changing() else asyncio.sleep(0)
        refresher = asyncio.ensure_future(fresh)
        try:
            async with asyncio.TaskGroup() as group:
                for container in self.app:
                    group.create_task(container.run())
        finally:
            refresher.cancel()

    async def _prepare(self) -> None:
        for folder in (self.folder / "home", self.machine.folder / "cache"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._reporter.changed()
        told, delay = "", CONFIG_RETRY_FIRST
        while True:
            try:
                await self._volumes.fill()
                break
            except (ConfigError, ApiError, aiohttp.ClientError, OSError) as error:
                message = str(error)
                if message != told:
                    self._tell("Warning", "FailedMount", message)
                told = message
                for container in self.containers:
                    if "waiting" in container.state.state:
                        container.state.state = waiting("ContainerCreating", message)
                self._reporter.changed()
                await asyncio.sleep(delay)
                delay = min(2 * delay, CONFIG_RETRY_MOST)
        if "KUBECONFIG" in self._around.base:
            path, server = self.folder / "kubeconfig", self.machine.api.server
            write_kubeconfig(path, self.document, self._volumes, server)

    def _note_failure(self, work: asyncio.Task[None]) -> None:
        if work.cancelled() or work.exception() is None:
            return
        logger.error("pod %s/%s", self.namespace, self.name, exc_info=work.exception())
        for container in self.containers:
            container.kill()
        self._failure = ("NodeError", f"the local node failed on this pod: {work.exception()!r}")

    async def _end_stopping(self) -> None:
        """End the containers by the deadline, which a later deletion may bring forward."""
        while True:
            self._hurry.clear()
            grace = max(0.0, self._stop_by - time.monotonic())
            ending = asyncio.create_task(self._end_containers(grace))
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait({ending, hurry}, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if ending.done():
                return
            ending.cancel()

    async def _end_containers(self, grace: float) -> None:
        if any(
            one.process is not None and one.process.returncode is None for one in self.containers
        ):
            self._tell("Normal", "Killing", f"stopping containers, grace {grace:.0f} s")
        await asyncio.gather(*(one.end(grace) for one in self.containers))

    async def _finish(self) -> None:
        """The last status, then the object goes: a Job counts a pod once it saw how it ended."""
        for container in self.app:
            container.state.ready = False
            container.state.final = True
            if "terminated" not in container.state.state:
                message = "deleted before it ran"
                container.state.state = {
                    "terminated": {"exitCode": 137, "reason": "Deleted", "message": message}
                }
        await self._reporter.finish(lambda: self.deleted)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def _tell(self, kind: str, reason: str, message: str) -> None:
        task = asyncio.create_task(record(self.machine.api, self.document, kind, reason, message))
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    def _status(self, before: Json) -> Json:
        return pod_status(
            [one.state for one in self.init],
            [one.state for one in self.app],
            ip=self.ip,
            start_time=self._start_time,
            now=now(),
            before=before,
            failure=self._failure,
        )
