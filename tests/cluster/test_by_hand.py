"""Whatever somebody deletes or wipes by hand comes back, and nothing goes backwards meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.messages import Assignment
from fleet_contract.names import Kind, Stream, StreamMeta
from fleet_contract.resources.base import ObjectMeta
from fleet_operator.cluster import Cluster
from helpers.control import JOBS, ROBOTS, VERSIONS, Fleet, Operator, edit, enroll, training_job
from helpers.kube import Kube, condition

BATCH = "batch/v1/jobs"
NO_RESYNC = "3600"  # seconds: what comes back does so because it was noticed
TRIAL: dict[str, Any] = {"rollout": {"steps": [{"robots": 1, "minEpisodes": 2}]}}


@pytest.fixture
async def operator(kinds: None, cluster: LocalCluster, kube: Kube) -> AsyncIterator[Operator]:
    running = Operator(cluster, kube.namespace, FLEET_RESYNC_SECONDS=NO_RESYNC)
    await running.start()
    yield running
    await running.stop()


@asynccontextmanager
async def on_trial(cluster: LocalCluster, kube: Kube, **spec: Any) -> AsyncIterator[Fleet]:
    """Version 1 is stable, 2 was taken back, 3 is on trial."""
    await kube.create(JOBS, training_job(**TRIAL, **spec))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"]["robots"].get("synced") == 2)
        await fleet.announce(2)
        await fleet.trip_guard(await canary(fleet, 2))
        await fleet.until(lambda job: job["status"].get("rolledBack") == [2])
        await fleet.announce(3)
        await canary(fleet, 3)
        yield fleet


async def canary(fleet: Fleet, sequence: int) -> str:
    job = await fleet.until(lambda job: on_stage(job) == sequence)
    (robot,) = job["status"]["rollout"]["robots"]
    await fleet.until_runs(robot, sequence)
    return str(robot)


def on_stage(job: Json) -> int:
    rollout = job["status"].get("rollout") or {}
    return int(rollout["candidate"]["sequence"]) if rollout.get("robots") else 0


async def wipe(kube: Kube, resource: str, name: str) -> None:
    await edit(kube, resource, f"{name}/status", lambda found: found.update(status={}))


async def test_versions_at_work_come_back_as_they_were(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with on_trial(cluster, kube) as fleet:
        document = fleet.assignment
        for name, phase in (("job-v1", "Promoted"), ("job-v3", "Staged")):
            before = await kube.get(VERSIONS, name)
            await kube.delete(VERSIONS, name)

            def back(found: Json, uid: str = before["metadata"]["uid"], phase: str = phase) -> bool:
                return bool(
                    found["metadata"]["uid"] != uid and found["status"].get("phase") == phase
                )

            after = await kube.until(VERSIONS, name, back)
            assert after["spec"] == before["spec"]
            assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        assert fleet.assignment == document
        # Nor need there be anybody who sees it go.
        await fleet.until_kept(1, 2, 3)
        await operator.kill()
        before = await kube.get(VERSIONS, "job-v1")
        await kube.delete(VERSIONS, "job-v1")
        await operator.start()
        after = await kube.until(
            VERSIONS, "job-v1", lambda found: found["metadata"]["uid"] != before["metadata"]["uid"]
        )
        assert after["spec"] == before["spec"]
        assert fleet.assignment == document
        for _ in range(2):
            await fleet.end_episode(await canary(fleet, 3), success=True)
        await fleet.until(lambda job: job["status"]["stable"]["sequence"] == 3)


async def test_a_wiped_status_comes_back_and_gives_no_version_to_the_fleet(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with on_trial(cluster, kube) as fleet:
        epoch = fleet.assignment.epoch if fleet.assignment else 0
        robot = await canary(fleet, 3)
        for resource, name in ((JOBS, "job"), (ROBOTS, robot), (VERSIONS, "job-v2")):
            await wipe(kube, resource, name)
        job = await fleet.until(lambda job: on_stage(job) == 3)
        assert job["status"]["stable"]["sequence"] == 1
        assert job["status"]["rolledBack"] == [2]
        assert job["status"]["assignment"]["epoch"] >= epoch
        await kube.until(ROBOTS, robot, lambda r: condition(r, "Ready") == "True")
        await kube.until(VERSIONS, "job-v2", lambda v: v["status"].get("phase") == "RolledBack")
        (bystander,) = {"r1", "r2"} - {await canary(fleet, 3)}
        assert fleet.active[bystander].sequence == 1
        for _ in range(2):
            await fleet.end_episode(await canary(fleet, 3), success=True)
        await fleet.until(at_rest)
        # Nothing is under way now that would have anybody look by chance.
        await wipe(kube, VERSIONS, "job-v3")
        await kube.until(VERSIONS, "job-v3", lambda v: v["status"].get("phase") == "Promoted")
        await wipe(kube, JOBS, "job")
        await fleet.until(at_rest)


def at_rest(job: Json) -> bool:
    stable = job["status"].get("stable") or {}
    return stable.get("sequence") == 3 and job["status"]["robots"]["synced"] == 2


async def test_a_learner_comes_back_also_when_its_job_was_deleted_without_its_pod(
    operator: Operator, kube: Kube
) -> None:
    await kube.create(JOBS, training_job())
    for run, policy in ((1, "Background"), (2, "Orphan")):
        name = f"job-learner-{run}"
        await kube.until(BATCH, name, lambda job: job["status"].get("active") == 1)
        await kube.delete(BATCH, name, propagationPolicy=policy)
        await kube.until(BATCH, f"job-learner-{run + 1}", lambda _: True)
        old = await kube.get("pods", labelSelector=f"fleetloop.dev/run={run}")
        assert old["items"] == []
    await kube.until(JOBS, "job", lambda job: condition(job, "Ready") == "True")


async def test_streams_and_consumer_come_back_at_once_and_the_assignment_with_them(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with on_trial(cluster, kube) as fleet:
        robot = await canary(fleet, 3)
        before = fleet.assignment
        assert before is not None
        js = fleet.client.jetstream()
        advisories = await fleet.client.subscribe("$JS.EVENT.ADVISORY.*.CREATED.>")
        made: set[str] = set()

        async def created(what: str) -> None:
            while what not in made:
                made.add((await advisories.next_msg(20)).subject.partition("ADVISORY.")[2])
            made.remove(what)

        for stream in Stream:
            name = names.stream(fleet.job_uid, stream)
            old = (await js.stream_info(name)).config.metadata or {}
            await js.delete_stream(name)
            await created(f"STREAM.CREATED.{name}")
            new = (await js.stream_info(name)).config.metadata or {}
            assert new[StreamMeta.GENERATION] != old[StreamMeta.GENERATION]
        experience = names.stream(fleet.job_uid, Stream.EXPERIENCE)
        consumer = f"CONSUMER.CREATED.{experience}.{names.LEARNER_CONSUMER}"
        await created(consumer)
        await js.delete_consumer(experience, names.LEARNER_CONSUMER)
        await created(consumer)
        document = await assigned(fleet, after=before.epoch)
        assert (document.rules, document.fallback) == (before.rules, before.fallback)
        for _ in range(2):
            await fleet.end_episode(robot, success=True)
        await fleet.until(lambda job: job["status"]["stable"]["sequence"] == 3)


async def assigned(fleet: Fleet, after: int) -> Assignment:
    """The document that stands on the new stream."""
    async with asyncio.timeout(60), fleet._took:
        await fleet._took.wait_for(
            lambda: fleet.assignment is not None and fleet.assignment.epoch > after
        )
    assert fleet.assignment is not None
    return fleet.assignment


async def test_a_job_applied_anew_while_the_operator_is_dead_begins_from_nothing(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with on_trial(cluster, kube, robots={"simulated": {"replicas": 0}}) as fleet:
        old = fleet.job_uid
        await operator.kill()
        await kube.delete(JOBS, "job", propagationPolicy="Background")
        await kube.create(JOBS, training_job(**TRIAL, replicas=1))
        await fleet.announce(4)  # the old learner still speaks
        await operator.start()
        job = await kube.until(JOBS, "job", lambda j: condition(j, "LearnerReady") == "True", 60)
        assert job["metadata"]["uid"] != old
        assert "stable" not in job["status"]
        assert job["status"]["assignment"]["epoch"] == 0
        client = await nats.connect(cluster.nats_url)
        streams = [str(one.config.name) for one in await client.jetstream().streams_info()]
        await client.close()
        assert [one for one in streams if old in one] == []
        async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as anew:
            await anew.announce(1)
            version = await kube.until(
                VERSIONS, "job-v1", lambda v: v["spec"]["jobUid"] == anew.job_uid
            )
            assert version["spec"]["sequence"] == 1
            await anew.until(lambda job: job["status"]["robots"].get("synced") == 2)
            await anew.until(lambda job: condition(job, "Ready") == "True")


async def test_a_status_meant_for_a_deleted_job_never_lands_on_its_namesake(
    kinds: None, cluster: LocalCluster, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = "kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(here, str(cluster.kubeconfig))
    old = ObjectMeta.model_validate((await kube.create(JOBS, training_job()))["metadata"])
    await kube.delete(JOBS, "job")
    await kube.until_gone(JOBS, "job")
    new = ObjectMeta.model_validate((await kube.create(JOBS, training_job()))["metadata"])
    async with Cluster(kube.namespace) as mine:
        with pytest.raises(Retry, match="409"):
            await mine.write_status(Kind.TRAINING_JOB, old, {"phase": "Training"})
        assert "phase" not in (await kube.get(JOBS, "job"))["status"]
        await mine.write_status(Kind.TRAINING_JOB, new, {"phase": "Pending"})
        assert (await kube.get(JOBS, "job"))["status"]["phase"] == "Pending"
