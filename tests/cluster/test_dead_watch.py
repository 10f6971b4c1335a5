"""A watch that stands and brings nothing: the probe tells, so that the kubelet starts us anew."""

import asyncio
from pathlib import Path

import aiohttp

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_cli.local.ports import free_ports
from fleet_contract.names import Kind
from helpers.control import JOBS, ROBOTS, VERSIONS, Fleet, Operator, edit, training_job
from helpers.kube import Kube
from helpers.proxy import ApiProxy

OBJECTS = {
    Kind.TRAINING_JOB: (JOBS, "job"),
    Kind.ROBOT_ACTOR: (ROBOTS, "job-sim-0"),
    Kind.POLICY_VERSION: (VERSIONS, "job-v1"),
    "Job": ("batch/v1/jobs", "job-learner-1"),
    "Pod": ("pods", "job-sim-0-robot"),
}


def touch(found: Json) -> None:
    found["metadata"].setdefault("annotations", {})["example.com/touched"] = "yes"


async def healthy(url: str, wanted: bool, within: float = 60.0) -> None:
    """Asks as a kubelet does."""
    async with asyncio.timeout(within), aiohttp.ClientSession() as session:
        while True:
            async with session.get(url) as answer:
                if (answer.status == 200) == wanted:
                    return
            await asyncio.sleep(0.2)


async def test_the_probe_fails_while_a_watch_of_any_kind_is_dead_and_is_well_after_it_returned(
    kinds: None, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "log"
    port = free_ports(["probe"])["probe"]
    health = f"http://127.0.0.1:{port}/healthz"
    async with ApiProxy.before(cluster, kubeconfig) as proxy:
        operator = Operator(
            cluster,
            kube.namespace,
            log=log,
            KUBECONFIG=str(kubeconfig),
            FLEET_PROBE_PORT=str(port),
            FLEET_RESYNC_SECONDS="3",
        )
        await operator.start()
        try:
            await kube.create(JOBS, training_job(replicas=1))
            async with Fleet.of(kube, cluster.nats_url, "job", []) as fleet:
                await fleet.announce(1)
            for resource, name in OBJECTS.values():
                await kube.until(resource, name, lambda _: True)
            await healthy(health, wanted=True)
            proxy.silence()
            for resource, name in OBJECTS.values():
                await edit(kube, resource, name, touch)
            await healthy(health, wanted=False)
            proxy.heal()
            await healthy(health, wanted=True)
        finally:
            await operator.stop()
    said = log.read_text()
    assert f"the watch is dead of: {', '.join(sorted(OBJECTS))}" in said, said


async def test_an_operator_whose_api_server_is_gone_still_ends_when_it_is_told_to(
    kinds: None, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    async with ApiProxy.before(cluster, kubeconfig) as proxy:
        operator = Operator(cluster, kube.namespace, KUBECONFIG=str(kubeconfig))
        await operator.start()
        await kube.create(JOBS, training_job(replicas=1))
        await kube.until("pods", "job-sim-0-robot", lambda _: True)
        await kube.until(JOBS, "job", lambda job: "status" in job)
    assert proxy.writes
    assert await asyncio.wait_for(operator.stop(), 30) == 0
