"""One turn of a FleetTrainingJob: observe, decide, apply; the status last, if it changed."""

import logging
from typing import Any, NamedTuple

from fleet_contract.errors import Retry
from fleet_contract.names import ConditionType, Kind, Label, Role
from fleet_contract.resources import (
    FleetTrainingJob,
    PolicyPhase,
    PolicyVersion,
    RobotActor,
    VersionRef,
)
from fleet_contract.resources.training_job import AssignmentStatus, RobotsStatus
from fleet_operator import metrics
from fleet_operator.cluster import Object, RefusedError
from fleet_operator.decide import (
    assignment,
    conditions,
    fleet,
    history,
    learner,
    policy_versions,
    robot_actor,
    training_job,
)
from fleet_operator.decide.analysis import Evidence, gather
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.rollout import Decision, Observed, State, decide
from fleet_operator.desired import learner as desired_learner
from fleet_operator.desired import policy_versions as desired_versions
from fleet_operator.desired import robots as desired_robots
from fleet_operator.desired.transport import Transport, resolve
from fleet_operator.handlers import endings
from fleet_operator.inbox import Subscription, publish_assignment
from fleet_operator.office import Office

logger = logging.getLogger(__name__)
SOON = 2.0  # seconds until the next look at something that is under way in the cluster


class World(NamedTuple):
    """What was observed."""

    job: FleetTrainingJob
    raw: Object
    to: Transport
    robots: tuple[RobotActor, ...]
    connected: frozenset[str]
    synced: frozenset[str]
    versions: tuple[PolicyVersion, ...]
    runs: tuple[learner.Run, ...]
    pods: tuple[learner.Pod, ...]
    line: Subscription | None
    streams_fault: str
    now: float


async def reconcile(office: Office, name: str) -> float | None:
    """Returns the seconds until the next look; None when the job is gone."""
    raw = await office.cluster.get(Kind.TRAINING_JOB, name)
    if raw is None:
        await endings.job_gone(office, name)
        return None
    if "deletionTimestamp" in raw["metadata"]:
        return SOON  # its children go by their owner references
    world = await _observe(office, raw)
    before = world.job.status

    windows: dict[str, tuple[int, int]] = {}
    decision, evidence = Decision(State.of(before), ()), Evidence()
    if world.line is not None:
        tasks = {task.name for task in world.job.spec.tasks}
        windows = world.line.feed.windows(tasks, world.job.spec.goal.min_episodes)
        evidence = _evidence(world)
        decision = decide(
            world.job.spec.rollout, State.of(before), _seen(world, evidence), world.now
        )
    complete = training_job.goal_reached(world.job, windows)
    hash_ = desired_learner.spec_hash(world.job)
    run = learner.plan(
        wanted=not world.job.spec.suspend and not complete,
        hash_=hash_,
        last_number=before.learner.run,
        runs=world.runs,
        pods=world.pods,
    )
    job, uid = world.job.metadata.name, world.job.metadata.uid
    crew = fleet.plan(job, uid, world.job.spec.robots.simulated.replicas, world.robots)

    refusal, assigned = "", before.assignment
    try:
        await _apply_children(office, world, run, crew)
    except RefusedError as fault:
        refusal = str(fault)
    if world.line is not None:
        assigned = await _apply_rollout(office, world, world.line, decision, evidence)
    beat = world.line.feed.learner if world.line else None
    facts = training_job.Facts(
        robots=_fleet_figures(world),
        fleet=crew,
        learner=run,
        spec_hash=hash_,
        stage=beat.stage.value if beat else before.learner.stage,
        step=beat.step if beat else before.learner.step,
        epoch=beat.epoch if beat else before.learner.epoch,
        state=decision.state,
        assignment=assigned,
        windows=windows,
        episodes=_episodes(world),
        data_age=office.inbox.now - world.line.feed.last_outcome_at if world.line else 0.0,
        streams_fault=world.streams_fault,
        refusal=refusal,
    )
    after = training_job.status(world.job, facts, complete=complete or run.complete, now=world.now)
    await _tell(office, world, decision, after)
    if after != before:
        await office.cluster.write_status(Kind.TRAINING_JOB, name, uid, after.dump())
    if world.streams_fault:
        raise Retry(world.streams_fault)
    moving = conditions.holds(after.conditions, ConditionType.RECONCILING)
    return SOON if moving or decision.state.candidate else office.settings.resync_seconds


