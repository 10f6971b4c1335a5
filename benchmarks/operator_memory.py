"""What a large fleet costs the operator: memory, time, and writes to the API.

A real control plane, one job, then many External robots at once (no pods). Writes are counted
where they arrive, by the API server's own request counters. The last line says figures, goals and
`ok` or `short`, and the exit status says the same.

    .venv/bin/python -m benchmarks.operator_memory [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api
from fleet_cli.setup import install
from fleet_contract import names
from helpers.control import JOBS, ROBOTS, training_job
from helpers.kube import Kube, condition

NAMESPACE = "default"
AT_ONCE = 32  # creations under way
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
OURS = ("fleettrainingjobs", "robotactors", "policyversions", "jobs", "pods", "events")
"""What the operator may write at all."""
COUNTER = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<count>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    robots: int = 1000
    quiet: float = 60.0  # seconds in which nothing happens; as long as a resync
    memory: float = 150.0  # MiB that the operator may take
    writes: float = 1.5  # per robot


SMOKE = Plan(robots=200, quiet=10.0)


@dataclass(frozen=True)
class Found:
    """What was measured."""

    before: float  # MiB
    after: float  # MiB
    seconds: float  # from the first creation until the last robot has a status
    per_robot: float  # writes of its status
    quiet: float  # writes in the quiet time


def resident(pid: int) -> float:
    """MiB of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def writes(api: Api, *resources: str, subresource: str | None = None) -> float:
    """So many writes of these resources the API server has answered."""
    total = 0.0
    for found in COUNTER.finditer(await api.text("/metrics")):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', found["labels"]))
        if labels["verb"] in WRITES and labels["resource"] in resources:
            total += float(found["count"]) * (subresource in {None, labels["subresource"]})
    return total


async def fleet(kube: Kube, count: int) -> float:
    """Make the robots; seconds until each has a status."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def enroll(index: int) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "RobotActor",
            "metadata": {"name": f"robot-{index}"},
            "spec": {"job": "job", "mode": "External"},
        }
        async with slots:
            await kube.create(ROBOTS, body)

    async def all_told() -> None:
        told: set[str] = set()
        async for _, seen in kube.api.watch(kube.path(ROBOTS)):
            for robot in seen.get("items", [seen]):
                if robot["status"]["observedGeneration"] > 0:
                    told.add(robot["metadata"]["name"])
            if len(told) == count:
                return

    started = time.monotonic()
    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        group.create_task(all_told())
        for index in range(count):
            group.create_task(enroll(index))
    return time.monotonic() - started


async def settled(api: Api) -> None:
    """Until two looks see the same number of writes."""
    last = -1.0
    while last != (last := await writes(api, *OURS)):  # noqa: ASYNC110 - a counter tells nobody
        await asyncio.sleep(2.0)


async def measure(cluster: LocalCluster, plan: Plan) -> Found:
    """One operator's life."""
    environment = os.environ | {
        "KUBECONFIG": str(cluster.kubeconfig),
        "FLEET_NAMESPACE": NAMESPACE,
        "FLEET_NATS_URL": cluster.nats_url,
        "FLEET_STORAGE_URL": cluster.storage_url,
        "FLEET_PROBE_PORT": "0",
        "FLEET_METRICS_PORT": "0",
        "FLEET_RESYNC_SECONDS": str(plan.quiet),
    }
    async with Api(cluster.kubeconfig) as api:
        kube = Kube(api, NAMESPACE)
        program = (sys.executable, "-m", "fleet_operator")
        operator = await asyncio.create_subprocess_exec(
            *program, env=environment, stderr=subprocess.DEVNULL
        )
        try:
            await kube.create(JOBS, training_job())
            await kube.until(JOBS, "job", lambda job: condition(job, "LearnerReady") == "True")
            await settled(api)
            before = resident(operator.pid)
            counted = await writes(api, "robotactors", subresource="status")
            seconds = await fleet(kube, plan.robots)
            await settled(api)
            after = resident(operator.pid)
            counted = await writes(api, "robotactors", subresource="status") - counted
            noted = await writes(api, *OURS)
            await asyncio.sleep(plan.quiet)
            after = max(after, resident(operator.pid))
            noted = await writes(api, *OURS) - noted
            assert operator.returncode is None, "the operator ended by itself"
        finally:
            operator.terminate()
            await operator.wait()
    return Found(before, after, seconds, counted / plan.robots, noted)


def main() -> int:
    """Run the benchmark; 0 when it reached its goals."""
    parser = argparse.ArgumentParser(prog="benchmarks.operator_memory")
    parser.add_argument("--smoke", action="store_true", help="a smaller fleet, under a minute")
    plan = SMOKE if parser.parse_args().smoke else Plan()
    with TemporaryDirectory() as folder, LocalCluster(Path(folder)) as cluster:
        install(cluster.kubectl, cluster.kubeconfig)
        found = asyncio.run(measure(cluster, plan))
    good = found.after <= plan.memory and found.quiet == 0 and found.per_robot <= plan.writes
    print(
        f"{plan.robots} robots: RSS {found.before:.0f} -> {found.after:.0f} MiB "
        f"(goal at most {plan.memory:.0f}), every status after {found.seconds:.1f} s, "
        f"{found.per_robot:.2f} writes each (goal at most {plan.writes}), "
        f"{found.quiet:.0f} writes in {plan.quiet:.0f} quiet seconds (goal 0): "
        + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
