"""Every pod that we start or tell people to start, before a real admission controller."""

import copy
from collections.abc import Callable, Iterator

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import ApiError, Json
from fleet_contract.names import Gate
from fleet_contract.resources import FleetTrainingJob, GateStatus, RobotActor, VersionRef
from fleet_contract.resources.learning import Resources
from fleet_operator.desired import clerk, learner, pods, robots, simulation
from fleet_operator.desired.transport import Transport
from helpers.audit import documents
from helpers.kube import Kube
from helpers.manifests import MANIFESTS, RENDERINGS, rendered
from helpers.manifests import pods as pods_of

TO = Transport("nats://nats:4222", "s3://fleet", "learner", "robot", "storage")
TOKEN = "fleetloop-operator"


def made() -> Iterator[Json]:
    """What the operator starts, in each of its forms."""
    spec = {
        "tasks": [{"name": "reach"}],
        "learner": {"replicas": 2},
        "rollout": {"gates": {"simulation": {}}},
    }
    at = {"name": "job", "namespace": "ns", "uid": "uid"}
    job = FleetTrainingJob.model_validate({"metadata": at, "spec": spec})
    robot = RobotActor.model_validate(
        {"metadata": at | {"name": "job-sim-0"}, "spec": {"job": "job"}}
    )
    gate = job.spec.rollout.gates.simulation
    assert gate is not None
    of = VersionRef(name="job-v1", sequence=1, digest="sha256:" + 64 * "0", uri="versions/1")
    for to in (TO, TO._replace(storage_secret="")):
        suffix = "" if to.storage_secret else "-open"
        for one in (
            learner.learner_job(job, 1, to),
            simulation.gate_job(job, gate, GateStatus(name=Gate.SIMULATION, run=1), of, to),
            robots.robot_pod(job, robot, to),
            clerk.clerk_job(job, to),
        ):
            one["metadata"]["name"] += suffix
            yield from pods_of([one])


@pytest.fixture(scope="module")
def every(cluster: LocalCluster) -> dict[str, Json]:
    """All of them by name."""
    found = list(made())
    for name in RENDERINGS:
        found += pods_of(rendered(cluster.kubectl, MANIFESTS / "overlays" / name))
    for path in sorted((MANIFESTS / "samples").glob("*.yaml")):
        found += pods_of(documents(path))
    return {one["metadata"]["name"]: one for one in found}


async def submit(kube: Kube, pod: Json) -> None:
    path = kube.path("pods") + "?dryRun=All&fieldValidation=Strict"
    await kube.api.create(path, {"apiVersion": "v1", "kind": "Pod", **pod})


async def test_each_is_admitted_where_only_restricted_pods_are(
    kube: Kube, every: dict[str, Json]
) -> None:
    assert len(every) == 12, sorted(every)
    await kube.create("serviceaccounts", {"metadata": {"name": TOKEN}})
    await restrict(kube)
    for pod in every.values():
        await submit(kube, pod)
        bold = copy.deepcopy(pod)
        bold["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(ApiError, match='violates PodSecurity "restricted:latest"'):
            await submit(kube, bold)


async def restrict(kube: Kube) -> None:
    namespace = f"/api/v1/namespaces/{kube.namespace}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.api.patch(namespace, {"metadata": {"labels": labels}})


def containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def bounded_disk(pod: Json) -> bool:
    """Writes only to volumes made for it."""
    return all(one["securityContext"].get("readOnlyRootFilesystem") for one in containers(pod))


def tokenless(pod: Json) -> bool:
    """None but the operator speaks to the API server."""
    speaks = pod["spec"].get("serviceAccountName") == TOKEN
    return speaks or pod["spec"].get("automountServiceAccountToken") is False


def sized(pod: Json) -> bool:
    wanted = {"cpu", "memory"}
    return all(wanted <= one["resources"].get("requests", {}).keys() for one in containers(pod))


def unlinked(pod: Json) -> bool:
    """Other services' addresses are not in its variables."""
    return pod["spec"].get("enableServiceLinks") is False


RULES = [bounded_disk, tokenless, sized, unlinked]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_keeps_what_we_ask_beyond_the_standard(
    every: dict[str, Json], rule: Callable[[Json], bool]
) -> None:
    assert [name for name, pod in every.items() if not rule(pod)] == []
    assert not rule({"spec": {"containers": [{"securityContext": {}, "resources": {}}]}})


def test_a_policy_of_the_network_is_for_each_pod_that_stays(
    cluster: LocalCluster, every: dict[str, Json]
) -> None:
    """Nobody calls a robot or a gate, so whatever selects one lets nothing in."""
    policies = [
        item
        for item in rendered(cluster.kubectl, MANIFESTS / "overlays" / "kind")
        if item["kind"] == "NetworkPolicy"
    ]
    for name, pod in every.items():
        if name == "job-demonstrations":  # a person's own, which calls and is not called
            continue
        mine = [one["spec"] for one in policies if selects(one["spec"]["podSelector"], pod)]
        assert mine, name
        assert all({"Ingress", "Egress"} == set(one["policyTypes"]) for one in mine), name
        if pod["metadata"]["labels"].get("fleetloop.dev/role") in {"robot", "gate"}:
            assert not any(one.get("ingress") for one in mine)


def selects(selector: Json, pod: Json) -> bool:
    labels = pod["metadata"]["labels"]
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {"cpu": "100m", "memory": "640Mi"}),
        ({"requests": {"cpu": "4"}}, {"cpu": "4", "memory": "640Mi"}),
        ({"limits": {"memory": "512Mi"}}, {"cpu": "100m"}),
        ({"limits": {"nvidia.com/gpu": "1"}}, {"cpu": "100m", "memory": "640Mi"}),
    ],
)
def test_what_nobody_sized_asks_for_a_little(said: Json, expected: Json) -> None:
    spec = pods.pod_spec(
        name="x",
        image="x",
        command=[],
        env=[],
        resources=Resources.model_validate(said),
        overrides={},
        grace=1,
        restart="Never",
        to=Transport("", "", "", ""),
        user="",
    )
    assert spec["containers"][0]["resources"]["requests"] == expected
