"""What one turn of a job sees: its objects, its line to the broker, who is connected."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.names import ConditionType, Kind, Label, Reason, Role
from fleet_contract.resources import FleetTrainingJob, PolicyVersion, RobotActor, RolloutStatus
from fleet_contract.resources.job_status import RobotsStatus
from fleet_operator.cluster import Object, RefusedError
from fleet_operator.decide import (
    bounded,
    conditions,
    identities,
    learner,
    policy_synced,
    training_job,
)
from fleet_operator.decide.analysis import Evidence, Fold, Scope
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.pod import Pod
from fleet_operator.decide.rollout import Known, Observed
from fleet_operator.desired import policy_versions as desired_versions
from fleet_operator.desired.transport import Transport, resolve
from fleet_operator.handlers import endings
from fleet_operator.office import Office
from fleet_operator.subscription import Enrolled, Subscription


class World(NamedTuple):
    """What was observed."""

    job: FleetTrainingJob
    raw: Object
    to: Transport
    robots: tuple[RobotActor, ...]
    connected: frozenset[str]
    unheard: frozenset[str]  # of these, who was connected before our start and may be still
    synced: frozenset[str]  # as they said themselves
    settling: bool  # we listen for too short a time to call anybody silent
    versions: tuple[PolicyVersion, ...]
    runs: tuple[learner.Run, ...]
    pods: tuple[Pod, ...]
    gate_runs: tuple[learner.Run, ...]
    gate_pods: tuple[Pod, ...]
    clerks: tuple[learner.Run, ...]
    clerk_pods: tuple[Pod, ...]
    line: Subscription | None
    streams_fault: str
    keys_fault: str
    freeze: str
    now: float


async def observe(office: Office, raw: Object) -> World:
    job = FleetTrainingJob.model_validate(raw)
    name, uid = job.metadata.name, job.metadata.uid
    cluster, inbox = office.cluster, office.inbox
    to = resolve(job, office.settings)
    line, fault, keyless = None, "", ""
    try:
        inbox.keys = await office.keys.ring()
    except RefusedError as refused:
        keyless = str(refused)
    try:
        if inbox.keys is None:
            raise RefusedError(keyless)  # noqa: TRY301 - nothing can be read without them
        if office.identities is not None and to.accounts:
            for one in identities.of_job(job):
                await office.identities.settle(identities.entry(one.user), one.user)
        installation = await cluster.installation()
        await endings.clear_namesakes(office, name, uid, to.nats_url)
        line = await inbox.open(
            name,
            uid,
            to.nats_url,
            installation=installation,
            events_from=_events_from(job.status.rollout),
            check_every=office.settings.resync_seconds,
        )
    except (Retry, RefusedError) as unreachable:
        fault = str(unreachable)
    roles = f"{Role.LEARNER},{Role.GATE},{Role.CLERK}"
    selector = f"{Label.JOB}={name},{Label.ROLE} in ({roles})"
    robots = tuple(
        RobotActor.model_validate(one)
        for one in await cluster.list(Kind.ROBOT_ACTOR, fieldSelector=f"spec.job={name}")
    )
    versions = tuple(
        PolicyVersion.model_validate(one)
        for one in await _versions(office, name, _told_of(job, line))
        if one["spec"]["jobUid"] == uid
    )
    runs = await cluster.list("Job", labelSelector=selector)
    pods = await cluster.list("Pod", labelSelector=selector)
    if (known := inbox.get(name)) is not None:
        known.tasks = frozenset(task.name for task in job.spec.tasks)
        known.robots = {one.metadata.name: enrolled(one, job) for one in robots}
        known.feed.only(known.robots.keys())
        if line is not None:
            inbox.has_read(known)
    settling = inbox.settling(name)
    heard, before = _roll_call(line, robots, inbox.heard_since)
    unheard = before.difference(heard) if settling else frozenset[str]()
    return World(
        job,
        raw,
        to,
        robots,
        unheard.union(heard),
        unheard,
        frozenset(name for name, synced in heard.items() if synced),
        settling,
        versions,
        tuple(learner.Run.of(one, uid) for one in runs if _is(one, Role.LEARNER)),
        tuple(Pod.of(one) for one in pods if _is(one, Role.LEARNER)),
        tuple(learner.Run.of(one, uid) for one in runs if _is(one, Role.GATE)),
        tuple(Pod.of(one) for one in pods if _is(one, Role.GATE)),
        tuple(learner.Run.of(one, uid) for one in runs if _is(one, Role.CLERK)),
        tuple(Pod.of(one) for one in pods if _is(one, Role.CLERK)),
        line,
        fault,
        keyless,
        await cluster.freeze(),
        office.clock(),
    )


def _roll_call(
    line: Subscription | None, robots: Iterable[RobotActor], since: float
) -> tuple[dict[str, bool], frozenset[str]]:
    """Who is heard of, and whether it runs what it is assigned; and who was, by its status."""
    heard, before = {}, []
    for robot in robots:
        at = robot.metadata
        if conditions.holds(robot.status.conditions, ConditionType.CONNECTED):
            before.append(at.name)
        if line is not None and line.feed.connected(at.name, at.uid, since):
            beat, assigned = line.feed.heard[at.name].beat, line.feed.assignment
            heard[at.name] = policy_synced.synced(at.name, beat, assigned)
    return heard, frozenset(before)


def _told_of(job: FleetTrainingJob, line: Subscription | None) -> set[int]:
    """Versions whose fate is said once: a list that may be an old one must not decide it."""
    told, document = set[int](), line.feed.assignment if line else None
    if (candidate := job.status.rollout.candidate) is not None:
        told.add(candidate.sequence)
    if document is not None and document.fallback is not None and not job.status.last_sequence:
        told.add(document.fallback.sequence)  # the first, perhaps: see `State.unsaid`
    return told


async def _versions(office: Office, job: str, told_of: Iterable[int]) -> list[Object]:
    """What is listed, and of ``told_of`` what is not is asked for by name."""
    found = await office.cluster.list(Kind.POLICY_VERSION, fieldSelector=f"spec.job={job}")
    listed = {one["metadata"]["name"] for one in found}
    for name in sorted({names.policy_version(job, number) for number in told_of} - listed):
        if (one := await office.cluster.get(Kind.POLICY_VERSION, name)) is not None:
            found.append(one)
    return found


def _is(child: Object, role: Role) -> bool:
    return bool(child["metadata"]["labels"][Label.ROLE] == role)


def _events_from(rollout: RolloutStatus) -> int:
    """The first event that still counts; 0: none does."""
    gates = [gate.events_from for gate in rollout.gates if gate.events_from]
    trial = rollout.trial_from or rollout.events_from
    return min([*gates, trial] if trial else gates, default=0)


def enrolled(robot: RobotActor, job: FleetTrainingJob) -> Enrolled:
    seen = robot.status.last_seen
    return Enrolled(
        robot.metadata.uid,
        datetime.fromisoformat(seen).timestamp() if seen else None,
        suspended=robot.spec.suspend or job.spec.suspend,
    )


def evidence_of(world: World, now: float) -> Evidence:
    """Of the candidate's cohort; while a promoted version is under watch, of the whole fleet.

    ``now`` is the inbox's. Against it stands the stable version, or the one before it.
    """
    status, rollout = world.job.status, world.job.status.rollout
    of, against, robots = rollout.candidate, status.stable, frozenset(rollout.robots)
    if rollout.watching:
        of, against = status.stable, next(reversed(status.last_known_good), None)
        robots = frozenset(one.metadata.name for one in world.robots)
    if world.line is None or of is None:
        return Evidence()
    scope = Scope(
        digest=of.digest,
        robots=robots,
        start=rollout.events_from,
        trial=min(rollout.trial_from or rollout.events_from, rollout.events_from),
        stable=against.digest if against else "",
    )
    line = world.line
    if line.fold is None or line.fold.scope != scope or line.fold.through > line.feed.last_event:
        line.fold = Fold(scope)
    evidence = line.fold.extend(line.feed.since(line.fold.through)).evidence()
    heard = [line.feed.ended[robot] for robot in scope.robots if robot in line.feed.ended]
    return evidence._replace(silence=now - max(heard, default=now))


def seen_by(world: World, evidence: Evidence) -> Observed:
    assert world.line is not None  # noqa: S101 - the caller asked
    feed = world.line.feed
    announced = feed.announcement
    return Observed(
        announced=desired_versions.version_ref(world.job.metadata.name, announced)
        if announced
        else None,
        robots=robots_of(world),
        evidence=evidence,
        last_event=max(feed.last_event, world.line.last_event),
        request=training_job.fresh(
            world.job.metadata.annotations.get(Label.REQUEST, ""), world.job.status
        ),
        known={
            one.spec.sequence: Known(desired_versions.ref(one), one.status.phase)
            for one in world.versions
        },
        freeze=world.freeze,
        suspended=world.job.spec.suspend,
    )


def robots_of(world: World) -> tuple[Robot, ...]:
    return tuple(
        Robot(
            one.metadata.name,
            connected=one.metadata.name in world.connected,
            suspended=one.spec.suspend,
            pin=one.spec.pin,
            site=one.spec.site,
            groups=tuple(one.spec.groups),
            away=conditions.lasted(
                one.status.conditions, ConditionType.CONNECTED, "False", world.now
            ),
        )
        for one in world.robots
        if one.metadata.deletion_timestamp is None
    )


def fleet_figures(world: World) -> RobotsStatus:
    desired = {
        robot.metadata.name
        for robot in world.robots
        if not robot.spec.suspend and robot.metadata.deletion_timestamp is None
    }
    if world.job.spec.suspend:
        desired = {one for one in desired if one in world.connected}
    # Of who is not heard of yet it is not known: as it was, as far as that can be.
    synced, unheard = len(desired & world.synced), len(desired & world.unheard)
    before = world.job.status.robots.synced
    return RobotsStatus(
        desired=len(desired),
        connected=len(desired & world.connected),
        synced=min(max(before, synced), synced + unheard),
    )


def robots_fault(world: World) -> str:
    """Of the first robot that is Stalled and not connected; empty where none is."""
    for robot in world.robots:
        why = robot.status.condition(ConditionType.STALLED)
        # A robot that missed its job has not been looked at since the job is here.
        if why is None or why.reason == Reason.JOB_NOT_FOUND:
            continue
        if robot.metadata.name not in world.connected:
            return f"{robot.metadata.name}: {why.message}"
    return ""


def episodes_of(world: World) -> int:
    """About: from the robots' own counters, as last heard."""
    if world.line is None:
        return world.job.status.episodes
    heard = world.line.feed.heard
    total = sum(heard[robot].beat.episodes for robot in world.connected if robot in heard)
    return max(min(total, bounded.MOST), world.job.status.episodes)
