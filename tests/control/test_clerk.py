"""Who lets robots into the store: when there is one, which, and what robots do not hold."""

from typing import Any

import pytest

from fleet_contract.names import Label
from fleet_contract.resources import FleetTrainingJob, RobotActor
from fleet_operator.decide.clerk import ClerkPlan, plan
from fleet_operator.decide.learner import Run
from fleet_operator.decide.pod import End, Pod
from fleet_operator.desired import clerk, pods, robots
from fleet_operator.desired.transport import Transport, resolve
from fleet_operator.settings import Settings

ROBOT = RobotActor.model_validate(
    {"metadata": {"name": "job-sim-0", "namespace": "ns", "uid": "r"}, "spec": {"job": "job"}}
)
GOOD = Run("job-clerk", "1", 0, "hash")
CRASHED = End(1, message="no such host")


def job(url: str = "s3://bucket", **learner: Any) -> FleetTrainingJob:
    storage = {"url": url, "secretRef": {"name": "store"}}
    spec = {"tasks": [{"name": "t"}], "transport": {"storage": storage}, "learner": learner}
    metadata = {"name": "job", "namespace": "ns", "uid": "uid"}
    return FleetTrainingJob.model_validate({"metadata": metadata, "spec": spec})


def to(job: FleetTrainingJob, **settings: Any) -> Transport:
    return resolve(job, Settings(**settings))


@pytest.mark.parametrize(
    ("wanted", "runs", "expected"),
    [
        pytest.param(False, [], ClerkPlan(), id="not wanted"),
        pytest.param(True, [], ClerkPlan(create=True), id="missing"),
        pytest.param(True, [GOOD], ClerkPlan(), id="as it should be"),
        pytest.param(False, [GOOD], ClerkPlan(delete=(GOOD,)), id="no longer wanted"),
        pytest.param(
            True,
            [GOOD._replace(hash="old")],
            ClerkPlan(delete=(GOOD._replace(hash="old"),)),
            id="another store",
        ),
        pytest.param(
            True,
            [GOOD._replace(failed="it failed")],
            ClerkPlan(delete=(GOOD._replace(failed="it failed"),)),
            id="ended",
        ),
        pytest.param(True, [GOOD._replace(hash="old", deleting=True)], ClerkPlan(), id="going"),
        pytest.param(True, [GOOD._replace(ours=False)], ClerkPlan(), id="a namesake's, going"),
    ],
)
def test_there_is_one_where_the_store_asks_for_it(
    wanted: bool, runs: list[Run], expected: ClerkPlan
) -> None:
    assert plan(wanted=wanted, hash_="hash", runs=runs, pods=[]) == expected


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (Pod("p", "1", "Running"), ""),
        (Pod("p", "1", waiting="ContainerCreating"), ""),
        (Pod("p", "1", "Running", waiting="CrashLoopBackOff", last=CRASHED), "no such host"),
        (Pod("p", "1", waiting="ImagePullBackOff", image="mine:1"), "cannot pull image mine:1"),
    ],
)
def test_one_that_does_not_work_is_told_of(pod: Pod, said: str) -> None:
    found = plan(wanted=True, hash_="hash", runs=[GOOD], pods=[pod]).fault
    assert said in found
    assert bool(found) == bool(said)
    assert plan(wanted=False, hash_="hash", runs=[], pods=[pod]).fault == ""


@pytest.mark.parametrize(
    ("url", "held"),
    [("s3://bucket/x", False), ("s3a://bucket", False), ("gs://bucket", True), ("file:///x", True)],
)
def test_a_robots_pod_holds_no_key_of_a_store_that_grants(url: str, held: bool) -> None:
    pod = robots.robot_pod(job(url), ROBOT, to(job(url)))
    (container,) = pod["spec"]["containers"]
    assert ("store" in str(pod["spec"])) == ("envFrom" in container) == held
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert told.get("FLEET_STORAGE_GRANTS") == (None if held else "true")
    assert not [name for name in told if name.startswith("AWS_")]
    assert to(job(url)).grants != held


def test_a_pod_of_before_grants_is_not_made_anew_by_an_operator_that_knows_them() -> None:
    before = robots.template_hash(job(), ROBOT, to(job()))
    assert before == robots.template_hash(job(), ROBOT, to(job())._replace(log_format="json"))
    assert before == "074736801beae77e"  # as it was before there were grants


def test_the_clerk_comes_to_the_store_as_the_learner_does() -> None:
    mine = {
        "serviceAccountName": "store-reader",
        "nodeSelector": {"gpu": "yes"},
        "containers": [
            {"name": "learner", "env": [{"name": "AWS_CA_BUNDLE", "value": "/ca"}], "image": "x"},
            {"name": "sidecar", "image": "y"},
        ],
    }
    asked = job(image="mine:1", podOverrides=mine, resources={"limits": {"nvidia.com/gpu": "1"}})
    made = clerk.clerk_job(asked, to(asked))
    assert made["metadata"]["name"] == "job-clerk"
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["name"], container["image"]) == ("clerk", "mine:1")
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert told["AWS_CA_BUNDLE"] == "/ca"
    assert "FLEET_SPEC" not in told
    assert container["resources"]["limits"] == {}
    assert (pod["serviceAccountName"], "nodeSelector" in pod) == ("store-reader", False)
    hashes = {
        clerk.template_hash(one, to(one))
        for one in (job(), asked, job(image="mine:1"), job("s3://other"))
    }
    assert len(hashes) == 4
    assert made["metadata"]["annotations"][Label.TEMPLATE_HASH] in hashes


@pytest.mark.parametrize("written", [None, "learner", {"name": "learner"}, ["learner"], [None]])
def test_containers_that_are_none_are_left_to_the_api_server_to_refuse(written: Any) -> None:
    """It names the field; nothing of ours may fall over it before."""
    assert clerk.overrides(job(podOverrides={"containers": written})) == {}


@pytest.mark.parametrize("name", [None, {}, []])
def test_what_has_no_name_that_is_one_is_added_as_it_is(name: Any) -> None:
    base, over = [{"name": "a", "image": "one"}], [{"name": name, "image": "two"}]
    assert pods.merge(base, over) == base + over
