"""Conditions as kstatus reads them, and the statuses that carry them."""

from typing import Any

import pytest

from fleet_contract.agents import LearnerConfig, RobotConfig
from fleet_contract.messages import (
    Assignment,
    Fallback,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    PolicyRef,
    RobotState,
    digest_of,
)
from fleet_contract.names import STALLED_REASONS, Gate, Reason
from fleet_contract.names import ConditionType as C
from fleet_contract.resources import (
    Condition,
    FleetTrainingJob,
    FleetTrainingJobStatus,
    GatePhase,
    GateStatus,
    RobotActor,
    RobotActorStatus,
    RolloutStatus,
    VersionRef,
)
from fleet_contract.resources.base import now_rfc3339
from fleet_contract.resources.job_status import AssignmentStatus, LearnerStatus, RobotsStatus
from fleet_operator.decide import fleet, pace, robot_actor, training_job
from fleet_operator.decide.conditions import Finding, reconciling, settle, stalled, turned
from fleet_operator.decide.learner import LearnerPlan
from fleet_operator.decide.pod import End, Pod
from fleet_operator.decide.rollout import State
from fleet_operator.desired import learner, pods, robots
from fleet_operator.desired.transport import Transport

NOW = 1_800_000_000.0
WORKING = Finding(C.LEARNER_READY, True, Reason.LEARNER_RUNNING)
TO = Transport("nats://n", "file:///s", "learner:1", "robot:1")


def job(replicas: int = 2, status: dict[str, Any] | None = None, **spec: Any) -> FleetTrainingJob:
    return FleetTrainingJob.model_validate(
        {
            "metadata": {"name": "job", "namespace": "ns", "uid": "uid", "generation": 3},
            "spec": {
                "tasks": [{"name": "reach"}],
                "robots": {"simulated": {"replicas": replicas}},
                **spec,
            },
            "status": status or {},
        }
    )


def facts(**fields: Any) -> training_job.Facts:
    made = training_job.Facts(
        robots=RobotsStatus(desired=2, connected=2, synced=2),
        fleet=fleet.FleetPlan((), (), (), 2),
        learner=LearnerPlan(1, finding=WORKING),
        run=LearnerStatus(run=1, spec_hash="h", stage="online", step=1, epoch=1),
        state=State(),
        assignment=AssignmentStatus(),
        windows={},
        episodes=0,
        data_age=0.0,
    )
    return made._replace(**fields)


def summary(status: FleetTrainingJobStatus | RobotActorStatus) -> dict[str, str]:
    return {one.type.value: one.status for one in status.conditions}


PENDING = LearnerPlan(1, finding=Finding(C.LEARNER_READY, False, Reason.LEARNER_PENDING))
REFUSED = LearnerPlan(1, finding=Finding(C.LEARNER_READY, False, Reason.LEARNER_REFUSED))
FAILED = LearnerPlan(1, finding=Finding(C.LEARNER_READY, False, Reason.LEARNER_FAILED))
OFF = LearnerPlan(1, finding=Finding(C.LEARNER_READY, False, Reason.SUSPENDED))
LOST = RobotsStatus(desired=2, connected=0)
WAS_READY = {
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
}


def since(type_: C, status: str, ago: float) -> dict[str, Any]:
    """A status in which a condition last turned so many seconds ago."""
    at = now_rfc3339(NOW - ago)
    return {
        "conditions": [
            {"type": type_, "status": status, "reason": "X", "lastTransitionTime": at},
        ]
    }


