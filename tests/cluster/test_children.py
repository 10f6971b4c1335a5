"""What a job makes, changes and leaves behind."""

from pathlib import Path
from typing import Any

import nats

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_contract import names
from helpers.control import (
    JOBS,
    ROBOTS,
    VERSIONS,
    Fleet,
    Operator,
    edit,
    enroll,
    training_job,
)
from helpers.kube import Kube, condition
from helpers.nats import Broker, lose_streams, make_streams

BATCH = "batch/v1/jobs"


def reason(found: Json, type_: str) -> str:
    conditions = found["status"].get("conditions", [])
    return next((str(one["reason"]) for one in conditions if one["type"] == type_), "")


def message(found: Json, type_: str) -> str:
    conditions = found["status"].get("conditions", [])
    return next((str(one["message"]) for one in conditions if one["type"] == type_), "")


async def streams(url: str, namespace: str) -> list[str]:
    client = await nats.connect(url)
    try:
        found = await client.jetstream().streams_info()
    finally:
        await client.close()
    key = names.StreamMeta.NAMESPACE
    return [
        str(one.config.name) for one in found if (one.config.metadata or {}).get(key) == namespace
    ]


async def versions_of(kube: Kube) -> dict[str, str]:
    """The resourceVersion of everything in the namespace that the operator may write."""
    found = {}
    for resource in (JOBS, ROBOTS, VERSIONS, BATCH, "pods", "events"):
        for item in (await kube.get(resource))["items"]:
            metadata = item["metadata"]
            found[f"{resource}/{metadata['name']}"] = metadata["resourceVersion"]
    return found


async def test_a_fleet_scales_and_its_highest_robots_go_first(
    operator: Operator, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(replicas=3))
    job = await kube.until(JOBS, "job", lambda job: job["status"].get("replicas") == 3)
    assert job["status"]["selector"] == "fleetloop.dev/job=job,fleetloop.dev/simulated=true"
    await kube.phase("job-sim-2-robot", "Running")

    def scale(replicas: int) -> Any:
        def change(found: Json) -> None:
            found["spec"]["robots"]["simulated"]["replicas"] = replicas

        return change

    await edit(kube, JOBS, "job", scale(1))
    await kube.until(JOBS, "job", lambda job: job["status"]["replicas"] == 1)
    await kube.until_gone(ROBOTS, "job-sim-2")
    await kube.until_gone(ROBOTS, "job-sim-1")
    await kube.until_gone("pods", "job-sim-2-robot")
    await edit(kube, JOBS, "job", scale(2))
    await kube.until(ROBOTS, "job-sim-1", lambda _: True)
    robot = await kube.until(ROBOTS, "job-sim-0", lambda robot: "phase" in robot["status"])
    assert robot["spec"] == {"job": "job", "mode": "Simulated", "seed": 1000} | robot["spec"]


async def test_a_new_learner_begins_only_when_the_old_one_is_gone(
    operator: Operator, kube: Kube
) -> None:
    await kube.create(JOBS, training_job())
    first = await kube.until(BATCH, "job-learner-1", lambda job: job["status"].get("active") == 1)
    assert first["spec"]["backoffLimit"] == 2**31 - 1
    assert first["spec"]["podReplacementPolicy"] == "Failed"
    await kube.until(JOBS, "job", lambda job: condition(job, "Ready") == "True")

    def retrain(found: Json) -> None:
        found["spec"]["learner"]["batchSize"] = 8

    await edit(kube, JOBS, "job", retrain)
    await kube.until(BATCH, "job-learner-2", lambda _: True)
    pods = await kube.get("pods", labelSelector="fleetloop.dev/run=1")
    assert pods["items"] == []
    job = await kube.until(JOBS, "job", lambda job: job["status"]["learner"]["run"] == 2)
    assert (await kube.get(BATCH))["items"][0]["metadata"]["name"] == "job-learner-2"

    def suspend(found: Json) -> None:
        found["spec"]["suspend"] = True

    await edit(kube, JOBS, "job", suspend)
    job = await kube.until(
        JOBS,
        "job",
        lambda job: condition(job, "Ready") == "True" and condition(job, "Suspended") == "True",
    )
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"]
    assert (await kube.get("pods"))["items"] == []


async def test_a_learner_waits_in_kueues_queue_and_goes_when_kueue_says_so(
    operator: Operator, kube: Kube
) -> None:
    """Kueue itself does no more to a Job than what this test does: it flips `suspend`."""
    queued = training_job()
    queued["metadata"]["labels"] = {names.Label.KUEUE_QUEUE: "fleet"}
    await kube.create(JOBS, queued)

    def waits(job: Json) -> bool:
        return "Kueue's queue fleet" in message(job, "LearnerReady")

    await kube.until(JOBS, "job", waits)
    run = await kube.get(BATCH, "job-learner-1")
    assert run["metadata"]["labels"][names.Label.KUEUE_QUEUE] == "fleet"
    assert (await kube.get("pods"))["items"] == []

    def admit(found: Json) -> None:
        found["spec"]["suspend"] = False

    await edit(kube, BATCH, "job-learner-1", admit)
    await kube.until(JOBS, "job", lambda job: condition(job, "LearnerReady") == "True")

    def put_out(found: Json) -> None:
        found["spec"]["suspend"] = True

    await edit(kube, BATCH, "job-learner-1", put_out)
    await kube.until(JOBS, "job", waits)
    assert (await kube.get(BATCH, "job-learner-1"))["metadata"]["uid"] == run["metadata"]["uid"]


