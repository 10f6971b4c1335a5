"""One turn of a FleetTrainingJob: observe, decide, apply; the status last, if it changed."""

import itertools
import logging
from datetime import datetime
from typing import Any

from fleet_contract.errors import Retry
from fleet_contract.names import ConditionType, Gate, Kind, Reason
from fleet_contract.resources import FleetTrainingJobStatus, PolicyPhase
from fleet_operator import metrics
from fleet_operator.cluster import RefusedError
from fleet_operator.decide import (
    conditions,
    fleet,
    learner,
    pace,
    phases,
    training_job,
)
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.conditions import Told
from fleet_operator.decide.gates import ENDED
from fleet_operator.decide.rollout import Decision, State, decide
from fleet_operator.desired import learner as desired_learner
from fleet_operator.handlers import endings, job_children, job_clerk, job_gates
from fleet_operator.handlers.job_rollout import apply_rollout
from fleet_operator.handlers.job_world import (
    World,
    episodes_of,
    evidence_of,
    fleet_figures,
    observe,
    robots_fault,
    seen_by,
)
from fleet_operator.handlers.telling import tell
from fleet_operator.office import Office
from fleet_operator.told import by_status
from fleet_operator.work import Key

logger = logging.getLogger(__name__)
SOON = 2.0  # seconds until the next look at something that is under way in the cluster
WATCHFUL = 10.0  # seconds between two looks at what crashed: nothing arrives when it goes on


async def reconcile(office: Office, name: str) -> float | None:
    """Returns the seconds until the next look; None when the job is gone."""
    raw = await office.cluster.get(Kind.TRAINING_JOB, name)
    if raw is None:
        await endings.job_gone(office, name)
        return None
    if "deletionTimestamp" in raw["metadata"]:
        return SOON  # its children go by their owner references
    world = await observe(office, raw)
    before = world.job.status

    windows: dict[str, tuple[int, int]] = {}
    decision, evidence = Decision(State.of(before), ()), Evidence()
    if world.line is not None:
        tasks = {task.name for task in world.job.spec.tasks}
        windows = world.line.feed.windows(tasks, world.job.spec.goal.min_episodes)
        evidence = evidence_of(world, office.inbox.now)
        document = world.line.feed.assignment
        runs = job_gates.last_run(world)
        state = State.of(before).recovered(name, world.versions, document, runs)
        seen = seen_by(world, evidence)._replace(gates=job_gates.seen(world, state))
        decision = decide(world.job.spec.rollout, state, seen, world.now)
        unsaid = state.unsaid(State.of(before), world.versions)
        decision = decision._replace(moves=(*unsaid, *decision.moves))
    complete = training_job.goal_reached(world.job, windows)
    hash_ = desired_learner.spec_hash(world.job)
    beat = world.line.feed.learner if world.line else None
    run = learner.plan(
        wanted=not world.job.spec.suspend and not complete,
        hash_=hash_,
        last_number=before.learner.run,
        runs=world.runs,
        pods=world.pods,
        ranks=world.job.spec.learner.replicas,
        doubted=conditions.stalled_by(before.conditions, Reason.LEARNER_CRASHING),
        heard=_learner_heard(office, world),
        undemonstrated=training_job.undemonstrated(world.job, beat),
        now=world.now,
    )
    job, uid = world.job.metadata.name, world.job.metadata.uid
    crew = fleet.plan(job, uid, world.job.spec.robots.simulated.replicas, world.robots)

    since = office.inbox.now - office.written_at.get(uid, float("-inf"))
    counts = since >= pace.job(len(world.robots))
    made, assigned = await job_children.apply(office, world, run, crew), before.assignment
    refusal = made.refusal
    # Whatever holds up a pod, a version can be taken back.
    try:
        if world.line is not None:
            assigned = await apply_rollout(
                office, world, world.line, decision, evidence, counts=counts
            )
            await job_gates.apply(office, world, decision.state)
    except RefusedError as fault:
        refusal, decision = str(fault), Decision(State.of(before), ())
    facts = training_job.Facts(
        robots=fleet_figures(world),
        fleet=crew,
        learner=run,
        run=training_job.learner_status(world.job, made.begun, hash_, beat),
        state=decision.state,
        assignment=assigned,
        windows=windows,
        episodes=episodes_of(world),
        data_age=_data_age(office, world),
        streams_fault=world.streams_fault,
        storage_fault=job_clerk.storage_fault(office, world),
        robots_fault=robots_fault(world),
        refusal=refusal,
        later=made.later,
        taken=made.taken,
        patience=office.settings.patience_seconds,
    )
    after = training_job.status(world.job, facts, complete=complete or run.complete, now=world.now)
    wait = training_job.write_in(before, after, since, len(world.robots))
    await _tell(office, world, decision, after)
    if wait:
        office.wake_in(Key(Kind.TRAINING_JOB, name), wait)
    elif wait is not None:
        await office.cluster.write_status(Kind.TRAINING_JOB, world.job.metadata, after.dump())
        office.written_at[uid] = office.inbox.now
    _count(world, decision, after)
    _wake_orphans(office, world)
    if unmet := made.later or world.streams_fault:
        raise Retry(unmet)
    return _again(office, world, after)


