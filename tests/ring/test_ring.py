"""The ring, whole: operator, learner and robots as pods on a real control plane with real NATS."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from fleet_cli.demo import agents
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api, Json
from fleet_cli.setup import install, run_operator
from fleet_contract import names
from fleet_contract.identity import passport_of
from fleet_contract.messages import digest_of
from fleet_contract.names import Env
from fleet_runtime.artifacts import Store
from fleet_runtime.tracing import of_episode
from helpers.fleet import FLEET, Shell
from helpers.identity import as_operator, connected, entrust
from helpers.kube import Kube, condition
from helpers.nats import streams_gone
from helpers.otlp import Collector, collecting, whole_ways
from helpers.ring import JOBS, ROBOTS, SLOW, VERSIONS, job, without_keys
from helpers.s3 import running_object_server
from helpers.tls import as_its_node_does, believed, sealed_broker, secured

OUT_WITHIN = 10.0  # seconds


async def none_left(api: Api, kube: Kube, *resources: str) -> None:
    """Returns when the namespace holds nothing of these kinds any more."""
    for resource in resources:
        async for _ in api.watch(kube.path(resource)):
            if not (await kube.get(resource))["items"]:
                break


async def test_experience_becomes_a_version_that_the_fleet_runs_and_deletion_leaves_nothing(
    cluster: LocalCluster, api: Api, kube: Kube, dataset: str, tmp_path: Path
) -> None:
    """At a broker that takes nobody but whom the operator minted, and shows what it made."""
    with sealed_broker(tmp_path / "nats") as broker, collecting() as collector:
        await asyncio.to_thread(install, cluster.kubectl, cluster.kubeconfig, kube.namespace)
        await entrust(kube)
        told = {Env.NATS_URL: secured(broker), Env.NATS_ACCOUNTS: "true", Env.NATS_TLS: "true"}
        told[Env.OTLP_ENDPOINT] = collector.url
        await asyncio.to_thread(run_operator, cluster, kube.namespace, told)
        await as_its_node_does(kube, tmp_path / "nats")
        broker.start()
        await comes_round(cluster, api, kube, dataset, secured(broker), tmp_path, collector)


async def joins_from_outside(cluster: LocalCluster, kube: Kube, folder: Path) -> None:
    """A robot with what enrolling it printed, and nothing else; out when it is deleted."""
    fleet = Shell(cluster, kube.namespace)
    printed = await fleet("robots", "enroll", "arm", "--job", "ring", "--output", "json")
    assert (printed.code, printed.json["missing"]) == (0, [])
    file, home = folder / "arm.json", folder / "arm"
    file.write_text(printed.out)
    program = await asyncio.create_subprocess_exec(
        *(str(FLEET), "robot", "run", str(file), "--directory", str(home)),
        env={"PATH": os.defpath, "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await kube.until(ROBOTS, "arm", lambda r: bool(r["status"].get("active")), SLOW)
        again = await fleet("robots", "credentials", "arm", "--output", "json")
        assert again.json["credentials"] == printed.json["credentials"]
        began = time.monotonic()
        await kube.delete(ROBOTS, "arm")
        said = []
        assert program.stderr is not None
        async with asyncio.timeout(SLOW):
            async for line in program.stderr:
                said.append(line.decode().lower())
                if "revoked" in said[-1]:
                    break
        assert time.monotonic() - began < OUT_WITHIN
        assert program.returncode is None  # it goes on with what it has
        secret = passport_of(printed.json["credentials"])
        assert not [one for one in (secret.token, secret.key.reveal()) if one in "".join(said)]
    finally:
        program.terminate()
        await program.communicate()
    assert (home / "user.creds").stat().st_mode & 0o777 == 0o600


async def has_a_lineage(cluster: LocalCluster, kube: Kube, stable: Json, uid: str) -> str:
    """What a person asks of a version, then of its last episode, whose id this returns."""
    fleet = Shell(cluster, kube.namespace)
    asked = ("--storage", cluster.storage_url, "--output", "json")
    version = await kube.get(VERSIONS, stable["name"])
    origin = (await fleet("lineage", stable["name"], *asked)).json
    assert origin["digest"] == version["spec"]["digest"]
    assert len(origin["trained"]) >= version["spec"]["lineage"]["episodes"]
    # Nothing is published after the first version before updates that episodes paid for.
    one: str = origin["trained"][-1]["id"]
    lived = (await fleet("lineage", one, "--job", "ring", *asked)).json
    assert stable["sequence"] in lived["learned"]
    acted = Store(cluster.storage_url).get(names.version_key(uid, lived["version"]))
    assert digest_of(acted) == lived["manifest"]
    return one


async def comes_round(
    cluster: LocalCluster,
    api: Api,
    kube: Kube,
    dataset: str,
    url: str,
    folder: Path,
    collector: Collector,
) -> None:
    """From the job's apply to its removal."""
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
    one = await has_a_lineage(cluster, kube, stable, uid)
    assert of_episode(one).trace == one
    spans = await collector.awaited(whole_ways, SLOW)
    assert {one.whose["service.name"] for one in spans} == {"fleetloop-learner", "fleetloop-robot"}
    assert {one.whose["fleetloop.job"] for one in spans} == {"ring"}
    for index in range(2):
        name = names.simulated_robot("ring", index)
        robot = await kube.until(ROBOTS, name, lambda r: bool(r["status"].get("active")), SLOW)
        assert condition(robot, "Connected") == "True"

    await joins_from_outside(cluster, kube, folder)
    for pod in (await kube.get("pods"))["items"]:
        said = await kube.logs(pod["metadata"]["name"])
        assert "permissions violation" not in said.lower(), pod["metadata"]["name"]

    scale = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "-n", kube.namespace]
    scale += ["scale", "ftj/ring", "--replicas=1"]
    await asyncio.to_thread(subprocess.run, scale, check=True)
    await kube.until_gone(ROBOTS, names.simulated_robot("ring", 1), SLOW)
    await kube.until_gone("pods", names.robot_pod(names.simulated_robot("ring", 1)), SLOW)

    inbox = names.inbox(names.Identity.OPERATOR, names.FIELD_MANAGER)
    who, ca = await as_operator(kube), await believed(kube)
    async with connected(url, who, inbox, authorities=ca) as connection:
        await kube.delete(JOBS, "ring")
        async with asyncio.timeout(SLOW):
            await none_left(api, kube, JOBS, ROBOTS, VERSIONS, "batch/v1/jobs")
            await streams_gone(connection, uid)


@pytest.mark.usefixtures("operator")
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

        await without_keys(kube, names.simulated_robot("ring", 0))
        await kube.until(JOBS, "ring", on_a_checked_version, SLOW)
        kept = {path.name for path in (tmp_path / "objects" / "fleet" / "jobs" / uid).iterdir()}
        assert {"blobs", "epochs", "journal", "versions"} <= kept
        await kube.delete(JOBS, "ring")
        await kube.until_gone(JOBS, "ring", SLOW)