# What was found → Ready, and which of Reconciling and Stalled stands beside it.
VERDICTS: dict[str, tuple[FleetTrainingJob, training_job.Facts, str, str]] = {
    "a job whose learner and robots are at work is Ready": (job(), facts(), "True", ""),
    "a job without a published version is Ready all the same": (
        job(),
        facts(state=State()),
        "True",
        "",
    ),
    "a learner on its way is Reconciling": (job(), facts(learner=PENDING), "False", "Reconciling"),
    "a failed learner is Stalled": (job(), facts(learner=FAILED), "False", "Stalled"),
    "a broker that is away is Reconciling at first": (
        job(),
        facts(streams_fault="x"),
        "False",
        "Reconciling",
    ),
    "a broker that stays away is Stalled": (
        job(status=since(C.STREAMS_READY, "False", 31)),
        facts(streams_fault="x"),
        "False",
        "Stalled",
    ),
    "a broker that was back in between is Reconciling again": (
        job(status=since(C.STREAMS_READY, "True", 31)),
        facts(streams_fault="x"),
        "False",
        "Reconciling",
    ),
    "a store that is away is Reconciling at first": (
        job(),
        facts(storage_fault="x"),
        "False",
        "Reconciling",
    ),
    "a store that stays away is Stalled": (
        job(status=since(C.STORAGE_FAILING, "True", 31)),
        facts(storage_fault="x"),
        "False",
        "Stalled",
    ),
    "a learner that refused its spec is Stalled": (
        job(),
        facts(learner=REFUSED),
        "False",
        "Stalled",
    ),
    "a fleet whose robots cannot work is Stalled": (
        job(),
        facts(robots=LOST, robots_fault="job-sim-0: no such world"),
        "False",
        "Stalled",
    ),
    "a fleet of which one robot is at work is not": (
        job(),
        facts(robots=RobotsStatus(desired=2, connected=1), robots_fault="job-sim-0: x"),
        "True",
        "",
    ),
    "a refused manifest is Stalled": (job(), facts(refusal="x"), "False", "Stalled"),
    "a fleet nobody of which is heard is Reconciling": (
        job(),
        facts(robots=LOST),
        "False",
        "Reconciling",
    ),
    "a fleet that falls silent later does not take Ready back": (
        job(status=WAS_READY),
        facts(robots=LOST),
        "True",
        "",
    ),
    "robots still to be made are Reconciling": (
        job(),
        facts(fleet=fleet.FleetPlan((1,), (), (), 1)),
        "False",
        "Reconciling",
    ),
    "a suspended job that came to rest is Ready": (
        job(suspend=True),
        facts(learner=OFF),
        "True",
        "",
    ),
    "a suspended job whose learner still ends is Reconciling": (
        job(suspend=True),
        facts(learner=PENDING),
        "False",
        "Reconciling",
    ),
}


@pytest.mark.parametrize("case", VERDICTS.values(), ids=VERDICTS.keys())
def test_ready(case: tuple[FleetTrainingJob, training_job.Facts, str, str]) -> None:
    before, found, ready, beside = case
    status = training_job.status(before, found, complete=False, now=NOW)
    shown = summary(status)
    assert shown["Ready"] == ready
    assert {"Reconciling", "Stalled"} & shown.keys() == ({beside} if beside else set())
    assert len(shown) == len(status.conditions)
    assert status.observed_generation == 3
    assert all(one.observed_generation == 3 for one in status.conditions)


def test_a_condition_is_dated_by_its_last_change() -> None:
    first = settle([], [Finding(C.READY, False, Reason.READY)], 1, NOW)
    same = settle(first, [Finding(C.READY, False, Reason.SUSPENDED)], 2, NOW + 100)
    other = settle(same, [Finding(C.READY, True, Reason.READY)], 2, NOW + 100)
    assert first[0].last_transition_time == same[0].last_transition_time
    assert other[0].last_transition_time > same[0].last_transition_time


def test_an_abnormal_condition_is_there_only_while_true() -> None:
    assert settle([], [Finding(C.STALLED, False, Reason.READY)], 1, NOW) == []


def test_an_event_is_told_when_the_meaning_changes_and_not_again() -> None:
    way = [
        (reconciling(Reason.LEARNER_PENDING, "soon"), []),
        (stalled(Reason.STREAMS_FAILED, "no broker"), [("StreamsFailed", "no broker", True)]),
        (stalled(Reason.STREAMS_FAILED, "no broker, in other words"), []),
        (stalled(Reason.LEARNER_REFUSED, "no"), [("LearnerRefused", "no", True)]),
        ([Finding(C.READY, True, Reason.READY, "at work")], [("Ready", "at work", False)]),
        ([Finding(C.READY, True, Reason.READY, "at work")], []),
    ]
    before: list[Condition] = []
    for findings, told in way:
        after = settle(before, findings, 1, NOW)
        assert turned(before, after) == told
        before = after


