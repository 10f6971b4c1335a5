"""What the real apiserver makes of our kinds: defaults, status, scale, columns, explanations."""

import json
from pathlib import Path

import pytest

from contract.conftest import Kubectl
from contract.objects import DIGEST, but, job, robot, version
from fleet_contract.names import ConditionType, Kind
from fleet_contract.resources import (
    KINDS,
    Condition,
    FleetTrainingJob,
    FleetTrainingJobStatus,
    Resource,
    RolloutStatus,
    VersionRef,
)
from fleet_contract.resources.job_status import TaskStatus

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
KIND_OF = {str(resource.kind_name): resource for resource in KINDS}
READY = Condition(
    type=ConditionType.READY,
    status="True",
    reason="Ready",
    message="all is well",
    observed_generation=1,
    last_transition_time="2026-11-20T12:00:00Z",
)


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_is_accepted_and_says_what_it_shows(sample: Path, kubectl: Kubectl) -> None:
    assert sample.read_text().startswith("# ")
    kubectl("apply", "--server-side", "--dry-run=server", "-f", str(sample))


@pytest.mark.parametrize(
    "item", [job("fresh"), robot("fresh"), version("fresh-v1")], ids=lambda item: item["kind"]
)
def test_a_fresh_object_was_observed_by_nobody(item: dict[str, object], kubectl: Kubectl) -> None:
    assert kubectl.create(item)["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize("item", [job("filled"), robot("filled"), version("filled-v1")])
def test_the_apiserver_fills_in_the_defaults_of_the_models(
    item: dict[str, object], kubectl: Kubectl
) -> None:
    made = kubectl.create(item)
    kind: type[Resource] = KIND_OF[made["kind"]]
    ours, theirs = kind.model_validate(item).dump(), kind.model_validate(made).dump()
    assert theirs["spec"] == ours["spec"] == made["spec"]


def test_a_step_keeps_what_it_says_and_gets_the_rest(kubectl: Kubectl) -> None:
    made = kubectl.create(but(job("stepped"), "spec.rollout.steps", [{"percent": 50}]))
    assert made["spec"]["rollout"]["steps"] == [
        {
            "percent": 50,
            "selector": {"sites": [], "groups": []},
            "minEpisodes": 10,
            "soak": "0s",
            "onDeadline": "Freeze",
        }
    ]


def test_free_form_parameters_come_back_as_they_went(kubectl: Kubectl) -> None:
    parameters = {"lr": 0.001, "layers": [64, 64], "nested": {"on": True, "name": "x"}}
    made = kubectl.create(but(job("free"), "spec.algorithm.parameters", parameters))
    assert made["spec"]["algorithm"]["parameters"] == parameters


def test_a_quantity_needs_no_quotes(kubectl: Kubectl) -> None:
    requests = {"cpu": 2, "memory": "1.5Gi"}
    made = kubectl.create(but(job("amounts"), "spec.learner.resources.requests", requests))
    assert FleetTrainingJob.model_validate(made).spec.learner.resources.requests == requests


def _full_status() -> FleetTrainingJobStatus:
    reference = VersionRef(name="full-v7", sequence=7, digest=DIGEST, uri="jobs/x/versions/7.json")
    return FleetTrainingJobStatus(
        observed_generation=1,
        conditions=[READY],
        last_handled_request="promote@7#a1",
        phase="Training",
        replicas=2,
        selector="fleetloop.dev/job=full",
        stable=reference,
        rollout=RolloutStatus(candidate=reference, robots=["full-sim-0"], events_from=12),
        last_known_good=[reference],
        rolled_back=[3, 5],
        last_sequence=7,
        tasks=[TaskStatus(name="reach", episodes=20, success_rate="0.85")],
        success_rate="0.85",
        episodes=120,
    )


def test_a_status_comes_back_as_the_operator_wrote_it(kubectl: Kubectl) -> None:
    kubectl.create(job("full"))
    patch = json.dumps({"status": _full_status().dump()})
    kubectl("patch", "ftj", "full", "--subresource=status", "--type=merge", "-p", patch)
    found = FleetTrainingJob.model_validate(kubectl.get("ftj", "full"))
    assert found.status == _full_status()
    assert found.metadata.generation == 1


def test_two_conditions_of_one_type_are_refused(kubectl: Kubectl) -> None:
    kubectl.create(robot("twofold"))
    patch = json.dumps({"status": {"conditions": [READY.dump(), READY.dump()]}})
    words = ("patch", "ract", "twofold", "--subresource=status", "--type=merge", "-p", patch)
    assert 'status.conditions[1]: Duplicate value: {"type":"Ready"}' in kubectl.refusal(*words)


def test_status_does_not_travel_with_the_spec(kubectl: Kubectl) -> None:
    made = kubectl.create(but(robot("modest"), "status.phase", "Running"))
    assert made["status"] == {"observedGeneration": -1}


def test_kubectl_scale_sets_the_number_of_simulated_robots(kubectl: Kubectl) -> None:
    kubectl.create(job("scaled"))
    status = {"status": {"replicas": 1, "selector": "fleetloop.dev/job=scaled"}}
    patch = json.dumps(status)
    kubectl("patch", "ftj", "scaled", "--subresource=status", "--type=merge", "-p", patch)
    kubectl("scale", "ftj", "scaled", "--replicas=3")
    assert kubectl.get("ftj", "scaled")["spec"]["robots"]["simulated"]["replicas"] == 3
    scale = kubectl.get("ftj", "scaled", "--subresource=scale")
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "fleetloop.dev/job=scaled"}


