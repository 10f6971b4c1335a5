"""Which Secret opens the store for a job's pods, and what an edit of it leads to."""

from typing import Any

import pytest

from fleet_contract.resources import FleetTrainingJob, RobotActor
from fleet_operator.desired import learner, robots
from fleet_operator.desired.transport import Transport, resolve
from fleet_operator.settings import Settings

ROBOT = RobotActor.model_validate(
    {"metadata": {"name": "job-sim-0", "namespace": "ns", "uid": "r"}, "spec": {"job": "job"}}
)


def job(secret: str = "", **storage: Any) -> FleetTrainingJob:
    storage |= {"secretRef": {"name": secret}} if secret else {}
    spec = {"tasks": [{"name": "reach"}], "transport": {"storage": storage}}
    metadata = {"name": "job", "namespace": "ns", "uid": "uid"}
    return FleetTrainingJob.model_validate({"metadata": metadata, "spec": spec})


def containers(job: FleetTrainingJob, to: Transport) -> list[dict[str, Any]]:
    made = (learner.learner_job(job, 1, to)["spec"]["template"], robots.robot_pod(job, ROBOT, to))
    return [one["spec"]["containers"][0] for one in made]


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        ("own", "", "own"),
        ("own", "default", "own"),
        ("", "default", "default"),
        ("", "", None),
    ],
)
def test_a_job_uses_its_own_secret_before_the_operators(
    own: str, default: str, expected: str | None
) -> None:
    to = resolve(job(own), Settings(storage_secret=default))
    for container in containers(job(own), to):
        found = [one["secretRef"]["name"] for one in container.get("envFrom", [])]
        assert found == ([expected] if expected else [])


def test_another_secret_is_a_new_run_and_a_new_pod_for_every_robot() -> None:
    def hashes(secret: str) -> tuple[str, str]:
        to = resolve(job(secret), Settings())
        return learner.spec_hash(job(secret)), robots.template_hash(job(secret), ROBOT, to)

    first, second, none = hashes("first"), hashes("second"), hashes("")
    assert len({first[0], second[0], none[0]}) == len({first[1], second[1], none[1]}) == 3


def test_a_default_of_the_operators_restarts_no_learner() -> None:
    assert learner.spec_hash(job()) == learner.spec_hash(job(url="s3://bucket"))