def test_a_goal_is_reached_by_every_task_and_stays_so_until_the_spec_changes() -> None:
    goal: dict[str, Any] = {"goal": {"successRate": 0.9, "minEpisodes": 10}}
    assert training_job.goal_reached(job(**goal), {"reach": (10, 9)})
    assert not training_job.goal_reached(job(**goal), {"reach": (9, 9)})
    assert not training_job.goal_reached(job(**goal), {"reach": (10, 8)})
    assert not training_job.goal_reached(job(), {"reach": (10, 10)})
    done = Condition(
        type=C.COMPLETE,
        status="True",
        reason="GoalReached",
        observed_generation=3,
        last_transition_time="2026-01-01T00:00:00Z",
    )
    kept = job(status={"conditions": [done.dump()]}, **goal)
    assert training_job.goal_reached(kept, {"reach": (10, 0)})
    changed = kept.model_copy(
        update={"metadata": kept.metadata.model_copy(update={"generation": 4})}
    )
    assert not training_job.goal_reached(changed, {"reach": (10, 0)})


# --- robots -------------------------------------------------------------------------------


def robot(mode: str = "Simulated", **spec: Any) -> RobotActor:
    return RobotActor.model_validate(
        {
            "metadata": {"name": "job-sim-0", "namespace": "ns", "uid": "r-uid", "generation": 1},
            "spec": {"job": "job", "mode": mode, **spec},
        }
    )


def pod(**fields: Any) -> Pod:
    return Pod("p", "u", "Running", hash="h", owner_uid="r-uid")._replace(**fields)


def seen(**fields: Any) -> robot_actor.Seen:
    return robot_actor.Seen(job_exists=True, at_work=True, template_hash="h")._replace(**fields)


POD_ACTIONS = {
    "a robot without a pod gets one": (robot(), seen(), "create"),
    "a running pod stays": (robot(), seen(pod=pod()), "keep"),
    "a pod of another template is drained": (robot(), seen(pod=pod(hash="old")), "delete"),
    "a pod that is going is awaited": (robot(), seen(pod=pod(deleting=True)), "keep"),
    "an ended pod is cleared away": (robot(), seen(pod=pod(phase="Failed")), "delete"),
    "a namesake's pod is cleared away": (robot(), seen(pod=pod(owner_uid="other")), "delete"),
    "a suspended robot loses its pod": (robot(), seen(at_work=False, pod=pod()), "delete"),
    "a robot without a job gets no pod": (robot(), seen(job_exists=False), "keep"),
    "an external robot gets no pod": (robot("External"), seen(), "keep"),
}


@pytest.mark.parametrize("case", POD_ACTIONS.values(), ids=POD_ACTIONS.keys())
def test_pods_of_robots(case: tuple[RobotActor, robot_actor.Seen, str]) -> None:
    who, found, action = case
    assert robot_actor.pod_action(who, found) == action


def test_a_robot_without_its_job_says_what_to_do() -> None:
    first = robot_actor.status(robot("External"), seen(job_exists=False), NOW)
    assert summary(first)["Reconciling"] == "True", "its job may be on its way"
    waits = robot("External").model_copy(update={"status": first})
    status = robot_actor.status(waits, seen(job_exists=False), NOW + 31)
    stalled = status.condition(C.STALLED)
    assert stalled is not None
    assert stalled.reason == "JobNotFound"
    assert "apply it, or delete this robot" in stalled.message


CRASH = End(1, "Error", "no such file", lasted=20)
LOOPING = pod(waiting="CrashLoopBackOff", last=CRASH)
ROBOT_FAULTS: dict[str, tuple[robot_actor.Seen, str, str]] = {
    "a pod without an image": (
        seen(pod=pod(waiting="ImagePullBackOff", image="x:1")),
        "ImagePullFailed",
        "cannot pull image x:1: correct spec.robots.simulated.image",
    ),
    "a pod that ends again and again": (seen(pod=LOOPING), "RobotCrashing", "no such file."),
    "a pod that refuses its spec": (
        seen(pod=pod(waiting="CrashLoopBackOff", last=End(78, "Error", "no environment 'moon'"))),
        "RobotRefused",
        "no environment 'moon'. Correct spec.tasks",
    ),
    "a pod that needs more memory": (
        seen(pod=pod(waiting="CrashLoopBackOff", last=End(137, "OOMKilled"))),
        "RobotCrashing",
        "raise resources.limits.memory",
    ),
}


