"""Each mistake that only a cluster sees: Stalled, in words that help; the neighbours go on; healed.

What one object can know is refused when it is applied: tests/contract/test_apiserver_refuses.py.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import ANY

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.messages import LearnerHeartbeat, LearnerStage
from fleet_contract.names import STALLED_REASONS
from helpers.control import (
    IDLE,
    JOBS,
    ROBOTS,
    VERSIONS,
    Fleet,
    Operator,
    candidate,
    edit,
    enroll,
    press,
    training_job,
    trial,
)
from helpers.kube import Kube, condition
from helpers.proxy import Answer, ApiProxy, Call, Fault, refusal

BATCH = "batch/v1/jobs"
LEROBOT = Path(__file__).parents[1] / "foreign" / "dataset"
SLOW = 90.0  # seconds: a real learner imports torch


def runs(script: str) -> dict[str, Any]:
    return {"command": ["sh", "-c", script]}


REFUSES = runs('printf "no such algorithm" > "$FLEET_LAST_WORDS"; exit 78')
CRASHES = runs("echo the dataset is gone >&2; exit 1")


def learner(container: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"learner": {"podOverrides": {"containers": [{"name": "learner", **container}]}, **more}}


def robot(container: dict[str, Any], **more: Any) -> dict[str, Any]:
    overrides = {"podOverrides": {"containers": [{"name": "robot", **container}]}}
    return {"robots": {"simulated": {"replicas": 1, **overrides, **more}}}


class Case(NamedTuple):
    spec: dict[str, Any]
    who: tuple[str, str]
    reason: str
    words: str
    cure: dict[str, Any]


JOB, ROBOT = (JOBS, "bad"), (ROBOTS, "bad-sim-0")
CASES = {
    "a learner's image that cannot be pulled": Case(
        learner(IDLE, image="learner:missing"),
        JOB,
        "ImagePullFailed",
        "cannot pull image learner:missing: correct spec.learner.image",
        learner(IDLE),
    ),
    "a robot's image that cannot be pulled": Case(
        robot(IDLE, image="robot:missing"),
        ROBOT,
        "ImagePullFailed",
        "cannot pull image robot:missing: correct spec.robots.simulated.image of its job",
        robot(IDLE),
    ),
    "a learner that ends again and again": Case(
        learner(CRASHES), JOB, "LearnerCrashing", "the dataset is gone.", learner(IDLE)
    ),
    "a robot that ends again and again": Case(
        robot(CRASHES), ROBOT, "RobotCrashing", "the dataset is gone.", robot(IDLE)
    ),
    "a learner that refuses its spec": Case(
        learner(REFUSES), JOB, "LearnerRefused", "no such algorithm. It starts", learner(IDLE)
    ),
    "a robot that refuses its job": Case(
        robot(REFUSES), ROBOT, "RobotRefused", "no such algorithm. Correct spec.", robot(IDLE)
    ),
    "a fleet none of which can work": Case(
        robot(REFUSES),
        JOB,
        "RobotsFailed",
        "None of 1 robots is connected. bad-sim-0: The robot cannot work",
        robot(IDLE),
    ),
}


async def stalled(kube: Kube, who: tuple[str, str], reason: str, within: float = 45.0) -> Json:
    def holds(found: Json) -> bool:
        return any(
            (one["type"], one["status"], one["reason"]) == ("Stalled", "True", reason)
            for one in found["status"].get("conditions", [])
        )

    found = await kube.until(*who, holds, within)
    assert reason in STALLED_REASONS
    assert condition(found, "Ready") == "False"
    return next(one for one in found["status"]["conditions"] if one["type"] == "Stalled")


async def told(kube: Kube, who: tuple[str, str], reason: str) -> list[Json]:
    """Events about an object, by their reason."""
    return [
        event
        for event in (await kube.get("events"))["items"]
        if (event["involvedObject"]["name"], event["reason"]) == (who[1], reason)
        and event["involvedObject"]["kind"] in {"FleetTrainingJob", "RobotActor"}
    ]


def instead(spec: dict[str, Any]) -> Callable[[Json], None]:
    def change(found: Json) -> None:
        found["spec"] |= spec

    return change


@pytest.mark.parametrize("sentence", CASES)
async def test_told_and_healed(
    sentence: str, operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    """A version of the neighbour's goes out while the other job is Stalled."""
    case = CASES[sentence]
    await kube.create(JOBS, training_job("bad", **case.spec))
    await kube.create(JOBS, training_job("good"))
    await enroll(kube, "good", "arm")
    found = await stalled(kube, case.who, case.reason)
    assert case.words in found["message"]
    async with Fleet.of(kube, cluster.nats_url, "good", ["arm"]) as neighbour:
        await neighbour.announce(1)
        await neighbour.until(lambda job: condition(job, "Ready") == "True")
        await kube.until(VERSIONS, "good-v1", lambda v: v["status"].get("phase") == "Promoted")
        await neighbour.until_runs("arm", 1)
    event = await kube.event(case.who[1], case.reason)
    assert (event["type"], event["message"]) == ("Warning", found["message"])
    await edit(kube, JOBS, "bad", instead(case.cure))
    await kube.until(*case.who, lambda one: condition(one, "Stalled") == "", 60)
    assert len(await told(kube, case.who, case.reason)) == 1


