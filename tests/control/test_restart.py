"""What an operator that has just started does not know yet stays as its predecessor wrote it."""

import math
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from fleet_contract.messages import (
    Assignment,
    Event,
    EventKind,
    Fallback,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    Outcome,
    PolicyRef,
    RobotState,
    digest_of,
)
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Reason
from fleet_contract.resources import (
    Condition,
    FleetTrainingJob,
    FleetTrainingJobStatus,
    PolicyVersionSpec,
    RobotActor,
    VersionRef,
)
from fleet_contract.resources.job_status import AssignmentStatus, LearnerStatus, RobotsStatus
from fleet_contract.resources.policy_version import LineageSpec
from fleet_operator.decide import history, learner, robot_actor, training_job
from fleet_operator.decide.conditions import Finding, Told, holds, settle
from fleet_operator.decide.fleet import FleetPlan
from fleet_operator.decide.learner import LearnerPlan
from fleet_operator.decide.pod import Pod
from fleet_operator.decide.robot_actor import Seen
from fleet_operator.decide.rollout import State
from fleet_operator.feed import Feed
from fleet_operator.handlers.telling import event

NOW = 1_800_000_000.0
LATER = NOW + 60
OLD, NEW = (PolicyRef(sequence=n, digest=digest_of(str(n).encode()), uri=f"v/{n}") for n in (1, 2))
STOPPED = Fallback(policy=NEW, why="taken back by the guard")
TELLS: dict[str, dict[str, Any]] = {
    "it runs what it is assigned": {"active": NEW},
    "it has another version": {"active": OLD},
    "it has none yet": {"active": None},
    "its disk is full": {"active": NEW, "spool_fault": "2 episodes are lost: full."},
    "it did not believe the document": {"active": OLD, "document_fault": "nobody's key"},
    "… and has none": {"active": None, "document_fault": "nobody's key"},
    "it cannot fetch it": {"active": OLD, "policy_fault": "the store is away"},
    "it fell back": {"active": OLD, "fallback": STOPPED},
    "it rests": {"active": None, "fallback": STOPPED},
}
REFUSED = {"nothing was refused": ("", ""), "it refused": (NEW.digest, "no model.safetensors")}
ASSIGNED = {
    "a version is assigned": Assignment(
        job_uid="uid", epoch=1, issued_at_ms=0, expires_at_ms=1, default=NEW
    ),
    "none is": None,
}
UNHEARD: dict[str, Any] = {"connected": False, "settling": True, "beat": None}
UNREAD: dict[str, Any] = {
    "unread": True,
    "assignment": None,
    "refused": ("", ""),
    "success": None,
    "intervention": None,
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "neither heard nor read": UNHEARD | UNREAD,
    "heard, not read": UNREAD,
    "read, not heard": UNHEARD,
    "both": {},
}


def robot() -> RobotActor:
    metadata = {"name": "r1", "namespace": "ns", "uid": "r-uid", "generation": 1}
    return RobotActor.model_validate({"metadata": metadata, "spec": {"job": "job"}})


def seen(tells: str, refused: str, assigned: str) -> Seen:
    beat = Heartbeat(
        robot="r1",
        robot_uid="r-uid",
        job_uid="uid",
        state=RobotState.RUNNING,
        at=0.0,
        episodes=7,
        good=OLD,
        **TELLS[tells],
    )
    return Seen(
        job_exists=True,
        at_work=True,
        template_hash="h",
        pod=Pod("p", "u", "Running", hash="h", owner_uid="r-uid"),
        beat=beat,
        connected=True,
        assignment=ASSIGNED[assigned],
        success=0.5,
        intervention=0.25,
        refused=REFUSED[refused],
    )


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("case", list(product(TELLS, REFUSED, ASSIGNED)), ids=", ".join)
def test_a_robot_is_as_it_was_until_it_and_its_job_have_told(
    case: tuple[str, str, str], unknown: str
) -> None:
    found = seen(*case)
    for lasting in (0.0, 60.0):  # what does not end by itself is Stalled in the end
        known = robot().model_copy(update={"status": robot_actor.status(robot(), found, NOW)})
        before = robot_actor.status(known, found, NOW + lasting)
        known = known.model_copy(update={"status": before})
        after = robot_actor.status(known, found._replace(**UNKNOWN[unknown]), NOW + lasting)
        assert robot_actor.write_in(before, after, 1e9, robots=4) is None