def _learner_heard(office: Office, world: World) -> bool:
    if world.line is None:
        return True  # where nobody is heard, that says nothing of the learner
    at, since = world.line.feed.learner_at, office.inbox.heard_since
    return learner.heard(world.job.status.conditions, at, since, settling=world.settling)


def _data_age(office: Office, world: World) -> float | None:
    if world.line is None:
        return 0.0
    last, now = world.line.feed.last_outcome_at, office.inbox.now
    return training_job.data_age(last, world.line.listens_from or now, now)


def _again(office: Office, world: World, after: FleetTrainingJobStatus) -> float:
    """Seconds until the next look."""
    rollout = after.rollout
    moving = conditions.holds(after.conditions, ConditionType.RECONCILING)
    if moving or rollout.started_at is not None:
        return SOON
    doubted = (Reason.LEARNER_CRASHING, Reason.ROBOTS_FAILED, Reason.NAME_TAKEN)
    resync = office.settings.resync_seconds
    if rollout.opens_at is not None:
        opens = datetime.fromisoformat(rollout.opens_at).timestamp()
        resync = min(resync, max(SOON, opens - world.now))
    gated = any(gate.phase not in ENDED for gate in rollout.gates)
    watchful = gated or conditions.stalled_by(after.conditions, *doubted)
    return min(WATCHFUL, resync) if watchful else resync


def _wake_orphans(office: Office, world: World) -> None:
    """Robots that were enrolled before their job was applied."""
    for robot in world.robots:
        if conditions.waits_for(robot.status.conditions, Reason.JOB_NOT_FOUND):
            office.wake(Key(Kind.ROBOT_ACTOR, robot.metadata.name))


def _count(world: World, decision: Decision, after: FleetTrainingJobStatus) -> None:
    """For who reads metrics; after the status, which is what makes a move happen once."""
    at, line = world.job.metadata, world.line
    metrics.STATUSES[at.namespace, at.name] = by_status(after)
    ended = [move.phase for move in decision.moves]
    for phase in sorted(phases.ENDS):
        metrics.ROLLOUTS.labels(at.namespace, at.name, phase).inc(ended.count(phase))
    gates = [(gate.name, gate.phase) for gate in decision.gates]
    for gate, outcome in itertools.product(Gate, sorted(ENDED)):
        labels = (at.namespace, at.name, gate, outcome)
        metrics.GATES.labels(*labels).inc(gates.count((gate, outcome)))
    if line is not None:
        announced, state = line.feed.announcement, decision.state
        versions = {
            "announced": announced.policy if announced else None,
            "candidate": state.candidate,
            "stable": state.stable,
        }
        line.versions = {role: one.sequence for role, one in versions.items() if one}


async def _tell(office: Office, world: World, decision: Decision, after: Any) -> None:
    """Events for people: a version's fate, and the job's Ready or Stalled turning."""
    job = world.job.metadata
    said = [
        Told(move.reason, move.message, move.phase is PolicyPhase.ROLLED_BACK)
        for move in decision.moves
        if move.reason is not Reason.ANNOUNCED  # whatever becomes of it is told
    ]
    said += [Told(*note) for note in decision.notes]
    if world.line is not None:
        said += [Told(Reason.DOCUMENT_UNTRUSTED, one, True) for one in world.line.feed.doubts]
        world.line.feed.doubts = ()
    said += conditions.turned(world.job.status.conditions, after.conditions)
    for one in said:
        logger.info("%s: %s", job.name, one.message)
    await tell(office, world.raw, said)