async def test_a_learner_that_refused_is_not_started_again_until_somebody_asks_for_it(
    operator: Operator, kube: Kube
) -> None:
    await kube.create(JOBS, training_job("bad", **learner(REFUSES)))
    await stalled(kube, JOB, "LearnerRefused")
    run = await kube.until(
        BATCH,
        "bad-learner-1",
        lambda job: any(one["type"] == "Failed" for one in job["status"].get("conditions", [])),
    )
    assert run["metadata"]["annotations"][names.Label.REFUSAL] == "no such algorithm."
    await kube.delete(BATCH, "bad-learner-1", propagationPolicy="Foreground")
    await kube.until(BATCH, "bad-learner-2", lambda _: True)
    await stalled(kube, JOB, "LearnerRefused")


async def test_a_real_learner_names_what_it_does_not_know(operator: Operator, kube: Kube) -> None:
    job = training_job("bad", algorithm={"name": "hg-daggr"})
    del job["spec"]["learner"]
    await kube.create(JOBS, job)
    found = await stalled(kube, JOB, "LearnerRefused", SLOW)
    assert (
        "spec.algorithm.name: there is no 'hg-daggr'; did you mean hg-dagger?" in found["message"]
    )


async def test_a_real_learner_names_the_file_of_a_dataset_that_is_wrong(
    operator: Operator, kube: Kube, tmp_path: Path
) -> None:
    truncated = shutil.copytree(LEROBOT, tmp_path / "cubes")
    data = truncated / "data" / "chunk-000" / "file-000.parquet"
    data.write_bytes(data.read_bytes()[:-9])
    job = training_job("bad", offline={"datasets": [{"uri": f"file://{truncated}"}]})
    del job["spec"]["learner"]
    await kube.create(JOBS, job)
    found = await stalled(kube, JOB, "LearnerRefused", SLOW)
    assert f"spec.offline.datasets.0.uri: file://{data} is no whole Parquet" in found["message"]


async def test_a_robot_waits_for_a_job_that_is_not_there_and_goes_on_when_it_is(
    operator: Operator, kube: Kube
) -> None:
    await enroll(kube, "later", "arm")
    found = await stalled(kube, (ROBOTS, "arm"), "JobNotFound")
    assert "no FleetTrainingJob later in this namespace: apply it" in found["message"]
    await kube.create(JOBS, training_job("later"))
    await kube.until(ROBOTS, "arm", lambda one: condition(one, "Stalled") == "")