def test_what_is_known_after_a_restart_is_told_at_once() -> None:
    found = seen("it runs what it is assigned", "nothing was refused", "a version is assigned")
    known = robot().model_copy(update={"status": robot_actor.status(robot(), found, NOW)})
    gone = found._replace(**(UNHEARD | UNREAD | {"settling": False}))
    assert robot_actor.status(known, gone, LATER).phase == "Offline"
    full = {"beat": seen("its disk is full", "nothing was refused", "none is").beat}
    after = robot_actor.status(known, found._replace(**(UNREAD | full)), LATER)
    assert after.condition(C.SPOOL_FAILING) is not None


def test_what_only_counts_on_waits_until_the_fleet_is_known() -> None:
    found = seen("it runs what it is assigned", "nothing was refused", "a version is assigned")
    before = robot_actor.status(robot(), found, NOW)
    for changed in ({"episodes": 8}, {"active": None, "pending": None}):
        after = before.model_copy(update=changed)
        assert robot_actor.write_in(before, after, 1e9, robots=None) is None
        assert robot_actor.write_in(before, after, 1e9, robots=4) == 0.0
    lost = before.model_copy(update={"phase": "Offline"})
    assert robot_actor.write_in(before, lost, 0.0, robots=None) == 0.0


def test_a_robot_of_which_nothing_was_ever_written_says_what_little_is_known() -> None:
    after = robot_actor.status(
        robot(), seen("it has none yet", "nothing was refused", "none is")._replace(**UNREAD), NOW
    )
    told = after.condition(C.POLICY_SYNCED)
    assert told is not None
    assert told.reason == Reason.NOT_ASSIGNED


def test_an_older_operators_reason_is_not_repeated() -> None:
    found = seen("it has another version", "nothing was refused", "a version is assigned")
    status = robot_actor.status(robot(), found, NOW)
    older = [one.model_copy(update={"reason": "OfBefore"}) for one in status.conditions]
    known = robot().model_copy(update={"status": status.model_copy(update={"conditions": older})})
    told = robot_actor.status(known, found._replace(**UNREAD), LATER).condition(C.POLICY_SYNCED)
    assert told is not None
    assert told.reason == Reason.NOT_ASSIGNED


# --- a job --------------------------------------------------------------------------------


def test_a_condition_that_only_a_newer_operator_knows_stops_nobody() -> None:
    """A status that its predecessor wrote before it was taken back."""
    newer = {"type": "Levitating", "status": "True", "reason": "Up"}
    ready = {"type": "Ready", "status": "True", "reason": "Ready"}
    told = [{**one, "lastTransitionTime": "2027-01-15T08:00:00Z"} for one in (newer, ready)]
    raw = robot().model_dump(mode="json", by_alias=True) | {"status": {"conditions": told}}
    found = RobotActor.model_validate(raw).status.conditions
    assert [one.type for one in found] == [C.READY]


def test_what_is_decided_once_more_after_an_edit_is_told_once() -> None:
    told = Told(Reason.CANARY_PASSED, "Version 2 promoted.", warning=False)
    now = datetime(2027, 1, 15, 8, tzinfo=UTC)

    def called(version: str, **status: int) -> str:
        metadata = {"name": "job", "namespace": "ns", "uid": "uid", "resourceVersion": version}
        about = {"apiVersion": "v", "kind": "K", "metadata": metadata, "status": status}
        return str(event(about, told, now)["metadata"]["name"])

    assert called("7", lastSequence=1) == called("8", lastSequence=1)
    assert called("8", lastSequence=1) != called("9", lastSequence=2)


def ended(feed: Feed, sequence: int, *, fresh: bool) -> None:
    event = Event(
        robot="r1",
        robot_uid="r-uid",
        job_uid="uid",
        policy=NEW,
        at=0.0,
        kind=EventKind.OUTCOME,
        episode_id=f"e{sequence}",
        task="reach",
        outcome=Outcome.SUCCESS,
        judged=True,
    )
    assert feed.event(sequence, "fleet.ns.r1.job.evt", event.encode(), 5.0, fresh=fresh)


def test_an_episode_of_before_our_start_says_nothing_of_when_it_ended() -> None:
    feed = Feed("uid")
    ended(feed, 1, fresh=False)
    assert feed.last_outcome_at == float("-inf")
    assert feed.windows({"reach"}, 10) == {"reach": (1, 1)}
    assert feed.ended == {"r1": 5.0}
    ended(feed, 2, fresh=True)
    assert feed.last_outcome_at == 5.0


def job(*conditions: Condition) -> FleetTrainingJob:
    return FleetTrainingJob.model_validate(
        {
            "metadata": {"name": "job", "namespace": "ns", "uid": "uid", "generation": 1},
            "spec": {"tasks": [{"name": "reach"}]},
            "status": {"conditions": [one.dump() for one in conditions]},
        }
    )


