"""Kubernetes in a test: make an object, await what it becomes through a watch."""

import asyncio
import os
import select
from collections.abc import Callable, Mapping
from typing import Any

from fleet_cli.local.node.api import Api, ApiError, Json

WITHIN = 60.0  # seconds; two cores under load are slow, and a passing test does not wait


class Kube:
    """The API in one namespace.

    A resource is written "pods", "batch/v1/jobs" or "fleetloop.dev/v1alpha1/robotactors".
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def path(self, resource: str, name: str = "") -> str:
        group, _, plural = resource.rpartition("/")
        prefix = f"/apis/{group}" if group else "/api/v1"
        return f"{prefix}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def create(self, resource: str, body: Json) -> Json:
        return await self.api.create(self.path(resource), body)

    async def get(self, resource: str, name: str = "", **params: str) -> Json:
        return await self.api.get(self.path(resource, name), **params)

    async def delete(self, resource: str, name: str, **options: Any) -> None:
        await self.api.delete(self.path(resource, name), options)

    async def until(
        self, resource: str, name: str, holds: Callable[[Json], bool], within: float = WITHIN
    ) -> Json:
        """The object once the condition holds; fails with its last form where it never does."""
        last: Json | None = None
        try:
            async with asyncio.timeout(within):
                selector = f"metadata.name={name}"
                async for kind, seen in self.api.watch(self.path(resource), fieldSelector=selector):
                    for item in seen["items"] if kind == "LISTED" else [seen]:
                        last = item
                        if kind != "DELETED" and holds(item):
                            return last
        except TimeoutError:
            pass
        raise AssertionError(f"{resource} {name}: not as awaited after {within} s: {last}")

    async def until_gone(self, resource: str, name: str, within: float = WITHIN) -> None:
        async with asyncio.timeout(within):
            selector = f"metadata.name={name}"
            async for kind, seen in self.api.watch(self.path(resource), fieldSelector=selector):
                if kind == "DELETED" or (kind == "LISTED" and not seen["items"]):
                    return

    async def event(self, about: str, reason: str, within: float = WITHIN) -> Json:
        """An Event of that reason about an object, once there is one."""
        async with asyncio.timeout(within):
            async for kind, seen in self.api.watch(
                self.path("events"), fieldSelector=f"reason={reason}"
            ):
                for item in seen["items"] if kind == "LISTED" else [seen]:
                    if item["involvedObject"]["name"] == about:
                        return item
        raise AssertionError("the watch ended")  # it never does

    async def logs(self, pod: str, **params: str) -> str:
        return await self.api.text(self.path("pods", pod) + "/log", **params)

    async def phase(self, pod: str, phase: str, within: float = WITHIN) -> Json:
        return await self.until("pods", pod, lambda p: p["status"].get("phase") == phase, within)

    async def run(self, name: str, *command: str, **spec: Any) -> Json:
        """A pod with one container `main`; keywords go to the container or, `pod=`, to the pod."""
        return await self.create("pods", pod(name, *command, **spec))


def pod(name: str, *command: str, pod: Mapping[str, Any] | None = None, **container: Any) -> Json:
    main = {"name": "main", "image": "local", "command": list(command), **container}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, **(pod or {})}
    return {"metadata": {"name": name}, "spec": {"containers": [main], **spec}}


def container(pod: Json, index: int = 0) -> Json:
    """The status of one container; empty before the node has said anything."""
    statuses = pod["status"].get("containerStatuses", [])
    found: Json = statuses[index] if statuses else {}
    return found


def condition(document: Json, kind: str) -> str:
    """The status of a condition: True, False, Unknown, or empty where there is none."""
    conditions = document.get("status", {}).get("conditions", [])
    return next((str(one["status"]) for one in conditions if one["type"] == kind), "")


async def exists(kube: Kube, resource: str, name: str) -> bool:
    try:
        await kube.get(resource, name)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def await_exit(pid: int, within: float = WITHIN) -> None:
    """Returns when the process (of anybody) has ended; the kernel tells, nobody polls."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([descriptor], [], [], within)[0]:
            raise AssertionError(f"process {pid} still runs after {within} s")
    finally:
        os.close(descriptor)