@pytest.mark.parametrize("case", ROBOT_FAULTS.values(), ids=ROBOT_FAULTS.keys())
def test_a_robot_is_stalled_by(case: tuple[robot_actor.Seen, str, str]) -> None:
    found, reason, words = case
    stalled_ = robot_actor.status(robot(), found, NOW).condition(C.STALLED)
    assert stalled_ is not None
    assert stalled_.reason == reason
    assert words in stalled_.message
    assert Reason(reason) in STALLED_REASONS


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (seen(pod=pod(last=CRASH, started_at=NOW - 30)), True),
        (seen(pod=pod(last=CRASH, started_at=NOW - 60)), False),
        (seen(pod=pod(last=CRASH, started_at=NOW - 30), connected=True), False),
        (seen(pod=pod(down=True, last=CRASH)), True),
        (seen(pod=pod(waiting="CrashLoopBackOff", last=End(137, "Error"))), False),
    ],
    ids=[
        "runs for no longer than before",
        "runs for longer than before",
        "is heard of",
        "ended again",
        "was killed by somebody",
    ],
)
def test_a_robot_that_crashed_is_believed_again_unless_it(
    found: robot_actor.Seen, holds: bool
) -> None:
    before = robot_actor.status(robot(), seen(pod=LOOPING), NOW)
    again = robot().model_copy(update={"status": before})
    shown = summary(robot_actor.status(again, found, NOW))
    assert ("Stalled" in shown) == holds


def _beat(**fields: Any) -> Heartbeat:
    return Heartbeat(
        robot="job-sim-0", robot_uid="r-uid", job_uid="uid", state=RobotState.RUNNING, at=0.0
    ).model_copy(update=fields)


def test_a_full_disk_is_reconciling_first_and_stalled_when_it_lasts() -> None:
    found = seen(pod=pod(), connected=True, beat=_beat(spool_fault="2 episodes are lost: full."))
    first = robot_actor.status(robot(), found, NOW)
    assert summary(first)["Reconciling"] == "True"
    later = robot().model_copy(update={"status": first})
    lasting = robot_actor.status(later, found, NOW + 31).condition(C.STALLED)
    assert lasting is not None
    assert (lasting.reason, lasting.message) == ("SpoolFailed", "2 episodes are lost: full.")
    healed = seen(pod=pod(), connected=True, beat=_beat())
    assert summary(robot_actor.status(later, healed, NOW + 31))["Ready"] == "True"


def test_a_robot_tells_that_it_did_not_believe_a_document_and_is_stalled_where_it_has_nothing() -> (
    None
):
    new, old = (PolicyRef(sequence=n, digest=digest_of(bytes([n])), uri=f"v/{n}") for n in (2, 1))
    document = Assignment(job_uid="uid", epoch=1, issued_at_ms=0, expires_at_ms=1, default=new)
    forged = "signed with key ab, nobody's"
    found = seen(pod=pod(), connected=True, assignment=document)
    shown = robot_actor.status(
        robot(), found._replace(beat=_beat(active=old, document_fault=forged)), NOW
    )
    synced = shown.condition(C.POLICY_SYNCED)
    assert synced is not None
    assert synced.reason == "DocumentUntrusted"
    assert forged in synced.message
    assert "the public keys of ConfigMap fleetloop-trust" in synced.message
    assert summary(shown)["Ready"] == "True"
    without = found._replace(beat=_beat(active=None, document_fault=forged))
    assert summary(robot_actor.status(robot(), without, NOW))["Stalled"] == "True"


