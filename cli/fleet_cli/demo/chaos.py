"""``fleet demo --chaos``: kill -9 for one process after another while the fleet learns."""

from __future__ import annotations

import asyncio
import random
from itertools import cycle
from typing import TYPE_CHECKING

from fleet_cli.local.victims import kill_pod_processes
from fleet_contract.names import Label, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_cli.local.cluster import LocalCluster
    from fleet_cli.local.node.api import Api

EVERY = 15.0  # seconds from one kill to the next
PODS = {
    "the operator": "app.kubernetes.io/name=fleetloop-operator",
    "the learner": f"{Label.ROLE}={Role.LEARNER}",
    "robot": f"{Label.ROLE}={Role.ROBOT}",
}
BROKER = "nats-server"


async def chaos(
    cluster: LocalCluster, api: Api, namespace: str, say: Callable[[str], None]
) -> None:
    """Kill operator, learner, a robot and the broker in turn; until cancelled."""
    for victim in cycle((*PODS, BROKER)):
        await asyncio.sleep(EVERY)
        if victim == BROKER:
            # In this thread: the kernel ends a program with the thread that started it.
            say(f"killed {BROKER} (pid {cluster.restart(BROKER)})")
            continue
        path = f"/api/v1/namespaces/{namespace}/pods"
        pods = (await api.get(path, labelSelector=PODS[victim]))["items"]
        random.shuffle(pods)
        for pod in pods:
            if killed := await asyncio.to_thread(kill_pod_processes, pod["metadata"]["uid"]):
                robot = pod["metadata"]["labels"].get(Label.ROBOT, "")
                say(f"killed {victim}{robot and ' ' + robot} (pid {killed[0]})")
                break
        else:
            say(f"{victim} is down already")