def test_robots_are_found_by_their_job(kubectl: Kubectl) -> None:
    kubectl.create(but(robot("mine"), "spec.job", "owner"))
    kubectl.create(but(robot("theirs"), "spec.job", "stranger"))
    found = kubectl("get", "ract", "--field-selector=spec.job=owner", "-o", "name")
    assert found.split() == ["robotactor.fleetloop.dev/mine"]


@pytest.mark.parametrize(
    ("kind", "item", "columns"),
    [
        ("ftj", job("shown"), "NAME PHASE READY POLICY CANDIDATE ROBOTS SUCCESS AGE"),
        ("ract", robot("shown"), "NAME JOB MODE PHASE POLICY SUCCESS READY AGE"),
        ("polv", version("shown-v1"), "NAME JOB SEQUENCE STEP PHASE SUCCESS AGE"),
    ],
)
def test_kubectl_get_shows_what_people_ask_first(
    kind: str, item: dict[str, dict[str, str]], columns: str, kubectl: Kubectl
) -> None:
    kubectl.create(item)
    assert kubectl("get", kind, item["metadata"]["name"]).splitlines()[0].split() == columns.split()


def test_the_category_lists_all_kinds(kubectl: Kubectl) -> None:
    for item in (job("listed"), robot("listed"), version("listed-v1")):
        kubectl.create(item)
    listed = kubectl("get", "fleet", "-o", "name")
    for kind in Kind:
        assert f"{str(kind).lower()}.fleetloop.dev/listed" in listed


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("ftj.spec.rollout", "pinnedVersion\t<integer>"),
        ("ftj.spec.rollout.steps", "robots\t<integer>"),
        ("ftj.spec.rollout", "enum: Auto, Manual, Pinned"),
        ("ftj.spec.tasks", "name\t<string> -required-"),
        ("ract.spec", "job\t<string> -required-"),
        ("polv.status", "cohort\t<Object>"),
    ],
)
def test_kubectl_explain_is_the_reference(path: str, words: str, kubectl: Kubectl) -> None:
    assert words in kubectl("explain", path)


def test_the_kinds_are_applied_again_without_a_change(kubectl: Kubectl) -> None:
    folder = Path(__file__).parents[2] / "crds"
    before = kubectl("get", "crd", "-o", "jsonpath={.items[*].metadata.generation}")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(folder))
    assert kubectl("get", "crd", "-o", "jsonpath={.items[*].metadata.generation}") == before