def test_a_robot_tells_which_version_it_refused_and_keeps_what_it_has() -> None:
    new, old = (PolicyRef(sequence=n, digest=digest_of(bytes([n])), uri=f"v/{n}") for n in (2, 1))
    document = Assignment(job_uid="uid", epoch=1, issued_at_ms=0, expires_at_ms=1, default=new)
    found = seen(
        pod=pod(),
        connected=True,
        beat=_beat(active=old),
        assignment=document,
        refused=(new.digest, "bundle lacks model.safetensors"),
    )
    shown = robot_actor.status(robot(), found, NOW)
    synced = shown.condition(C.POLICY_SYNCED)
    assert synced is not None
    assert synced.reason == "PolicyRefused"
    assert "refused version 2: bundle lacks model.safetensors; it keeps" in synced.message
    assert summary(shown)["Ready"] == "True"
    without = found._replace(beat=_beat(active=None))
    assert summary(robot_actor.status(robot(), without, NOW))["Stalled"] == "True"
    healed = found._replace(beat=_beat(active=new))
    assert summary(robot_actor.status(robot(), healed, NOW))["PolicySynced"] == "True"


def test_a_robot_that_stopped_its_version_tells_people_once_and_rests_only_where_it_must() -> None:
    new, old = (PolicyRef(sequence=n, digest=digest_of(bytes([n])), uri=f"v/{n}") for n in (2, 1))
    document = Assignment(job_uid="uid", epoch=1, issued_at_ms=0, expires_at_ms=1, default=new)
    stopped = Fallback(policy=new, why="taken back by the guard")
    beat = _beat(active=old, good=old, guard_trips=3, fallback=stopped)
    fell = seen(pod=pod(), connected=True, beat=beat, assignment=document)
    before = robot_actor.status(robot(), fell._replace(beat=_beat(active=old)), NOW)
    shown = robot_actor.status(robot(), fell, NOW)
    assert (summary(shown)["Ready"], summary(shown)["PolicySynced"]) == ("True", "False")
    assert (shown.last_known_good and shown.last_known_good.sequence, shown.guard_trips) == (1, 3)
    (told,) = turned(before.conditions, shown.conditions)
    assert (told.reason, told.warning) == ("FellBack", True)
    assert "stopped version 2 by itself and goes on: taken back by the guard" in told.message
    assert turned(shown.conditions, shown.conditions) == []
    assert robot_actor.write_in(before, shown, 0.0, 5000) == 0.0  # at once, however many
    rests = fell._replace(beat=_beat(active=None, fallback=stopped))
    (told,) = turned(before.conditions, robot_actor.status(robot(), rests, NOW).conditions)[:1]
    assert told.reason == "SafeStop"
    # One that it is no longer assigned is no news.
    other = fell._replace(assignment=document.model_copy(update={"default": old}))
    assert summary(robot_actor.status(robot(), other, NOW))["PolicySynced"] == "True"


def test_just_after_its_start_the_operator_calls_no_robot_lost() -> None:
    connected = Finding(C.CONNECTED, True, Reason.HEARTBEAT_RECEIVED)
    before = RobotActorStatus(conditions=settle([], [connected], 1, NOW))
    known = robot("External").model_copy(update={"status": before})
    status = robot_actor.status(known, seen(settling=True), NOW)
    assert summary(status)["Connected"] == "True"
    status = robot_actor.status(known, seen(settling=False), NOW)
    assert summary(status)["Connected"] == "False"


NEW = VersionRef(name="job-v2", sequence=2, digest=digest_of(b"2"), uri="v/2")
SYNCED, SYNCING, REFUSING = (
    {"conditions": settle([], [Finding(C.POLICY_SYNCED, holds, reason)], 1, NOW)}
    for holds, reason in (
        (True, Reason.ON_ASSIGNED_VERSION),
        (False, Reason.AWAITING_EPISODE_END),
        (False, Reason.POLICY_REFUSED),
    )
)
WRITES: dict[str, tuple[dict[str, Any], int, float, float | None]] = {
    # sentence: (what changed, robots, seconds since the last write, seconds until the next)
    "nothing changed": ({}, 4, 1e9, None),
    "merely seen again": ({"last_seen": "2026-01-01T00:00:00Z"}, 4, 1e9, None),
    "counters, in a small fleet": ({"episodes": 2}, 4, 3.0, 12.0),
    "… when it is time": ({"episodes": 2}, 4, 15.0, 0.0),
    "… in a large one": ({"episodes": 2}, 5000, 15.0, 985.0),
    "another version, in a small fleet": ({"active": NEW, **SYNCING}, 75, 0.0, 0.0),
    "another version, in a large one": ({"active": NEW, **SYNCING}, 1000, 50.0, 150.0),
    "… when its turn has come": ({"active": NEW, **SYNCING}, 1000, 200.0, 0.0),
    "a refused version, in a large one": (REFUSING, 5000, 0.0, 0.0),
    "it fell silent, in a large one": ({"phase": "Offline"}, 5000, 0.0, 0.0),
}


