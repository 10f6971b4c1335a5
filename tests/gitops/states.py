"""Our objects in every state that the operator leaves them in, made by its own decisions."""

from typing import Any, NamedTuple

from fleet_contract.messages import (
    Assignment,
    Fallback,
    Heartbeat,
    PolicyRef,
    RobotState,
    digest_of,
)
from fleet_contract.names import API_VERSION, Kind, Reason
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Gate as GateName
from fleet_contract.resources import (
    FleetTrainingJob,
    GatePhase,
    PolicyVersion,
    RobotActor,
    Rollout,
    VersionRef,
)
from fleet_contract.resources.job_status import AssignmentStatus, LearnerStatus, RobotsStatus
from fleet_operator.decide import fleet, policy_versions, robot_actor, training_job
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.conditions import Finding
from fleet_operator.decide.gates import Gate, Report
from fleet_operator.decide.learner import LearnerPlan
from fleet_operator.decide.pod import End, Pod
from fleet_operator.decide.rollout import Decision, Observed, State, decide

Object = dict[str, Any]
NOW = 1_800_000_000.0
FLEET = tuple(Robot(name) for name in ("r1", "r2", "r3"))
WORKING = Finding(C.LEARNER_READY, True, Reason.LEARNER_RUNNING)
OFF = Finding(C.LEARNER_READY, False, Reason.SUSPENDED)


class Shown(NamedTuple):
    """An object, and what Flux (kstatus) and Argo CD (health) shall make of it."""

    item: Object
    kstatus: str
    health: str
    words: str = ""
    """Which Argo CD's message holds."""


def version_ref(sequence: int) -> VersionRef:
    digest = digest_of(str(sequence).encode())
    name = f"job-v{sequence}"
    return VersionRef(name=name, sequence=sequence, digest=digest, uri=f"versions/{sequence}")


def policy(sequence: int) -> PolicyRef:
    return PolicyRef(**version_ref(sequence).model_dump(exclude={"name"}))