async def test_nothing_is_left_of_a_deleted_job_and_its_name_can_be_used_anew(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(replicas=1))
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as fleet:
        await fleet.announce(1)
        await kube.until(VERSIONS, "job-v1", lambda v: v["status"].get("phase") == "Promoted")
        await kube.phase("job-sim-0-robot", "Running")
        assert len(await streams(cluster.nats_url, kube.namespace)) == 4
        await kube.delete(JOBS, "job", propagationPolicy="Background")
        await kube.until_gone(JOBS, "job")
        await fleet.until_closed()
    for resource, name in (
        (BATCH, "job-learner-1"),
        (ROBOTS, "job-sim-0"),
        (VERSIONS, "job-v1"),
        ("pods", "job-sim-0-robot"),
    ):
        await kube.until_gone(resource, name)
    robot = await kube.until(ROBOTS, "r1", lambda r: condition(r, "Stalled") == "True")
    assert reason(robot, "Stalled") == "JobNotFound"
    # The operator sweeps the streams after a while, or at once when their subjects are needed.
    await kube.create(JOBS, training_job())
    job = await kube.until(JOBS, "job", lambda job: condition(job, "StreamsReady") == "True")
    mine = await streams(cluster.nats_url, kube.namespace)
    assert mine == [name for name in mine if job["metadata"]["uid"] in name]
    assert len(mine) == 4


async def test_an_idle_operator_writes_nothing(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(replicas=1))
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as fleet:
        await fleet.announce(1)
        await fleet.until(
            lambda job: condition(job, "Ready") == "True" and job["status"]["robots"]["synced"] == 1
        )
        await kube.until(ROBOTS, "r1", lambda r: condition(r, "PolicySynced") == "True")
        await kube.until(ROBOTS, "job-sim-0", lambda r: r["status"].get("phase") == "Offline")
        await fleet.quiet(1.0)  # let the last writes of the convergence land
        before, document = await versions_of(kube), fleet.assignment
        await fleet.quiet(5.0)
        assert await versions_of(kube) == before
        assert fleet.assignment == document


async def test_without_nats_a_job_says_what_to_do_and_goes_on_when_it_is_there(
    kinds: None, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    broker = Broker(tmp_path).start()
    broker.kill()
    operator = await Operator(cluster, kube.namespace, broker.url).start()
    try:
        await kube.create(JOBS, training_job())
        job = await kube.until(JOBS, "job", lambda job: condition(job, "Stalled") == "True")
        stalled = next(one for one in job["status"]["conditions"] if one["type"] == "Stalled")
        assert stalled["reason"] == "StreamsFailed"
        assert "FLEET_NATS_URL" in stalled["message"]
        broker.start()
        job = await kube.until(JOBS, "job", lambda job: condition(job, "Ready") == "True")
        assert job["status"]["learner"]["run"] == 1, "a run that was not begun was counted"
    finally:
        await operator.stop()
        broker.kill()


async def test_an_operator_leaves_the_streams_of_a_namesake_in_another_cluster_alone(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    """Two clusters, one NATS server, the same namespace and the same job in both."""
    url = cluster.nats_url
    await make_streams(url, "job", "uid-elsewhere", kube.namespace)
    theirs = [names.stream("uid-elsewhere", kind) for kind in names.Stream]
    try:
        await kube.create(JOBS, training_job())
        job = await kube.until(JOBS, "job", lambda job: condition(job, "Stalled") == "True")
        assert reason(job, "Stalled") == "StreamsFailed"
        (told,) = [one for one in job["status"]["conditions"] if one["type"] == "Stalled"]
        assert "another cluster's job of this namespace and name" in told["message"]
        assert set(theirs) <= set(await streams(url, kube.namespace))
    finally:
        await lose_streams(url, "uid-elsewhere")
    await kube.until(JOBS, "job", lambda job: condition(job, "Ready") == "True")


async def test_a_robot_that_went_holds_no_version_and_one_that_raves_holds_up_nobody(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    """No figure of a robot's is too great, or too small, for a status."""
    everyone: dict[str, Any] = {"rollout": {"strategy": "Broadcast"}, "history": {"versions": 1}}
    await kube.create(JOBS, training_job(**everyone))
    await enroll(kube, "job", "arm", "leg")
    async with Fleet.of(kube, cluster.nats_url, "job", ["arm", "leg"]) as fleet:
        fleet.says = {"episodes": 10**400, "spool_depth": -(10**400), "guard_trips": 2**63}
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        said = (await kube.until(ROBOTS, "leg", lambda one: one["status"]["episodes"]))["status"]
        assert (said["episodes"], said["spoolDepth"]) == (2**53, 0)
        fleet.uids.pop("leg")
        await kube.delete(ROBOTS, "leg")
        for sequence in (2, 3):
            await fleet.announce(sequence)
            await fleet.until_runs("arm", sequence)
        await fleet.until_kept(2, 3)
        await kube.until_gone(VERSIONS, "job-v1")
