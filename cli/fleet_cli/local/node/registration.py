"""The Node object, and the heartbeat that keeps it Ready."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.api import Api, ApiError
from fleet_cli.local.node.events import now, now_micro

if TYPE_CHECKING:
    from fleet_cli.local.node.api import Json

NAME = "local"
HEARTBEAT_SECONDS = 10.0
LEASE_SECONDS = 40
RETRY_SECONDS = 0.2
PATH = f"/api/v1/nodes/{NAME}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
NOT_FOUND, CONFLICT = 404, 409
logger = logging.getLogger(__name__)


def node_status(port: int) -> Json:
    """Generous in what is shared: requests sized for a cluster shall fit on a laptop.

    Nothing is enforced here anyway. GPUs are counted as they are: two learners on one are a fault.
    """
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    capacity = {
        "cpu": str(max(64, 8 * cores)),
        "memory": f"{4 * memory}Ki",
        "ephemeral-storage": "1Ti",
        "pods": "2000",
    }
    if gpus := [path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()]:
        capacity["nvidia.com/gpu"] = str(len(gpus))
    healthy = {
        "Ready": ("True", "NodeReady", "runs pods as local processes"),
        "MemoryPressure": ("False", "NotWatched", "memory is the machine's own business"),
        "DiskPressure": ("False", "NotWatched", "disk is the machine's own business"),
        "PIDPressure": ("False", "NotWatched", "processes are the machine's own business"),
    }
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": NAME},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": NAME,
            "systemUUID": NAME,
            "bootID": NAME,
            "kernelVersion": platform.release(),
            "osImage": platform.system(),
            "containerRuntimeVersion": "processes://1",
            "kubeletVersion": "v1.36.3-fleetloop",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                platform.machine(), platform.machine()
            ),
        },
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now(),
                "lastTransitionTime": now(),
            }
            for kind, (status, reason, message) in healthy.items()
        ],
    }


async def register(api: Api, port: int) -> None:
    """Create the node, or take over the one of an earlier run."""
    status = node_status(port)
    labels = {
        "kubernetes.io/hostname": NAME,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": status["nodeInfo"]["architecture"],
    }
    node = {"metadata": {"name": NAME, "labels": labels}, "status": status}
    while True:
        try:
            try:
                await api.create("/api/v1/nodes", node)
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
                await api.patch(f"{PATH}/status", {"status": status})
            await beat(api)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            logger.info("not registered yet: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def heartbeat(api: Api, port: int) -> None:
    """For ever: renew the lease, and say Ready again where the cluster has given us up."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        try:
            await beat(api)
            node = await api.get(PATH)
            conditions = node.get("status", {}).get("conditions", [])
            if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                await api.patch(f"{PATH}/status", {"status": node_status(port)})
        except ApiError as error:
            logger.warning("heartbeat: %s", error)
            if error.status == NOT_FOUND:  # somebody deleted the node
                await register(api, port)
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.warning("heartbeat: %r", error)


async def beat(api: Api) -> None:
    """Renew the lease by which the cluster knows that the node lives."""
    spec = {
        "holderIdentity": NAME,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": now_micro(),
    }
    try:
        await api.patch(f"{LEASES}/{NAME}", {"spec": spec})
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        await api.create(LEASES, {"metadata": {"name": NAME}, "spec": spec})