def item(kind: Kind, name: str, spec: Object) -> Object:
    """As the apiserver keeps one that nobody has looked at."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"{name}-uid",
            "generation": 3,
            "resourceVersion": "1007",
        },
        "spec": spec,
        "status": {"observedGeneration": -1},
    }


def edited(made: Object) -> Object:
    """After a change of its spec that nobody has looked at."""
    return made | {"metadata": made["metadata"] | {"generation": 4}}


def deleted(made: Object) -> Object:
    return made | {"metadata": made["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}


# --- jobs ---------------------------------------------------------------------------------


def job(found: dict[str, Any] | None = None, *, complete: bool = False, **spec: Any) -> Object:
    """With the status of a turn that found all at work, but for this."""
    raw = item(Kind.TRAINING_JOB, "job", {"tasks": [{"name": "reach"}], **spec})
    facts = training_job.Facts(
        robots=RobotsStatus(desired=3, connected=3, synced=3),
        fleet=fleet.FleetPlan((), (), (), 0),
        learner=LearnerPlan(1, finding=WORKING),
        run=LearnerStatus(run=1),
        state=State(stable=version_ref(1)),
        assignment=AssignmentStatus(),
        windows={},
        episodes=0,
        data_age=0.0,
    )._replace(**(found or {}))
    model = FleetTrainingJob.model_validate(raw)
    status = training_job.status(model, facts, complete=complete, now=NOW)
    return raw | {"status": status.dump()}


def learner(reason: Reason) -> dict[str, Any]:
    return {"learner": LearnerPlan(1, finding=Finding(C.LEARNER_READY, False, reason, "It said."))}


def turn(spec: Object, state: State, **seen: Any) -> Decision:
    """One decision with version 2 announced to three robots that run version 1."""
    fields = {"announced": version_ref(2), "robots": FLEET, "last_event": 9, **seen}
    return decide(Rollout.model_validate(spec), state, Observed(**fields), NOW)


def gate(phase: GatePhase) -> tuple[Gate, ...]:
    """One that said so in its first run."""
    report = Report(1, phase, "Version 2, simulation gate: 7 of 20 episodes have ended.")
    return (Gate(GateName.SIMULATION, "asked", report),)


def rolling(spec: Object, *requests: str, **seen: Any) -> Object:
    """A job whose version 2 was just announced, and then some buttons were pressed."""
    asked = seen.get("gates", ())
    state = turn(spec, State(stable=version_ref(1), last_sequence=1), gates=asked).state
    for request in (*requests, *([""] if seen else [])):
        state = turn(spec, state, **{"request": request, **seen}).state
    return job({"state": state}, rollout=spec)


TRIAL = {"strategy": "Staged", "steps": [{"robots": 1}, {"robots": 2}]}
MANUAL = {**TRIAL, "mode": "Manual"}
NOBODY = RobotsStatus(desired=3)
IMPATIENT = {"patience": 0.0}

JOBS = {
    "fresh": Shown(
        item(Kind.TRAINING_JOB, "job", {"tasks": [{"name": "reach"}]}),
        "InProgress",
        "Progressing",
        "has not seen",
    ),
    "edited": Shown(edited(job()), "InProgress", "Progressing", "has not seen"),
    "whose learner starts": Shown(
        job(learner(Reason.LEARNER_PENDING)), "InProgress", "Progressing", "It said."
    ),
    "no robot of which is there yet": Shown(
        job({"robots": NOBODY}), "InProgress", "Progressing", "None of 3 robots"
    ),
    "at work": Shown(job(), "Current", "Healthy"),
    "at work without one of its robots": Shown(
        job({"robots": RobotsStatus(desired=3, connected=2)}), "Current", "Healthy", "1 of 3 robots"
    ),
    "with a version at its gate": Shown(
        rolling(TRIAL, gates=gate(GatePhase.RUNNING)), "Current", "Healthy", "7 of 20 episodes"
    ),
    f"stalled by {Reason.GATE_BLOCKED}": Shown(
        rolling(TRIAL, gates=gate(GatePhase.BLOCKED)), "Failed", "Degraded", "7 of 20 episodes"
    ),
    "with a version on trial": Shown(rolling(TRIAL), "Current", "Healthy", "Version 2, stage 1"),
    "with a version that waits for a person": Shown(
        rolling(MANUAL), "Current", "Suspended", "request promote@2"
    ),
    "with a version that waits for approval": Shown(
        rolling({**TRIAL, "approval": "Always"}), "Current", "Suspended", "request approve@2"
    ),
    "with a version that waits for its window": Shown(
        rolling({**TRIAL, "windows": [{"schedule": "0 3 * * *", "duration": "1m"}]}),
        "Current",
        "Suspended",
        "spec.rollout.windows",
    ),
    "in a frozen namespace": Shown(
        rolling(MANUAL, "promote@2#1", freeze="inventory"), "Current", "Suspended", "inventory"
    ),
    "whose trial nobody lives through": Shown(
        rolling(TRIAL, robots=tuple(one._replace(connected=False) for one in FLEET)),
        "Current",
        "Suspended",
        "connected",
    ),
    "with a promoted version under watch": Shown(
        rolling({"strategy": "Broadcast", "postPromotion": {"minEpisodes": 50}}),
        "Current",
        "Healthy",
        "50 episodes",
    ),
    "paused by a button": Shown(
        rolling(TRIAL, "pause@2#1"), "Current", "Suspended", "request resume@2"
    ),
    "paused in Git": Shown(rolling({**TRIAL, "paused": True}), "Current", "Suspended", "paused"),
    "pinned": Shown(rolling({"mode": "Pinned", "pinnedVersion": 1}), "Current", "Healthy"),
    "that ends for a pause": Shown(
        job(learner(Reason.LEARNER_PENDING), suspend=True), "InProgress", "Progressing"
    ),
    "suspended": Shown(
        job({"learner": LearnerPlan(1, finding=OFF)}, suspend=True),
        "Current",
        "Suspended",
        "spec.suspend",
    ),
    "complete": Shown(
        job({"learner": LearnerPlan(1, finding=OFF)}, complete=True), "Current", "Healthy", "goal"
    ),
    "whose broker was lost just now": Shown(
        job({"streams_fault": "no broker"}), "InProgress", "Progressing", "no broker"
    ),
    "whose store was lost just now": Shown(
        job({"storage_fault": "no store"}), "InProgress", "Progressing", "no store"
    ),
    f"stalled by {Reason.WINDOW_INVALID}": Shown(
        job(rollout={"windows": [{"schedule": "0 25 * * *", "duration": "1h"}]}),
        "Failed",
        "Degraded",
        "windows[0]",
    ),
    "deleted": Shown(deleted(job()), "Terminating", "Progressing", "deleted"),
    **{
        f"stalled by {reason}": Shown(job(found), "Failed", "Degraded", words)
        for reason, found, words in (
            (Reason.APPLY_REFUSED, {"refusal": "no such field"}, "no such field"),
            (Reason.NAME_TAKEN, {"taken": "Job job-learner-1", **IMPATIENT}, "delete it"),
            (Reason.STREAMS_FAILED, {"streams_fault": "no broker", **IMPATIENT}, "no broker"),
            (Reason.STORAGE_FAILED, {"storage_fault": "no store", **IMPATIENT}, "no store"),
            (Reason.LEARNER_FAILED, learner(Reason.LEARNER_FAILED), "It said."),
            (Reason.LEARNER_REFUSED, learner(Reason.LEARNER_REFUSED), "It said."),
            (Reason.LEARNER_CRASHING, learner(Reason.LEARNER_CRASHING), "It said."),
            (Reason.IMAGE_PULL_FAILED, learner(Reason.IMAGE_PULL_FAILED), "It said."),
            (Reason.ROBOTS_FAILED, {"robots": NOBODY, "robots_fault": "r1: x"}, "r1: x"),
        )
    },
}


# --- robots -------------------------------------------------------------------------------


def robot(found: dict[str, Any] | None = None, **spec: Any) -> Object:
    """With the status of a turn that found it at work, but for this."""
    raw = item(Kind.ROBOT_ACTOR, "arm-1", {"job": "job", "mode": "External", **spec})
    seen = robot_actor.Seen(
        job_exists=True, at_work=True, template_hash="h", beat=beat(policy(1)), connected=True
    )._replace(**(found or {}))
    return raw | {"status": robot_actor.status(RobotActor.model_validate(raw), seen, NOW).dump()}


def beat(active: PolicyRef | None, **fields: Any) -> Heartbeat:
    return Heartbeat(
        robot="arm-1",
        robot_uid="arm-1-uid",
        job_uid="job-uid",
        at=0.0,
        **{"state": RobotState.RUNNING, "active": active, **fields},
    )


def pod(**fields: Any) -> dict[str, Any]:
    made = Pod("p", "u", "Running", hash="h", owner_uid="arm-1-uid")
    return {"pod": made._replace(**fields), "beat": None, "connected": False}


AWAY = {"beat": None, "connected": False}
REFUSED = {
    "beat": beat(None),
    "refused": (policy(1).digest, "too large"),
    "assignment": Assignment(
        job_uid="job-uid", epoch=1, issued_at_ms=0, expires_at_ms=1, default=policy(1)
    ),
}

STOPPED = Fallback(policy=policy(1), why="taken back by the guard, safe stop: not finite")

ROBOTS = {
    "fresh": Shown(
        item(Kind.ROBOT_ACTOR, "arm-1", {"job": "job"}), "InProgress", "Progressing", "has not seen"
    ),
    "edited": Shown(edited(robot()), "InProgress", "Progressing", "has not seen"),
    "a moment before its job": Shown(
        robot({"job_exists": False}), "InProgress", "Progressing", "There is no FleetTrainingJob"
    ),
    "whose pod starts": Shown(
        robot(pod(phase="Pending"), mode="Simulated"), "InProgress", "Progressing", "Its pod"
    ),
    "at work": Shown(robot(), "Current", "Healthy"),
    "that went back to the version before": Shown(
        robot({**REFUSED, "beat": beat(policy(0), fallback=STOPPED)}), "Current", "Healthy"
    ),
    "switched off": Shown(robot(AWAY), "InProgress", "Suspended", "does not send heartbeats"),
    "suspended": Shown(
        robot({"at_work": False, **AWAY}, suspend=True), "Current", "Suspended", "spec.suspend"
    ),
    "whose disk filled up just now": Shown(
        robot({"beat": beat(policy(1), spool_fault="full")}), "InProgress", "Progressing", "full"
    ),
    "deleted": Shown(deleted(robot()), "Terminating", "Progressing", "deleted"),
    **{
        f"stalled by {reason}": Shown(robot(found, **spec), "Failed", "Degraded", words)
        for reason, found, spec, words in (
            (Reason.JOB_NOT_FOUND, {"job_exists": False, **IMPATIENT}, {}, "apply it"),
            (Reason.APPLY_REFUSED, {"refusal": "no such field"}, {}, "no such field"),
            (
                Reason.NAME_TAKEN,
                {"taken": "Pod r1-robot", **IMPATIENT},
                {"mode": "Simulated"},
                "delete it",
            ),
            (
                Reason.IMAGE_PULL_FAILED,
                pod(waiting="ErrImagePull", image="x:1"),
                {"mode": "Simulated"},
                "cannot pull image x:1",
            ),
            (
                Reason.ROBOT_REFUSED,
                pod(waiting="CrashLoopBackOff", last=End(78, "Error", "no such world")),
                {"mode": "Simulated"},
                "no such world",
            ),
            (
                Reason.ROBOT_CRASHING,
                pod(waiting="CrashLoopBackOff", last=End(1, "Error", "no file")),
                {"mode": "Simulated"},
                "no file",
            ),
            (
                Reason.SPOOL_FAILED,
                {"beat": beat(policy(1), spool_fault="full"), **IMPATIENT},
                {},
                "full",
            ),
            (Reason.POLICY_REFUSED, REFUSED, {}, "too large"),
            (
                Reason.DOCUMENT_UNTRUSTED,
                {"beat": beat(None, document_fault="forged")},
                {},
                "forged",
            ),
            (
                Reason.SAFE_STOP,
                {**REFUSED, "beat": beat(None, fallback=STOPPED)},
                {},
                "not finite",
            ),
        )
    },
}


# --- versions -----------------------------------------------------------------------------


def version(
    decision: Decision | None = None, *, pinned: frozenset[int] = frozenset(), sequence: int = 2
) -> Object:
    """Version 2 after a decision of its job."""
    ref = version_ref(sequence)
    spec = {
        "job": "job",
        "jobUid": "job-uid",
        "sequence": sequence,
        "digest": ref.digest,
        "uri": ref.uri,
        "size": 1,
        "learnerEpoch": 1,
        "learnerStep": 25,
        "lineage": {"first": 0, "through": 1, "episodes": 1},
    }
    raw = item(Kind.POLICY_VERSION, ref.name, spec)
    if decision is None:
        return raw
    model = PolicyVersion.model_validate(raw)
    changed = policy_versions.statuses([model], decision, Evidence(), pinned, NOW)
    return raw | {"status": changed[sequence].dump()}


BEFORE = State(stable=version_ref(1), last_sequence=1)
STARTED = turn(TRIAL, BEFORE)
BROADCAST = {"strategy": "Broadcast"}

VERSIONS = {
    "fresh": Shown(version(), "InProgress", "Progressing", "has not seen"),
    "that waits for a person": Shown(
        version(turn(MANUAL, turn(MANUAL, BEFORE).state)), "InProgress", "Suspended", "promote@2"
    ),
    "at its gate": Shown(
        version(turn(TRIAL, BEFORE, gates=gate(GatePhase.RUNNING))),
        "InProgress",
        "Progressing",
        "its simulation gate",
    ),
    "on trial": Shown(version(STARTED), "InProgress", "Progressing", "stage 1"),
    "promoted": Shown(version(turn(BROADCAST, BEFORE)), "Current", "Healthy", "promoted"),
    "taken back": Shown(
        version(turn(TRIAL, STARTED.state, request="abort@2#1")),
        "Current",
        "Degraded",
        "taken back",
    ),
    "superseded": Shown(
        version(turn({"mode": "Pinned", "pinnedVersion": 1}, STARTED.state)),
        "Current",
        "Healthy",
        "pinned to version 1",
    ),
    "kept for a pin": Shown(
        version(Decision(BEFORE._replace(last_sequence=9), ()), pinned=frozenset({2})),
        "Current",
        "Healthy",
        "pinned to it",
    ),
    "deleted": Shown(deleted(version(STARTED)), "Terminating", "Progressing", "deleted"),
}

STATES = {
    f"{kind} {name}": shown
    for kind, states in (("a job", JOBS), ("a robot", ROBOTS), ("a version", VERSIONS))
    for name, shown in states.items()
}
