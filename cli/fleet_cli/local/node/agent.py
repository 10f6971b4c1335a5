"""Follows the pods bound to this node: one task each."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fleet_cli.local.node.pod import Pod
from fleet_cli.local.node.registration import NAME

if TYPE_CHECKING:
    from fleet_cli.local.node.api import Json
    from fleet_cli.local.node.pod import Machine

STOP_GRACE = 10.0  # seconds that pods get when the node ends
logger = logging.getLogger(__name__)


class Agent:
    """Tells each pod of its changes; starts the new ones."""

    def __init__(self, machine: Machine) -> None:
        self.pods: dict[str, Pod] = {}
        self._machine = machine
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Ended and removed by us; a finalizer (a Job's) may keep the object for a while.
        self._finished: set[str] = set()

    async def run(self) -> None:
        bound = {"fieldSelector": f"spec.nodeName={NAME}"}
        async for kind, changed in self._machine.api.watch("/api/v1/pods", **bound):
            if kind == "LISTED":
                self._listed(changed["items"])
            elif kind == "DELETED":
                self._removed(changed["metadata"]["uid"])
            else:
                self._seen(changed)

    async def stop(self) -> None:
        """End every process; the pods stay in the API for the node's next run."""
        for pod in self.pods.values():
            pod.silent = True
            pod.stop(min(pod.grace(), STOP_GRACE))
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def find(self, namespace: str, name: str) -> Pod | None:
        """The newest of that name: its predecessor may still be ending."""
        same = [pod for pod in self.pods.values() if (pod.namespace, pod.name) == (namespace, name)]
        return same[-1] if same else None

    def _listed(self, items: list[Json]) -> None:
        present = {item["metadata"]["uid"] for item in items}
        for uid in (self.pods.keys() | self._finished) - present:
            self._removed(uid)
        for item in items:
            self._seen(item)

    def _seen(self, document: Json) -> None:
        uid = document["metadata"]["uid"]
        if uid in self._finished:
            return
        if uid in self.pods:
            self.pods[uid].replace(document)
            return
        pod = self.pods[uid] = Pod(document, self._machine)
        task = self._tasks[uid] = asyncio.create_task(pod.run(), name=f"{pod.namespace}/{pod.name}")
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _removed(self, uid: str) -> None:
        self._finished.discard(uid)
        if uid in self.pods:
            self.pods[uid].gone()

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        pod = self.pods.pop(uid)
        del self._tasks[uid]
        if not pod.deleted:
            self._finished.add(uid)
        if not task.cancelled() and task.exception() is not None:
            logger.error("pod %s", task.get_name(), exc_info=task.exception())