@pytest.mark.parametrize("sentence", WRITES)
def test_when_a_robots_status_is_written(sentence: str) -> None:
    changed, robots, since, expected = WRITES[sentence]
    before = RobotActorStatus(observed_generation=1, episodes=1, **SYNCED)
    after = before.model_copy(update=changed)
    assert robot_actor.write_in(before, after, since, robots) == expected


def test_what_a_job_only_counts_is_written_now_and_then_all_else_at_once() -> None:
    gated = RolloutStatus(gates=[GateStatus(name=Gate.SIMULATION)])
    before = FleetTrainingJobStatus(observed_generation=1, rollout=gated)

    def wait(robots: int = 4, since: float = 0.5, **changed: Any) -> float | None:
        return training_job.write_in(before, before.model_copy(update=changed), since, robots)

    rollout = before.rollout
    assert wait() is None
    assert wait(episodes=3, robots=10_000) == 19.5
    assert wait(episodes=3, since=2.0) == 0
    counted = rollout.model_copy(update={"episodes": 1, "successes": 1, "message": "1 of 1"})
    assert wait(rollout=counted) == 1.5
    for gate, seconds in (({"message": "8 of 20"}, 1.5), ({"phase": GatePhase.PASSED}, 0.0)):
        gates = [rollout.gates[0].model_copy(update=gate)]
        assert wait(rollout=rollout.model_copy(update={"gates": gates})) == seconds
    for name, value in (("robots", ["arm"]), ("reason", "Paused"), ("events_from", 3)):
        assert wait(rollout=rollout.model_copy(update={name: value})) == 0, name


@pytest.mark.parametrize(
    "missing",
    [{"learner": PENDING}, {"fleet": fleet.FleetPlan((0,), (), (), 0)}],
    ids=["a learner", "a robot"],
)
def test_what_the_api_server_does_not_take_yet_is_told(missing: dict[str, Any]) -> None:
    found = facts(later="POST jobs: 500 failed calling webhook mjob.kb.io", **missing)
    said = training_job.status(job(), found, complete=False, now=NOW).condition(C.RECONCILING)
    assert said is not None
    assert said.message.endswith(": POST jobs: 500 failed calling webhook mjob.kb.io")


def test_a_fleet_of_any_size_costs_a_few_looks_a_second() -> None:
    for size in (1, 75, 76, 1000, 10_000):
        assert size / pace.counting(size) <= pace.LOOKS
        assert size / pace.resync(size, 60.0) <= pace.LOOKS
    assert pace.following(pace.FEW) == 0
    assert pace.following(pace.FEW + 1) > 0


def test_scaling_down_ends_the_highest_index_first() -> None:
    def named(index: int) -> RobotActor:
        owner = {"kind": "FleetTrainingJob", "name": "job", "uid": "uid"}
        metadata = {"name": f"job-sim-{index}", "ownerReferences": [owner]}
        return RobotActor.model_validate({"metadata": metadata, "spec": {"job": "job"}})

    found = fleet.plan("job", "uid", 1, [named(index) for index in (0, 2, 10, 1)])
    assert [one.metadata.name for one in found.delete] == ["job-sim-10", "job-sim-2", "job-sim-1"]
    found = fleet.plan("job", "uid", 3, [named(1)])
    assert found.create == (0, 2)
    found = fleet.plan("job", "another", 1, [named(0)])
    assert (found.create, found.delete, found.taken) == ((), (), ("job-sim-0",))


@pytest.mark.parametrize("name", ["left-arm", "arm-7", "job-sim-x", "job-sim-07", "job2-sim-7"])
def test_a_robot_that_somebody_let_the_job_own_is_none_of_its_replicas(name: str) -> None:
    """It falls with the job, as asked, and with no smaller a fleet."""
    owner = {"kind": "FleetTrainingJob", "name": "job", "uid": "uid"}
    metadata = {"name": name, "ownerReferences": [owner]}
    theirs = RobotActor.model_validate({"metadata": metadata, "spec": {"job": "job"}})
    found = fleet.plan("job", "uid", 1, [theirs])
    assert (found.create, found.delete, found.simulated) == ((0,), (), 0)


