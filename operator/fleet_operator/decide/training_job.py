"""A job's status: what was found in every room, told in one place. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet_contract.messages import LearnerHeartbeat
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Label, Reason
from fleet_contract.resources import (
    Condition,
    FleetTrainingJob,
    FleetTrainingJobStatus,
    RolloutPhase,
)
from fleet_contract.resources.base import REQUEST_MAX
from fleet_contract.resources.job_status import (
    HANDLED_MAX,
    AssignmentStatus,
    LearnerStatus,
    RobotsStatus,
    TaskStatus,
)
from fleet_operator.decide import pace
from fleet_operator.decide.conditions import (
    PATIENCE,
    Finding,
    as_it_was,
    holds,
    impatient,
    lasted,
    name_taken,
    reconciling,
    settle,
    stalled,
)
from fleet_operator.decide.fleet import FleetPlan
from fleet_operator.decide.learner import LearnerPlan
from fleet_operator.decide.rollout import State
from fleet_operator.decide.windows import fault as window_fault

LEARNER_FAULTS = frozenset(
    {
        *(Reason.LEARNER_FAILED, Reason.LEARNER_REFUSED, Reason.LEARNER_CRASHING),
        Reason.IMAGE_PULL_FAILED,
    }
)
DATA_WITHIN = 300.0  # seconds without an ended episode after which data do not flow


class Facts(NamedTuple):
    """What one reconcile found and decided."""

    robots: RobotsStatus
    fleet: FleetPlan
    learner: LearnerPlan
    run: LearnerStatus
    state: State
    assignment: AssignmentStatus
    windows: Mapping[str, tuple[int, int]]
    episodes: int
    data_age: float | None
    """Seconds since the last episode ended; None: that was before our time, which was too short."""
    streams_fault: str = ""
    storage_fault: str = ""  # in the learner's words
    robots_fault: str = ""  # of the first robot that is Stalled
    refusal: str = ""
    later: str = ""  # why the API server could not take one of the job's objects now
    taken: str = ""  # the first object whose name the job needs and somebody else has
    patience: float = PATIENCE  # seconds


def undemonstrated(job: FleetTrainingJob, heard: LearnerHeartbeat | None) -> list[str]:
    """Tasks of which its learner has nothing to imitate; as before where it was not heard."""
    said = (heard or job.status.learner).undemonstrated
    return [task.name for task in job.spec.tasks if task.name in said]


def learner_status(
    job: FleetTrainingJob, number: int, spec_hash: str, heard: LearnerHeartbeat | None
) -> LearnerStatus:
    """The run, and where it stands by its last heartbeat; as before where none was heard."""
    run = {"run": number, "spec_hash": spec_hash, "undemonstrated": undemonstrated(job, heard)}
    made = job.status.learner.model_copy(update=run)
    if heard is None:
        return made
    told = {"stage": heard.stage.value, **heard.model_dump(include={"step", "goal_step", "epoch"})}
    return made.model_copy(update=told)


def data_age(last: float, began: float, now: float) -> float | None:
    """Seconds since the last episode that we know of ended, of which we heard since we ``began``.

    None: none has, and that was too short a time to say so.
    """
    return None if last < began and now - began <= DATA_WITHIN else now - last


def storage_fault(job: FleetTrainingJob, said: str | None) -> str:
    """What is wrong with the store; ``said`` by the learner, None while it may not know us yet."""
    if said is not None:
        return said
    before = as_it_was(job.status.conditions, C.STORAGE_FAILING)
    return before.message if before else ""


def goal_reached(job: FleetTrainingJob, windows: Mapping[str, tuple[int, int]]) -> bool:
    """Every task of weight is at the goal over enough episodes; once reached, it stays so
    until the spec changes.
    """
    goal = job.spec.goal
    if goal.success_rate is None:
        return False
    before = job.status.condition(C.COMPLETE)
    if before and before.status == "True" and before.observed_generation == job.metadata.generation:
        return True
    return all(
        episodes >= goal.min_episodes and successes >= goal.success_rate * episodes - 1e-9
        for episodes, successes in (
            windows.get(task.name, (0, 0)) for task in job.spec.tasks if task.weight > 0
        )
    )


def status(
    job: FleetTrainingJob, facts: Facts, *, complete: bool, now: float
) -> FleetTrainingJobStatus:
    """The whole new status."""
    findings = _findings(job, facts, now, complete=complete)
    conditions = settle(job.status.conditions, findings, job.metadata.generation, now)
    rates = {task: s / n for task, (n, s) in facts.windows.items() if n}
    return FleetTrainingJobStatus(
        observed_generation=job.metadata.generation,
        conditions=conditions,
        last_handled_request=facts.state.last_handled_request,
        phase=_phase(job, facts, conditions, complete=complete),
        replicas=facts.fleet.simulated,
        selector=f"{Label.JOB}={job.metadata.name},{Label.SIMULATED}=true",
        robots=facts.robots,
        learner=facts.run,
        stable=facts.state.stable,
        rollout=facts.state.rollout,
        last_known_good=list(facts.state.known_good),
        rolled_back=list(facts.state.rolled_back),
        handled_requests=remembered(job.status, facts.state.last_handled_request),
        last_sequence=facts.state.last_sequence,
        assignment=facts.assignment,
        tasks=[
            TaskStatus(
                name=task.name,
                episodes=facts.windows.get(task.name, (0, 0))[0],
                success_rate=rate(rates.get(task.name)),
            )
            for task in job.spec.tasks
        ],
        success_rate=rate(sum(rates.values()) / len(rates) if rates else None),
        episodes=facts.episodes,
    )


def write_in(
    before: FleetTrainingJobStatus, after: FleetTrainingJobStatus, since: float, robots: int
) -> float | None:
    """Seconds until it must be written, ``since`` seconds after the last write; None: never.

    A change of meaning at once, what only counts on at the pace of so many ``robots``.
    """
    if _meant(before) != _meant(after):
        return 0.0
    return max(0.0, pace.job(robots) - since) if before != after else None


def _meant(status: FleetTrainingJobStatus) -> FleetTrainingJobStatus:
    """Without what counts, and the sentences that tell of it."""
    gates = [one.model_copy(update={"message": "", "tasks": []}) for one in status.rollout.gates]
    rollout = {"episodes": 0, "successes": 0, "message": "", "gates": gates}
    blank = {"episodes": 0, "tasks": [], "success_rate": "", "robots": RobotsStatus()}
    return status.model_copy(
        update={
            **blank,
            "learner": status.learner.model_copy(update={"step": 0}),
            "rollout": status.rollout.model_copy(update=rollout),
            "conditions": [one.model_copy(update={"message": ""}) for one in status.conditions],
        }
    )


def fresh(request: str, status: FleetTrainingJobStatus) -> str:
    """The request, as far as it counts; the last one where it was acted upon before.

    Git may write an old one anew, after a button wrote another.
    """
    request = request[:REQUEST_MAX]
    return status.last_handled_request if request in status.handled_requests else request


def remembered(before: FleetTrainingJobStatus, last: str) -> list[str]:
    """Every request acted upon, the latest last, as far back as is kept."""
    known = before.handled_requests
    return known if last in ("", *known) else [*known, last][-HANDLED_MAX:]


def rate(value: float | None) -> str:
    """As printed columns show it; empty where nothing was measured."""
    return "" if value is None else f"{value:.2f}"


def _findings(
    job: FleetTrainingJob, facts: Facts, now: float, *, complete: bool
) -> Sequence[Finding]:
    robots, learner = facts.robots, facts.learner.finding
    streams = Finding(C.STREAMS_READY, True, Reason.STREAMS_READY, "The job's streams exist.")
    if facts.streams_fault:
        streams = Finding(C.STREAMS_READY, False, Reason.STREAMS_FAILED, facts.streams_fault)
    flowing = facts.data_age is not None and facts.data_age <= DATA_WITHIN
    if facts.data_age is None:
        flowing = holds(job.status.conditions, C.DATA_FLOWING)
    missing = robots.desired - robots.connected
    return (
        *_verdict(job, facts, now, complete=complete),
        streams,
        learner,
        Finding(C.DATA_FLOWING, True, Reason.EPISODES_ARRIVING, "Episodes end and are reported.")
        if flowing
        else Finding(
            C.DATA_FLOWING,
            False,
            Reason.NO_EPISODES,
            f"No episode ended in the last {DATA_WITHIN / 60:.0f} minutes.",
        ),
        Finding(
            C.FLEET_DEGRADED,
            True,
            Reason.ROBOTS_MISSING,
            f"{missing} of {robots.desired} robots are not connected. {facts.robots_fault}".strip(),
        )
        if missing > 0
        else Finding(C.FLEET_DEGRADED, False, Reason.FLEET_HEALTHY, "Every robot is connected."),
        Finding(
            C.STORAGE_FAILING,
            bool(facts.storage_fault),
            Reason.STORAGE_FAILED,
            facts.storage_fault,
        ),
        Finding(C.SUSPENDED, job.spec.suspend, Reason.SUSPENDED, "spec.suspend is true."),
        Finding(C.COMPLETE, complete, Reason.GOAL_REACHED, "Every task reached the goal."),
    )


def _verdict(  # noqa: C901, PLR0911 - a list of rules, the first wins
    job: FleetTrainingJob, facts: Facts, now: float, *, complete: bool
) -> Sequence[Finding]:
    """Ready, and beside it Reconciling or Stalled: the first of these rules that applies.

    Ready means converged and healthy. Robots that come and go do not take it back once it was
    given: that is FleetDegraded.
    """
    before = job.status.conditions
    learner, robots, replicas = facts.learner, facts.robots, job.spec.robots.simulated.replicas
    if facts.refusal:
        return stalled(Reason.APPLY_REFUSED, facts.refusal)
    if facts.streams_fault:
        since = lasted(before, C.STREAMS_READY, "False", now)
        return impatient(since, facts.patience, Reason.STREAMS_FAILED, facts.streams_fault)
    if learner.finding.reason in LEARNER_FAULTS:
        return stalled(learner.finding.reason, learner.finding.message)
    if facts.taken:
        return name_taken(before, facts.taken, facts.patience, now)
    later = f" The API server does not take them yet: {facts.later}" if facts.later else ""
    if facts.fleet.simulated != replicas or facts.fleet.delete:
        there = f"{facts.fleet.simulated} of {replicas} simulated robots exist."
        return reconciling(Reason.ROBOTS_MISSING, there + later)
    if job.spec.suspend or complete:
        if learner.delete or learner.finding.reason is Reason.LEARNER_PENDING:
            return reconciling(learner.finding.reason, learner.finding.message)
        reason = Reason.GOAL_REACHED if complete else Reason.SUSPENDED
        return (Finding(C.READY, True, reason, "Nothing is left to be done."),)
    if not learner.finding.holds:
        return reconciling(learner.finding.reason, learner.finding.message + later)
    if facts.storage_fault:
        since = lasted(before, C.STORAGE_FAILING, "True", now)
        return impatient(since, facts.patience, Reason.STORAGE_FAILED, facts.storage_fault)
    was_ready = holds(before, C.READY)
    if robots.desired and not robots.connected and not was_ready:
        if facts.robots_fault:
            return stalled(
                Reason.ROBOTS_FAILED,
                f"None of {robots.desired} robots is connected. {facts.robots_fault}",
            )
        return reconciling(Reason.ROBOTS_MISSING, f"None of {robots.desired} robots is connected.")
    if held := _held(job, facts.state, now):
        return held
    return (Finding(C.READY, True, Reason.READY, "Learner, streams and fleet are at work."),)


def _held(job: FleetTrainingJob, state: State, now: float) -> Sequence[Finding]:
    """Why no version goes on before somebody does something; fleet and learner are at work."""
    if wrong := window_fault(job.spec.rollout.windows, now):
        return stalled(
            Reason.WINDOW_INVALID, f"{wrong}; correct it. Until then no version goes on."
        )
    if state.rollout.reason == Reason.GATE_BLOCKED:
        return stalled(Reason.GATE_BLOCKED, state.rollout.message)
    return ()


def _phase(
    job: FleetTrainingJob, facts: Facts, conditions: Sequence[Condition], *, complete: bool
) -> str:
    """One word for people; nothing decides by it."""
    if holds(conditions, C.STALLED):
        return "Stalled"
    if complete:
        return "Complete"
    if job.spec.suspend:
        return "Suspended"
    if not holds(conditions, C.READY):
        return "Pending"
    if (rollout := facts.state.rollout.phase) is not RolloutPhase.IDLE:
        return rollout.value
    return "Training"