@pytest.mark.parametrize("flowed", [True, False])
def test_whether_episodes_end_stays_as_it_was_until_one_does_or_it_lasts(flowed: bool) -> None:
    before = Finding(C.DATA_FLOWING, flowed, Reason.EPISODES_ARRIVING)
    known = job(*settle([], [before], 1, NOW))
    nothing = training_job.Facts(
        robots=RobotsStatus(),
        fleet=FleetPlan((), (), (), 0),
        learner=LearnerPlan(1),
        run=LearnerStatus(),
        state=State(),
        assignment=AssignmentStatus(),
        windows={},
        episodes=0,
        data_age=None,
    )
    for age, expected in ((None, flowed), (1.0, True), (301.0, False), (float("inf"), False)):
        facts = nothing._replace(data_age=age)
        after = training_job.status(known, facts, complete=False, now=LATER)
        assert holds(after.conditions, C.DATA_FLOWING) is expected, age


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("undemonstrated", [(), ("reach",)])
def test_a_silent_learner_is_known_by_what_was_said_of_it(
    undemonstrated: tuple[str, ...], heard: bool
) -> None:
    run = learner.Run("job-learner-1", "uid-1", 1, "hash")
    pod = Pod("p", "u", "Running", owner_uid="uid-1")
    found = learner.plan(
        wanted=True,
        hash_="hash",
        last_number=1,
        runs=[run],
        pods=[pod],
        heard=heard,
        undemonstrated=undemonstrated,
    )
    said = settle([], [found.finding], 1, NOW)
    assert learner.heard(said, at=1.0, since=2.0, settling=True) is heard
    assert not learner.heard(said, at=1.0, since=2.0, settling=False)
    assert learner.heard(said, at=2.0, since=2.0, settling=False)
    assert learner.heard([], at=1.0, since=2.0, settling=True)


@pytest.mark.parametrize(
    ("last", "now", "age"),
    [(50.0, 101.0, None), (50.0, 401.0, 351.0), (100.0, 101.0, 1.0), (-math.inf, 401.0, math.inf)],
)
def test_how_long_no_episode_ended_is_said_once_we_listened_long_enough(
    last: float, now: float, age: float | None
) -> None:
    assert training_job.data_age(last, 100.0, now) == age


def test_what_the_learner_said_of_the_store_stands_until_it_is_heard() -> None:
    failing = Finding(C.STORAGE_FAILING, True, Reason.STORAGE_FAILED, "the store is away")
    known = job(*settle([], [failing], 1, NOW))
    assert training_job.storage_fault(known, None) == "the store is away"
    assert training_job.storage_fault(known, "") == ""
    assert training_job.storage_fault(job(), None) == ""


def test_which_tasks_lack_a_demonstration_stands_until_the_learner_is_heard() -> None:
    status = FleetTrainingJobStatus(learner=LearnerStatus(undemonstrated=["reach"]))
    known = job().model_copy(update={"status": status})
    assert training_job.undemonstrated(known, None) == ["reach"]

    def heard(*tasks: str) -> LearnerHeartbeat:
        stage = LearnerStage.ONLINE
        return LearnerHeartbeat(
            job_uid="uid", epoch=1, stage=stage, step=0, undemonstrated=[*tasks], at=0.0
        )

    assert training_job.undemonstrated(known, heard()) == []
    # What is written must be the job's own, whatever a program says.
    told = training_job.learner_status(job(), 1, "hash", heard("reach", "juggle"))
    assert told.undemonstrated == ["reach"]


def test_what_is_at_work_is_noted_for_a_successor_which_believes_digests_alone() -> None:
    old, new = (
        PolicyVersionSpec(
            job="job",
            job_uid="uid",
            learner_epoch=1,
            learner_step=25,
            size=10,
            training_metrics={"loss": 0.1 + 0.2},
            lineage=LineageSpec(first=0, through=1, episodes=1),
            **ref.model_dump(),
        )
        for ref in (OLD, NEW)
    )
    kept = history.kept("uid", [1, 2], gone=[], used=[], specs={1: old, 2: new})
    assert kept is not None
    runs, tries = (VersionRef(name="v", **ref.model_dump()) for ref in (OLD, NEW))
    assert history.noted(kept, [runs, tries]) == {1: old, 2: new}
    assert history.noted(kept, [tries]) == {2: new}
    other = runs.model_copy(update={"digest": NEW.digest})
    assert history.noted(kept, [other]) == {}
    strange = kept.model_copy(update={"specs": ("{}", "[]", "nonsense", *kept.specs[1:])})
    assert history.noted(strange, [runs, tries]) == {2: new}
    assert history.noted(None, [runs]) == {}