# What is not ours is not watched: only a resync finds it gone.
@pytest.mark.parametrize("operator", [{"FLEET_RESYNC_SECONDS": "3"}], indirect=True, ids=["often"])
async def test_what_somebody_else_made_under_our_names_is_left_alone_and_told(
    operator: Operator, kube: Kube
) -> None:
    """A robot of another job under a simulated one's name; then a pod under its pod's."""
    await enroll(kube, "other", "bad-sim-0")
    theirs = await kube.run("bad-sim-0-robot", "sleep", "1000")
    await kube.create(JOBS, training_job("bad", **robot(IDLE)))
    found = await stalled(kube, JOB, "NameTaken")
    assert found["message"].startswith("RobotActor bad-sim-0 is there and belongs to somebody else")
    await kube.delete(ROBOTS, "bad-sim-0")
    await kube.until(JOBS, "bad", lambda one: condition(one, "Stalled") == "")
    found = await stalled(kube, ROBOT, "NameTaken")
    assert found["message"].startswith("Pod bad-sim-0-robot is there and belongs to somebody else")
    assert (await kube.get("pods", "bad-sim-0-robot"))["metadata"] == theirs["metadata"] | {
        "resourceVersion": ANY,
        "managedFields": ANY,
        "generation": ANY,
    }
    await kube.delete("pods", "bad-sim-0-robot", gracePeriodSeconds=0)
    ours = await kube.until("pods", "bad-sim-0-robot", is_of("bad-sim-0"), 60)
    assert ours["metadata"]["uid"] != theirs["metadata"]["uid"]
    await kube.until(*ROBOT, lambda one: condition(one, "Stalled") == "")


def is_of(name: str) -> Callable[[Json], bool]:
    return lambda pod: pod["metadata"].get("labels", {}).get(names.Label.ROBOT) == name


async def test_a_store_that_is_away_is_told_in_the_learners_words_and_goes_when_it_is_back(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job("bad"))
    async with Fleet.of(kube, cluster.nats_url, "bad", []) as fleet:

        async def beat(epoch: int, fault: str) -> None:
            said = LearnerHeartbeat(
                job_uid=fleet.job_uid,
                epoch=epoch,
                stage=LearnerStage.STARTING,
                step=0,
                fault=fault,
                at=0.0,
            )
            subject = names.learner_heartbeat_subject(kube.namespace, "bad")
            await fleet.client.publish(subject, said.encode())

        await fleet.until(lambda job: condition(job, "Ready") == "True")
        await beat(0, "The store does not do its work: make the bucket.")
        await fleet.until(lambda job: condition(job, "Reconciling") == "True")
        found = await stalled(kube, JOB, "StorageFailed", 15)
        assert found["message"] == "The store does not do its work: make the bucket."
        await beat(1, "")
        await fleet.until(lambda job: condition(job, "Ready") == "True")
    assert condition(await kube.get(JOBS, "bad"), "StorageFailing") == ""


async def test_tasks_that_no_dataset_shows_are_told_beside_the_learner_at_work(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job("bad"))
    async with Fleet.of(kube, cluster.nats_url, "bad", []) as fleet:
        await fleet.until(lambda job: condition(job, "Ready") == "True")
        said = LearnerHeartbeat(
            job_uid=fleet.job_uid,
            epoch=1,
            stage=LearnerStage.ONLINE,
            step=0,
            undemonstrated=["reach", "a task of nobody's"],
            at=0.0,
        )
        subject = names.learner_heartbeat_subject(kube.namespace, "bad")
        await fleet.client.publish(subject, said.encode())
        told = await fleet.until(lambda job: bool(job["status"]["learner"]["undemonstrated"]))
    assert told["status"]["learner"]["undemonstrated"] == ["reach"]
    found = next(one for one in told["status"]["conditions"] if one["type"] == "LearnerReady")
    assert "Its datasets show nothing of reach that it can learn from" in found["message"]


async def test_a_version_that_a_robot_cannot_load_is_taken_back(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job("bad"))
    await enroll(kube, "bad", "arm")
    async with Fleet.of(kube, cluster.nats_url, "bad", ["arm"]) as fleet:
        await fleet.announce(1)
        await fleet.until_runs("arm", 1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 1)
        fleet.refusing = {2: "bundle lacks ['model.safetensors']"}
        await fleet.announce(2)
        job = await fleet.until(lambda job: job["status"]["rolledBack"] == [2])
        assert "would not take it: bundle lacks" in job["status"]["rollout"]["message"]
        version = await kube.until(
            VERSIONS, "bad-v2", lambda v: v["status"].get("phase") == "RolledBack"
        )
        assert "PolicyRefused" in {one["reason"] for one in version["status"]["conditions"]}
        await fleet.announce(3)
        await fleet.until_runs("arm", 3)


