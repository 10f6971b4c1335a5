"""The one document: its numbers, and what robots read in it."""

import json

from fleet_contract import names
from fleet_contract.messages import Assignment, AssignmentState, digest_of
from fleet_contract.resources import (
    FleetTrainingJobStatus,
    Rollout,
    RolloutMode,
    RolloutStatus,
    VersionRef,
)
from fleet_contract.resources.job_status import AssignmentStatus
from fleet_operator.decide.assignment import (
    LIFETIME,
    RENEW_BEFORE,
    Content,
    content,
    next_document,
)
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.rollout import State

NOW = 1_800_000_000.0


def version(sequence: int) -> VersionRef:
    digest = digest_of(str(sequence).encode())
    return VersionRef(name=f"v{sequence}", sequence=sequence, digest=digest, uri="u")


VERSIONS = {sequence: version(sequence) for sequence in range(1, 6)}
STABLE = State(stable=version(1), last_sequence=1)


def runs(found: Content, robot: str) -> int:
    document = next_document(found, None, AssignmentStatus(), "uid", NOW)
    assert document is not None
    policy = document.policy_for(robot)
    assert policy is not None
    return policy.sequence


def test_a_pin_of_a_robot_wins_over_everything() -> None:
    trial = STABLE._replace(rollout=RolloutStatus(candidate=version(2), robots=["b"]))
    fleet = [Robot("a", pin=3), Robot("b"), Robot("c")]
    found = content(Rollout(), trial, fleet, VERSIONS)
    assert [runs(found, robot) for robot in "abc"] == [3, 2, 1]


def test_a_pinned_fleet_runs_the_pin_even_when_it_was_taken_back() -> None:
    spec = Rollout(mode=RolloutMode.PINNED, pinned_version=4)
    back = STABLE._replace(rolled_back=(4, 5))
    found = content(spec, back, [Robot("a"), Robot("b", pin=5)], VERSIONS)
    assert [runs(found, robot) for robot in "ab"] == [4, 5]
    assert content(Rollout(), back, [], VERSIONS).denied == (version(5).digest, version(4).digest)


def test_a_pin_on_an_unknown_version_gives_the_stable_one() -> None:
    spec = Rollout(mode=RolloutMode.PINNED, pinned_version=99)
    assert runs(content(spec, STABLE, [Robot("a", pin=98)], VERSIONS), "a") == 1


def test_a_paused_fleet_is_frozen() -> None:
    found = content(Rollout(paused=True), STABLE, [], VERSIONS)
    assert found.state is AssignmentState.FROZEN


def test_the_same_content_is_not_published_again_until_its_end_is_near() -> None:
    found = content(Rollout(), STABLE, [], VERSIONS)
    first = next_document(found, None, AssignmentStatus(), "uid", NOW)
    assert first is not None
    status = AssignmentStatus(epoch=first.epoch)
    assert next_document(found, first, status, "uid", NOW + 60) is None
    late = NOW + LIFETIME - RENEW_BEFORE + 1
    renewed = next_document(found, first, status, "uid", late)
    assert renewed is not None
    assert renewed.epoch == first.epoch + 1


def test_epochs_outlive_a_lost_broker_and_a_job_applied_anew() -> None:
    found = content(Rollout(), STABLE, [], VERSIONS)
    lost = next_document(found, None, AssignmentStatus(epoch=41, generation=2), "uid", NOW)
    assert lost is not None
    assert (lost.epoch, lost.generation) == (42, 2)
    old = Assignment(job_uid="uid", epoch=50, issued_at_ms=0, expires_at_ms=0)
    anew = next_document(found, old, AssignmentStatus(), "uid", NOW)
    assert anew is not None
    assert anew.epoch == 51


def test_nothing_is_published_before_there_is_something_to_assign() -> None:
    assert (
        next_document(content(Rollout(), State(), [], {}), None, AssignmentStatus(), "u", 0) is None
    )


def test_a_stage_of_twenty_thousand_robots_fits_where_its_names_are_kept() -> None:
    """NATS takes messages of 1 MiB, etcd objects of 1.5 MiB, unless somebody raises that."""
    robots = [f"{at:0{names.NAME_MAX}d}" for at in range(20_000)]
    trial = STABLE._replace(rollout=RolloutStatus(candidate=version(2), robots=robots))
    found = content(Rollout(), trial, [Robot(name) for name in robots], VERSIONS)
    document = next_document(found, None, AssignmentStatus(), "uid", NOW)
    assert document is not None
    assert len(document.seal()) < 2**20
    status = FleetTrainingJobStatus(rollout=trial.rollout)
    assert len(json.dumps(status.dump())) < 1.5 * 2**20
