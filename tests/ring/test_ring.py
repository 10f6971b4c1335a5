"""The ring, whole: operator, learner and robots as pods on a real control plane with real NATS."""

import asyncio
import subprocess
from pathlib import Path

import nats
import pytest

from fleet_cli.demo import agents
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api, Json
from fleet_cli.oncall import lineage
from fleet_contract import names
from fleet_contract.messages import digest_of
from fleet_runtime.artifacts import Store
from helpers.kube import Kube, condition
from helpers.nats import streams_gone
from helpers.ring import JOBS, ROBOTS, SLOW, VERSIONS, job
from helpers.s3 import running_object_server

pytestmark = pytest.mark.usefixtures("operator")


async def none_left(api: Api, kube: Kube, *resources: str) -> None:
    """Returns when the namespace holds nothing of these kinds any more."""
    for resource in resources:
        async for _ in api.watch(kube.path(resource)):
            if not (await kube.get(resource))["items"]:
                break


async def test_experience_becomes_a_version_that_the_fleet_runs_and_deletion_leaves_nothing(
    cluster: LocalCluster, api: Api, kube: Kube, dataset: str
) -> None:
    made = await kube.create(JOBS, job(dataset))
    uid = made["metadata"]["uid"]

    ready = await kube.until(JOBS, "ring", lambda j: condition(j, "Ready") == "True", SLOW)
    assert ready["status"]["observedGeneration"] == ready["metadata"]["generation"]

    def on_a_checked_version(found: Json) -> bool:
        stable = found["status"].get("stable") or {}
        return int(stable.get("sequence", 0)) > 1

    improved = await kube.until(JOBS, "ring", on_a_checked_version, SLOW)
    learner = improved["status"]["learner"]
    assert learner["stage"] in {"online", "waiting-for-data"}
    assert learner["goalStep"] == made["spec"]["offline"]["steps"]
    assert learner["step"] > learner["goalStep"]
    stable = improved["status"]["stable"]
    version = await kube.get(VERSIONS, stable["name"])
    assert version["status"]["phase"] == "Promoted"
    assert version["status"]["cohort"]["episodes"] >= 2
    origin = await lineage.stored(cluster.storage_url, uid, version=stable["sequence"])
    assert origin["manifest"]["digest"] == version["spec"]["digest"]
    assert len(origin["episodes"]) >= version["spec"]["lineage"]["episodes"]
    # Nothing is published after the first version before updates that episodes paid for.
    one = origin["episodes"][-1]
    lived = await lineage.stored(cluster.storage_url, uid, episode=one["id"])
    assert stable["sequence"] in lived["learned"]
    acted = Store(cluster.storage_url).get(names.version_key(uid, lived["version"]))
    assert digest_of(acted) == lived["manifest"]
    for index in range(2):
        name = names.simulated_robot("ring", index)
        robot = await kube.until(ROBOTS, name, lambda r: bool(r["status"].get("active")), SLOW)
        assert condition(robot, "Connected") == "True"

    scale = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "-n", kube.namespace]
    scale += ["scale", "ftj/ring", "--replicas=1"]
    await asyncio.to_thread(subprocess.run, scale, check=True)
    await kube.until_gone(ROBOTS, names.simulated_robot("ring", 1), SLOW)
    await kube.until_gone("pods", names.robot_pod(names.simulated_robot("ring", 1)), SLOW)

    connection = await nats.connect(cluster.nats_url)
    await kube.delete(JOBS, "ring")
    async with asyncio.timeout(SLOW):
        await none_left(api, kube, JOBS, ROBOTS, VERSIONS, "batch/v1/jobs")
        await streams_gone(connection, uid)
    await connection.close()


async def test_the_ring_closes_on_s3_with_credentials_from_a_secret(
    tmp_path: Path, kube: Kube
) -> None:
    with running_object_server(tmp_path / "objects") as server:
        store = agents.Store(server.url, server.environment)
        assert await agents.record(store, "datasets/demos", ["drawer-open"], 2, seed=1) == 2
        secret = {"metadata": {"name": "store"}, "stringData": server.environment}
        await kube.create("secrets", {"apiVersion": "v1", "kind": "Secret", **secret})
        made = job(
            "datasets/demos",
            transport={"storage": {"url": server.url, "secretRef": {"name": "store"}}},
            robots={"simulated": {"replicas": 1, "controlHz": 80, "timeScale": 4}},
        )
        made["spec"]["offline"]["steps"] = 100
        uid = (await kube.create(JOBS, made))["metadata"]["uid"]

        def on_a_checked_version(found: Json) -> bool:
            stable = found["status"].get("stable") or {}
            return int(stable.get("sequence", 0)) > 1

        await kube.until(JOBS, "ring", on_a_checked_version, SLOW)
        kept = {path.name for path in (tmp_path / "objects" / "fleet" / "jobs" / uid).iterdir()}
        assert {"blobs", "epochs", "journal", "versions"} <= kept
        await kube.delete(JOBS, "ring")
        await kube.until_gone(JOBS, "ring", SLOW)