async def test_a_retained_version_keeps_its_name_until_somebody_deletes_it(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job("bad", deletionPolicy="Retain"))
    async with Fleet.of(kube, cluster.nats_url, "bad", []) as fleet:
        await fleet.announce(1)
        await kube.until(VERSIONS, "bad-v1", lambda _: True)
    await kube.delete(JOBS, "bad")
    await kube.until_gone(JOBS, "bad")
    await kube.create(JOBS, training_job("bad", deletionPolicy="Retain"))
    async with Fleet.of(kube, cluster.nats_url, "bad", []) as fleet:
        await fleet.announce(1)
        found = await stalled(kube, JOB, "ApplyRefused")
        assert (
            "PolicyVersion bad-v1 of an earlier job of this name was retained: delete it"
            in (found["message"])
        )
        await kube.delete(VERSIONS, "bad-v1")
        await fleet.until(lambda job: condition(job, "Stalled") == "", 60)
        await kube.until(VERSIONS, "bad-v1", lambda v: v["status"].get("phase") == "Promoted")


class Away(Fault):
    """A webhook for Jobs, as Kueue's, of which nobody answers while it is ``away``."""

    away = False

    async def before(self, call: Call) -> Answer | None:
        if self.away and (call.verb, call.resource) == ("create", "jobs"):
            return refusal(500, "InternalError", "failed calling webhook mjob.kb.io")
        return None


async def test_a_learner_that_cannot_be_made_holds_up_no_rollback(
    kinds: None, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    """Of a spec that the API server will never take, and of one that it cannot take now."""
    rollout = {"steps": [{"robots": 1, "minEpisodes": 9}]}
    await kube.create(JOBS, training_job("bad", rollout=rollout))
    await enroll(kube, "bad", "arm", "leg")
    async with ApiProxy.before(cluster, tmp_path / "kubeconfig") as proxy:
        proxy.fault = webhook = Away()
        kubeconfig = str(tmp_path / "kubeconfig")
        operator = await Operator(cluster, kube.namespace, KUBECONFIG=kubeconfig).start()
        try:
            async with Fleet.of(kube, cluster.nats_url, "bad", ["arm", "leg"]) as fleet:

                async def tries(sequence: int) -> str:
                    await fleet.announce(sequence)
                    job = await fleet.until(
                        lambda job: candidate(job) == sequence and bool(trial(job))
                    )
                    (robot,) = trial(job)
                    await fleet.until_runs(robot, sequence)
                    return robot

                async def taken_back(robot: str, *versions: int) -> None:
                    await press(kube, "bad", f"abort@{versions[-1]}#1")
                    await fleet.until(lambda job: job["status"]["rolledBack"] == [*versions])
                    await fleet.until_runs(robot, 1)

                await fleet.announce(1)
                await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
                robot = await tries(2)
                sizes = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
                await edit(kube, JOBS, "bad", instead(learner(IDLE, resources=sizes)))
                found = await stalled(kube, JOB, "ApplyRefused")
                assert "must be less than or equal to memory limit" in found["message"]
                await taken_back(robot, 2)
                webhook.away = True
                await edit(kube, JOBS, "bad", instead(learner(IDLE)))
                await fleet.until(lambda job: "webhook mjob.kb.io" in message(job))
                await taken_back(await tries(3), 2, 3)
                webhook.away = False
                await fleet.until(lambda job: condition(job, "Ready") == "True")
        finally:
            await operator.stop()


def message(job: Json) -> str:
    """What is said of its way."""
    conditions = job["status"].get("conditions", [])
    return next((str(one["message"]) for one in conditions if one["type"] == "Reconciling"), "")