# --- what pods are told -------------------------------------------------------------------


def test_pods_are_told_what_the_contract_says() -> None:
    made = learner.learner_job(job(), 1, TO)["spec"]["template"]["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in made["env"]}
    assert LearnerConfig.model_validate_json(env["FLEET_SPEC"]) == learner.config(job())
    assert made["image"] == "learner:1"
    made = robots.robot_pod(job(), robot(seed=7), TO)["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in made["env"]}
    assert RobotConfig.model_validate_json(env["FLEET_SPEC"]).seed == 7
    assert env["FLEET_ROBOT_UID"] == "r-uid"


def test_a_robots_own_control_rate_and_guard_reach_its_pod_which_is_then_another() -> None:
    spec: dict[str, Any] = {
        "controlHz": 15.0,
        "guard": {"inferencePeriods": 2.0, "tripsPerEpisode": 5},
    }
    told = robots.config(job(), robot(**spec))
    assert told.control_hz == 15.0
    assert (told.guard.inference_periods, told.guard.trips_per_episode) == (2.0, 5)
    assert robots.config(job(), robot()).control_hz == 20.0
    before = robots.template_hash(job(), robot(), TO)
    assert robots.template_hash(job(), robot(guard={"inferencePeriods": 1}), TO) == before
    assert robots.template_hash(job(), robot(**spec), TO) != before


def test_only_a_change_of_the_spec_makes_another_run() -> None:
    before = learner.spec_hash(job())
    assert learner.spec_hash(job(replicas=9, suspend=True)) == before
    assert learner.spec_hash(job(publish={"everySteps": 25})) == before  # the default, spelled
    assert learner.spec_hash(job(publish={"everySteps": 26})) != before


def test_streaming_makes_another_learner_and_other_robots_its_interval_other_robots_alone() -> None:
    def hashes(**experience: str) -> tuple[str, str]:
        made = job(transport={"experience": experience})
        return learner.spec_hash(made), robots.template_hash(made, robot(), TO)

    plain, told, often = hashes(), hashes(mode="Streaming"), hashes(mode="Streaming", every="1s")
    assert hashes(mode="Episode") == plain
    assert told[0] != plain[0]
    assert often[0] == told[0]
    assert len({plain[1], told[1], often[1]}) == 3
    made = job(transport={"experience": {"mode": "Streaming"}})
    assert learner.config(made).experience == robots.config(made, robot()).experience


def test_overrides_merge_by_name() -> None:
    first = {"name": "a", "image": "i", "command": ["run"], "env": [{"name": "x", "value": "1"}]}
    second = {"name": "a", "command": ["sleep", "9"], "env": [{"name": "y", "value": "2"}]}
    base = {"containers": [first], "tolerations": [{"key": "a"}]}
    over = {"containers": [second], "tolerations": [{"key": "b"}], "nodeName": "n"}
    merged = pods.merge(base, over)
    assert merged["nodeName"] == "n"
    (container,) = merged["containers"]
    assert container["image"] == "i"
    assert container["command"] == ["sleep", "9"]
    assert merged["tolerations"] == [{"key": "a"}, {"key": "b"}]
    assert [one["name"] for one in container["env"]] == ["x", "y"]


def test_status_tells_stage_step_and_goal_and_keeps_them_while_nothing_is_heard() -> None:
    beat = LearnerHeartbeat(
        job_uid="uid", epoch=2, stage=LearnerStage.OFFLINE, step=40, goal_step=2000, at=0.0
    )
    told = training_job.learner_status(job(), 3, "h", beat)
    assert told == LearnerStatus(
        run=3, spec_hash="h", stage="offline", step=40, goal_step=2000, epoch=2
    )
    known = job(status={"learner": told.dump()})
    assert training_job.learner_status(known, 4, "i", None) == told.model_copy(
        update={"run": 4, "spec_hash": "i"}
    )