async def _observe(office: Office, raw: Object) -> World:
    job = FleetTrainingJob.model_validate(raw)
    name, uid = job.metadata.name, job.metadata.uid
    cluster, inbox = office.cluster, office.inbox
    to = resolve(job, office.settings)
    line, fault = None, ""
    try:
        await endings.clear_namesakes(office, name, uid, to.nats_url)
        line = await inbox.open(
            name,
            uid,
            to.nats_url,
            events_from=job.status.rollout.events_from,
            check_every=office.settings.resync_seconds,
        )
    except Retry as unreachable:
        fault = str(unreachable)
    selector = f"{Label.JOB}={name},{Label.ROLE}={Role.LEARNER}"
    robots = tuple(
        RobotActor.model_validate(one)
        for one in await cluster.list(Kind.ROBOT_ACTOR, fieldSelector=f"spec.job={name}")
    )
    versions = tuple(
        PolicyVersion.model_validate(one)
        for one in await cluster.list(Kind.POLICY_VERSION, fieldSelector=f"spec.job={name}")
        if one["spec"]["jobUid"] == uid
    )
    runs = await cluster.list("Job", labelSelector=selector)
    pods = await cluster.list("Pod", labelSelector=selector)
    if line is not None:
        line.robots = tuple(robot.metadata.name for robot in robots)
    there: list[str] = []
    synced: list[str] = []
    for robot in robots:
        at = robot.metadata
        if line is None or not line.feed.connected(at.name, at.uid, inbox.heard_since):
            before = conditions.holds(robot.status.conditions, ConditionType.CONNECTED)
            there += [at.name] if inbox.settling and before else []
            continue
        there.append(at.name)
        beat = line.feed.heard[at.name].beat
        if robot_actor.synced(at.name, beat, line.feed.assignment):
            synced.append(at.name)
    return World(
        job,
        raw,
        to,
        robots,
        frozenset(there),
        frozenset(synced),
        versions,
        tuple(learner.Run.of(one, uid) for one in runs),
        tuple(learner.Pod.of(one) for one in pods),
        line,
        fault,
        office.clock(),
    )


def _evidence(world: World) -> Evidence:
    rollout = world.job.status.rollout
    if world.line is None or rollout.candidate is None:
        return Evidence()
    return gather(
        world.line.feed.events,
        start=rollout.events_from,
        digest=rollout.candidate.digest,
        robots=frozenset(rollout.robots),
    )


def _seen(world: World, evidence: Evidence) -> Observed:
    assert world.line is not None  # noqa: S101 - the caller asked
    feed = world.line.feed
    announced = feed.announcement
    return Observed(
        announced=desired_versions.version_ref(world.job.metadata.name, announced)
        if announced
        else None,
        robots=_robots(world),
        evidence=evidence,
        last_event=max(feed.last_event, world.line.last_event),
        request=world.job.metadata.annotations.get(Label.REQUEST, ""),
    )


def _robots(world: World) -> tuple[Robot, ...]:
    return tuple(
        Robot(
            one.metadata.name,
            connected=one.metadata.name in world.connected,
            suspended=one.spec.suspend,
            pin=one.spec.pin,
        )
        for one in world.robots
        if one.metadata.deletion_timestamp is None
    )


def _fleet_figures(world: World) -> RobotsStatus:
    desired = {
        robot.metadata.name
        for robot in world.robots
        if not robot.spec.suspend and robot.metadata.deletion_timestamp is None
    }
    if world.job.spec.suspend:
        desired = {one for one in desired if one in world.connected}
    return RobotsStatus(
        desired=len(desired),
        connected=len(desired & world.connected),
        synced=len(desired & world.synced),
    )


def _episodes(world: World) -> int:
    """About: from the robots' own counters, as last heard."""
    if world.line is None:
        return world.job.status.episodes
    heard = world.line.feed.heard
    total = sum(heard[robot].beat.episodes for robot in world.connected if robot in heard)
    return max(total, world.job.status.episodes)


async def _apply_children(
    office: Office, world: World, run: learner.LearnerPlan, crew: fleet.FleetPlan
) -> None:
    cluster = office.cluster
    for old in run.delete:
        await cluster.delete("Job", old.name, old.uid, foreground=True)
    # Without streams a learner has nothing to read; they come first.
    if run.create and world.line is not None:
        await cluster.create(desired_learner.learner_job(world.job, run.number, world.to))
    for index in crew.create:
        await cluster.create(desired_robots.simulated_robot(world.job, index))
    for robot in crew.delete:
        await cluster.delete(Kind.ROBOT_ACTOR, robot.metadata.name, robot.metadata.uid)


