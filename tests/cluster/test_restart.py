"""An operator that starts anew before a fleet at work writes nothing that stands there already."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_cli.local.ports import LOOPBACK, free_ports
from fleet_contract import metrics as m
from fleet_contract import names
from fleet_contract.messages import LearnerHeartbeat, LearnerStage
from fleet_contract.names import Kind
from helpers.cable import Cable, Harm
from helpers.control import (
    JOBS,
    ROBOTS,
    VERSIONS,
    Fleet,
    Operator,
    enroll,
    stable,
    training_job,
    trial,
)
from helpers.kube import Kube, condition
from helpers.prometheus import Endpoint, Figures
from helpers.proxy import ApiProxy

FLEET = ("r1", "r2", "r3")
ROLLOUT = {"steps": [{"robots": 1, "minEpisodes": 9}]}
NO_STORE = "The store does not do its work: make the bucket."
FULL = "2 episodes are lost: the disk is full."


class Bench(NamedTuple):
    """An operator with a proxy before its API server and a cable to its broker."""

    operator: Operator
    proxy: ApiProxy
    cable: Cable
    endpoint: Endpoint

    async def looked(self, *, heard: bool = True) -> None:
        """It has looked at everything once more, and first hears of every robot."""

        def connected(found: Figures) -> bool:
            there = [value for key, value in found.items() if key[0] == m.ROBOT_CONNECTED.name]
            return there == [1.0] * len(FLEET)

        before = await self.endpoint.until("heard", connected) if heard else {}
        turns = {
            (m.RECONCILES.name, kind, "ok"): count
            for kind, count in ((Kind.ROBOT_ACTOR.value, len(FLEET)), (Kind.TRAINING_JOB.value, 1))
            if heard or kind == Kind.ROBOT_ACTOR
        }
        await self.endpoint.until(
            "looked at",
            lambda f: all(f.get(key, 0) >= before.get(key, 0) + n for key, n in turns.items()),
        )

    def since(self, number: int) -> list[str]:
        return [f"{one.call} → {one.status}" for one in self.proxy.writes[number:]]


@pytest.fixture
async def bench(
    kinds: None, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> AsyncIterator[Bench]:
    port, kubeconfig = free_ports(["metrics"])["metrics"], tmp_path / "kubeconfig"
    broker = int(cluster.nats_url.rpartition(":")[2])
    async with Cable(broker).laid() as cable, ApiProxy.before(cluster, kubeconfig) as proxy:
        operator = Operator(
            cluster,
            kube.namespace,
            cable.url,
            log=tmp_path / "log",
            KUBECONFIG=str(kubeconfig),
            FLEET_METRICS_PORT=str(port),
            FLEET_RESYNC_SECONDS="8",  # an operator that is stuck for three of them ends
            FLEET_PATIENCE_SECONDS="0",
            FLEET_LOST_AFTER="600",  # however slow the machine is, nobody falls silent
        )
        await operator.start()
        yield Bench(operator, proxy, cable, Endpoint(f"{LOOPBACK}:{port}"))
        await operator.stop()


async def told(fleet: Fleet, kube: Kube) -> None:
    """A version is on trial, nothing else is well, and all of it is written."""
    await fleet.announce(1)
    await fleet.until(lambda job: stable(job) == 1 and job["status"]["robots"]["synced"] == 3)
    for robot in FLEET:
        await fleet.end_episode(robot, success=True)
    await fleet.announce(2)
    (canary,) = trial(await fleet.until(lambda job: bool(trial(job))))
    await fleet.until_runs(canary, 2)
    for _ in range(2):
        await fleet.end_episode(canary, success=True)
    fleet.says["spool_fault"] = FULL
    said = LearnerHeartbeat(
        job_uid=fleet.job_uid, epoch=0, stage=LearnerStage.STARTING, step=0, fault=NO_STORE, at=0.0
    )
    subject = names.learner_heartbeat_subject(kube.namespace, "job")
    await fleet.client.publish(subject, said.encode())

    def robot_told(robot: Json) -> bool:
        at = 2 if robot["metadata"]["name"] == canary else 1
        return bool(
            condition(robot, "SpoolFailing") == condition(robot, "PolicySynced") == "True"
            and condition(robot, "Stalled") == "True"
            and robot["status"]["active"]["sequence"] == at
            and robot["status"].get("successRate") == "1.00"
        )

    def job_told(job: Json) -> bool:
        status = job["status"]
        return bool(
            condition(job, "StorageFailing") == condition(job, "DataFlowing") == "True"
            and condition(job, "Stalled") == "True"
            and status["tasks"][0]["episodes"] == len(FLEET) + 2
            and status["rollout"]["episodes"] == 2
            and status["robots"] == {"desired": 3, "connected": 3, "synced": 3}
        )

    for robot in FLEET:
        await kube.until(ROBOTS, robot, robot_told)
    await fleet.until(job_told)
    await kube.until(VERSIONS, "job-v2", lambda one: one["status"]["cohort"]["episodes"] == 2)


async def test_a_restarted_operator_writes_nothing_until_something_changes(
    bench: Bench, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(rollout=ROLLOUT))
    await enroll(kube, "job", *FLEET)
    async with Fleet.of(kube, cluster.nats_url, "job", FLEET) as fleet:
        await told(fleet, kube)
        await bench.looked()
        before = len(bench.proxy.writes)
        await bench.operator.kill()
        await bench.operator.start()
        await bench.looked()
        assert bench.since(before) == []

        # Its robots come to their turns before it has read anything of their job.
        await bench.operator.kill()
        await bench.cable.harm(Harm.CUT)
        await bench.operator.start()
        await bench.looked(heard=False)
        await fleet.until(lambda job: condition(job, "StreamsReady") == "False")
        await bench.cable.heal()
        await fleet.until(lambda job: condition(job, "StreamsReady") == "True")
        await bench.looked()
        told_of = (" robotactors/", " policyversions/")
        assert [one for one in bench.since(before) if any(kind in one for kind in told_of)] == []

        # It goes on where its predecessors were.
        fleet.says.clear()
        for robot in FLEET:
            await kube.until(ROBOTS, robot, lambda one: condition(one, "Ready") == "True")
        (canary,) = trial(await kube.get(JOBS, "job"))
        for _ in range(7):
            await fleet.end_episode(canary, success=True)
        await fleet.until(lambda job: stable(job) == 2)
