"""What the real apiserver refuses, and the words people then read."""

from typing import Any

import pytest

from contract.conftest import Kubectl
from contract.objects import DIGEST, but, job, robot, version

STEPS = "spec.rollout.steps"
GATE = "spec.rollout.gates.simulation"

REFUSED = {
    # sentence: (object, what kubectl says)
    "a training job without a spec": (
        {key: value for key, value in job().items() if key != "spec"},
        "spec: Required value",
    ),
    "a job without tasks": (but(job(), "spec.tasks", []), "spec.tasks: Invalid value: 0"),
    "a task without a name": (but(job(), "spec.tasks", [{}]), "spec.tasks[0].name: Required value"),
    "two tasks of one name": (
        but(job(), "spec.tasks", [{"name": "reach"}, {"name": "reach"}]),
        'spec.tasks[1]: Duplicate value: {"name":"reach"}',
    ),
    "a negative weight": (
        but(job(), "spec.tasks", [{"name": "reach", "weight": -1}]),
        "spec.tasks[0].weight in body should be greater than or equal to 0",
    ),
    "tasks that all weigh nothing": (
        but(job(), "spec.tasks", [{"name": "reach", "weight": 0}]),
        "at least one task needs a weight above 0",
    ),
    "a task name with a dot": (
        but(job(), "spec.tasks", [{"name": "a.b"}]),
        "spec.tasks[0].name: Invalid value",
    ),
    "a word where a number belongs": (
        but(job(), "spec.robots.simulated.replicas", "four"),
        "spec.robots.simulated.replicas in body must be of type integer",
    ),
    "a negative number of robots": (
        but(job(), "spec.robots.simulated.replicas", -1),
        "should be greater than or equal to 0",
    ),
    "a batch that ranks cannot share alike": (
        but(job(), "spec.learner", {"replicas": 3, "batchSize": 256}),
        "batchSize must be a multiple of replicas",
    ),
    "a fleet above the bound": (
        but(job(), "spec.robots.simulated.replicas", 10_001),
        "should be less than or equal to 10000",
    ),
    "a time that stands still": (
        but(job(), "spec.robots.simulated.timeScale", 0),
        "spec.robots.simulated.timeScale in body should be greater than 0",
    ),
    "a strategy nobody knows": (
        but(job(), "spec.rollout.strategy", "Canary"),
        'Unsupported value: "Canary": supported values: "Broadcast", "Staged"',
    ),
    "an approval nobody knows": (
        but(job(), "spec.rollout.approval", "Sometimes"),
        'Unsupported value: "Sometimes": supported values: "Never", "First", "Always"',
    ),
    "a window whose schedule is a word": (
        but(job(), "spec.rollout.windows", [{"schedule": "nightly", "duration": "6h"}]),
        "spec.rollout.windows[0].schedule in body should match",
    ),
    "a deadline without a unit": (
        but(job(), STEPS, [{"robots": 1, "deadline": "60"}]),
        "spec.rollout.steps[0].deadline in body should match",
    ),
    "a field nobody knows": (but(job(), "spec.rolout", {}), 'unknown field "spec.rolout"'),
    "a field in Python's spelling": (
        but(job(), STEPS, [{"robots": 1, "min_episodes": 3}]),
        'unknown field "spec.rollout.steps[0].min_episodes"',
    ),
    "a gate's task that the job does not have": (
        but(job(), GATE, {"tasks": ["fly"]}),
        f"{GATE}.tasks: Invalid value: each must be the name of one of the job's tasks",
    ),
    "a gate's task that stands there twice": (
        but(job(), GATE, {"tasks": ["reach", "reach"]}),
        f'{GATE}.tasks[1]: Duplicate value: "reach"',
    ),
    "a gate of no episodes": (
        but(job(), GATE, {"episodes": 0}),
        f"{GATE}.episodes in body should be greater than or equal to 1",
    ),
    "a gate that is only switched on": (
        but(job(), GATE, True),
        f"{GATE} in body must be of type object",
    ),
    "a step with both robots and percent": (
        but(job(), STEPS, [{"robots": 1, "percent": 50}]),
        "a step takes exactly one of robots and percent",
    ),
    "a step with neither robots nor percent": (
        but(job(), STEPS, [{"minEpisodes": 3}]),
        "a step takes exactly one of robots and percent",
    ),
    "a staged rollout without steps": (but(job(), STEPS, []), f"{STEPS} in body should have at"),
    "a shadow gate with both robots and percent": (
        but(job(), "spec.rollout.gates", {"shadow": {"robots": 1, "percent": 50}}),
        "a shadow takes robots or percent, not both",
    ),
    "a shadow gate that any version passes": (
        but(job(), "spec.rollout.gates", {"shadow": {"maxDisagreement": 3}}),
        "should be less than or equal to 2",
    ),
    "a percentage above the whole": (
        but(job(), STEPS, [{"percent": 101}]),
        "should be less than or equal to 100",
    ),
    "a soak without a unit": (
        but(job(), STEPS, [{"robots": 1, "soak": "30"}]),
        f"{STEPS}[0].soak: Invalid value",
    ),
    "mode Pinned without a version": (
        but(job(), "spec.rollout.mode", "Pinned"),
        "mode Pinned needs pinnedVersion, the sequence to hold",
    ),
    "an online share below itself": (
        but(job(), "spec.sampler", {"minOnline": 0.9, "maxOnline": 0.1}),
        "minOnline must not be greater than maxOnline",
    ),
    "an amount of memory in nobody's unit": (
        but(job(), "spec.learner.resources.requests", {"memory": "2 gigabytes"}),
        "spec.learner.resources.requests.memory: Invalid value",
    ),
    "a job name with a dot": (job("a.b"), "metadata.name is a token of NATS subjects"),
    "a job name too long for its robots": (
        job("a" * 31),
        "metadata.name of a FleetTrainingJob has at most 30 characters",
    ),
    "a robot name with a dot": (robot("a.b"), "metadata.name is a token of NATS subjects"),
    "a robot name too long for its pod": (
        robot("a" * 41),
        "metadata.name of a RobotActor has at most 40 characters",
    ),
    "a robot without a job": (but(robot(), "spec", {}), "spec.job: Required value"),
    "a robot of a mode nobody knows": (
        but(robot(), "spec.mode", "Real"),
        'supported values: "Simulated", "External"',
    ),
    "a robot pinned to no version": (but(robot(), "spec.pin", 0), "greater than or equal to 1"),
    "a group that is no label": (but(robot(), "spec.groups", ["a b"]), "spec.groups[0]"),
    "a version with a digest of another kind": (
        but(version(), "spec.digest", "md5:0"),
        "spec.digest: Invalid value",
    ),
    "a version without lineage": (
        but(version(), "spec.lineage", None),
        "spec.lineage: Required value",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_the_apiserver_refuses(sentence: str, kubectl: Kubectl) -> None:
    item, words = REFUSED[sentence]
    assert words in kubectl.refusal("create", "--dry-run=server", item=item)


@pytest.mark.parametrize("item", [job(), robot(), version()], ids=lambda item: item["kind"])
def test_the_object_each_of_them_spoils_is_good(item: dict[str, Any], kubectl: Kubectl) -> None:
    kubectl("create", "--dry-run=server", item=item)


IMMUTABLE = {
    "the network": (job("fixed-net"), "spec.policy.architecture", "mlp", "policy is immutable"),
    "a parameter of the network": (
        but(job("fixed-width"), "spec.policy.parameters", {"hidden": [64]}),
        "spec.policy.parameters",
        {"hidden": [65]},
        "policy is immutable",
    ),
    "the store": (job("fixed-store"), "spec.transport.storage.url", "s3://x", "apply a new job"),
    "a robot's job": (robot("fixed-job"), "spec.job", "other", "job is immutable"),
    "a robot's mode": (robot("fixed-mode"), "spec.mode", "Simulated", "mode is immutable"),
    "a version's digest": (
        version("fixed-v1"),
        "spec.digest",
        DIGEST.replace("0", "1"),
        "a PolicyVersion is immutable",
    ),
    "a version's metrics": (
        but(version("fixed-v2"), "spec.trainingMetrics", {"loss": 0.5}),
        "spec.trainingMetrics",
        {"loss": 0.25},
        "a PolicyVersion is immutable",
    ),
}


@pytest.mark.parametrize("sentence", IMMUTABLE)
def test_what_is_immutable_stays(sentence: str, kubectl: Kubectl) -> None:
    item, path, value, words = IMMUTABLE[sentence]
    made = kubectl.create(item)
    assert words in kubectl.refusal("replace", item=but(made, path, value))


def test_an_edit_that_changes_nothing_immutable_is_taken(kubectl: Kubectl) -> None:
    made = kubectl.create(but(job("edited"), "spec.policy.parameters", {"hidden": 64}))
    kubectl("replace", item=but(made, "spec.suspend", True))
    assert kubectl.get("ftj", "edited")["spec"]["suspend"] is True


def test_the_secret_of_a_store_may_be_exchanged(kubectl: Kubectl) -> None:
    made = kubectl.create(but(job("renewed"), "spec.transport.storage.url", "s3://x"))
    kubectl("replace", item=but(made, "spec.transport.storage.secretRef.name", "store-2"))
    kept = kubectl.get("ftj", "renewed")["spec"]["transport"]["storage"]
    assert kept == {"url": "s3://x", "secretRef": {"name": "store-2"}}