async def _apply_rollout(
    office: Office, world: World, line: Subscription, decision: Decision, evidence: Evidence
) -> AssignmentStatus:
    """Versions first, for an assignment must not name what does not exist; then the document."""
    job, spec = world.job, world.job.spec.rollout
    versions = {one.spec.sequence: one for one in world.versions}
    pinned = frozenset(
        pin for pin in (spec.pinned_version, *(one.spec.pin for one in world.robots)) if pin
    )
    announced = line.feed.announcement
    new = {move.version.sequence for move in decision.moves if move.phase is PolicyPhase.CANDIDATE}
    if announced and announced.policy.sequence in (new | pinned) - versions.keys():
        made = await office.cluster.create(desired_versions.policy_version(job, announced))
        if made is None:
            name = desired_versions.version_ref(job.metadata.name, announced).name
            made = await office.cluster.get(Kind.POLICY_VERSION, name)
        if made is None or made["spec"]["jobUid"] != job.metadata.uid:
            raise Retry(f"PolicyVersion {announced.policy.sequence} of an earlier job still exists")
        fresh = PolicyVersion.model_validate(made)
        versions[fresh.spec.sequence] = fresh
    refs = {
        sequence: VersionRef(
            name=one.metadata.name, sequence=sequence, digest=one.spec.digest, uri=one.spec.uri
        )
        for sequence, one in versions.items()
    }
    wanted = assignment.content(spec, decision.state, _robots(world), refs)
    known, feed = job.status.assignment, line.feed
    document = assignment.next_document(wanted, feed.assignment, known, job.metadata.uid, world.now)
    if document is not None:
        await publish_assignment(office.inbox, line, document)
    changed = policy_versions.statuses(versions.values(), decision, evidence, pinned, world.now)
    for sequence, status in changed.items():
        at = versions[sequence].metadata
        await office.cluster.write_status(Kind.POLICY_VERSION, at.name, at.uid, status.dump())
    await _prune(office, world, versions.values(), decision.state, pinned)
    if (said := feed.assignment) is None:
        return known
    return AssignmentStatus(
        term=said.term,
        generation=said.generation,
        epoch=max(said.epoch, known.epoch),
        content_hash=wanted.hash,
    )


async def _prune(
    office: Office, world: World, versions: Any, state: State, pinned: frozenset[int]
) -> None:
    used = set(pinned)
    used |= {one.sequence for one in (state.stable, state.candidate) if one}
    for robot in world.robots:
        used |= {one.sequence for one in (robot.status.active, robot.status.pending) if one}
    by_sequence = {one.spec.sequence: one for one in versions}
    keep = world.job.spec.history.versions
    for sequence in history.surplus(by_sequence, keep=keep, used=used):
        at = by_sequence[sequence].metadata
        await office.cluster.delete(Kind.POLICY_VERSION, at.name, at.uid)


async def _tell(office: Office, world: World, decision: Decision, after: Any) -> None:
    """Events for people: a version's fate, and the job's Ready or Stalled turning."""
    job = world.job.metadata
    said: list[tuple[str, str, bool]] = [
        (move.reason.value, move.message, move.phase is PolicyPhase.ROLLED_BACK)
        for move in decision.moves
        if move.phase is not PolicyPhase.CANDIDATE
    ]
    before = {one.type: one.status for one in world.job.status.conditions}
    turned = [
        (one.reason, one.message, one.type is ConditionType.STALLED)
        for one in after.conditions
        if one.status == "True"
        and before.get(one.type) != "True"
        and one.type in {ConditionType.READY, ConditionType.STALLED, ConditionType.COMPLETE}
    ]
    for reason, message, warning in (*said, *turned):
        logger.info("%s: %s", job.name, message)
        await office.cluster.event(world.raw, reason, message, warning=warning)
    stable, candidate = decision.state.stable, decision.state.candidate
    for role, version in (("stable", stable), ("candidate", candidate)):
        gauge = metrics.POLICY_SEQUENCE.labels(job.namespace, job.name, role)
        gauge.set(version.sequence if version else 0)
