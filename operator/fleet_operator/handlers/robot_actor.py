"""One turn of a RobotActor: observe, decide, apply; the status last, if it is worth a write."""

import random

from fleet_contract import logs, names
from fleet_contract.identity import User
from fleet_contract.names import ConditionType, Identity, Kind, Label, Reason, robot_pod
from fleet_contract.resources import FleetTrainingJob, RobotActor, RobotActorStatus, RobotMode
from fleet_operator.cluster import Object, RefusedError
from fleet_operator.decide import conditions, identities, pace, robot_actor
from fleet_operator.decide.pod import Pod
from fleet_operator.desired import robots as desired
from fleet_operator.desired.transport import resolve
from fleet_operator.handlers.telling import tell
from fleet_operator.office import Office
from fleet_operator.work import Key

WATCHFUL = 10.0  # seconds between two looks at what crashed: nothing arrives when it goes on
DOUBTED = (Reason.ROBOT_CRASHING, Reason.ROBOT_REFUSED, Reason.NAME_TAKEN)
SOON = 2.0  # seconds until the next look at a pod that is on its way


async def reconcile(office: Office, name: str) -> float | None:
    """Returns the seconds until the next look; None when the robot is gone."""
    raw = await office.cluster.get(Kind.ROBOT_ACTOR, name)
    if raw is None:
        await _end_pod(office, name)
        await _identify(office, name, None)
        return None
    robot = RobotActor.model_validate(raw)
    if robot.metadata.deletion_timestamp:
        return SOON
    with logs.about(job=robot.spec.job):
        return await _look(office, raw, robot)


async def _look(office: Office, raw: Object, robot: RobotActor) -> float:
    job = await office.job(robot.spec.job)
    seen = await _observe(office, robot, job)
    if job is not None and resolve(job, office.settings).accounts:
        user = identities.of_robot(robot, job).user
        await _identify(office, user.name, user)

    action = robot_actor.pod_action(robot, seen)
    try:
        if action == "delete" and seen.pod is not None:
            await office.cluster.delete("Pod", seen.pod.name, seen.pod.uid)
        elif action == "create" and job is not None and await _lives(office, robot):
            to = resolve(job, office.settings)
            await office.cluster.create(desired.robot_pod(job, robot, to))
    except RefusedError as fault:
        seen = seen._replace(refusal=str(fault))

    after = robot_actor.status(robot, seen, office.clock())
    await _write(office, raw, robot, after, unread=seen.unread)
    if action != "keep":
        return SOON
    doubted = conditions.stalled_by(after.conditions, *DOUBTED)
    doubted |= conditions.holds(after.conditions, ConditionType.SPOOL_FAILING)
    resync = office.settings.resync_seconds
    if not seen.job_exists and conditions.holds(after.conditions, ConditionType.RECONCILING):
        return min(office.settings.patience_seconds, resync)
    if doubted:
        return min(WATCHFUL, resync)
    return pace.resync(office.fleet(robot.spec.job), resync)


async def _write(
    office: Office, raw: Object, robot: RobotActor, after: RobotActorStatus, *, unread: bool
) -> None:
    """Its status, if it is worth a write now; where it will be later, another look then."""
    at, now, since = robot.metadata, office.inbox.now, 0.0
    robots = None if unread else office.fleet(robot.spec.job)
    if robots is not None:
        # Of one that was written before our time, the turn among the others may be anywhere.
        earlier = now - random.uniform(0, pace.counting(robots))  # noqa: S311 - no secret
        since = now - office.written_at.setdefault(at.uid, earlier)
    wait = robot_actor.write_in(robot.status, after, since, robots)
    if wait:
        office.wake_in(Key(Kind.ROBOT_ACTOR, at.name), wait)
    elif wait is not None:
        await tell(office, raw, conditions.turned(robot.status.conditions, after.conditions))
        await office.cluster.write_status(Kind.ROBOT_ACTOR, at, after.dump())
        office.written_at[at.uid] = now


async def _identify(office: Office, name: str, user: User | None) -> None:
    """It is somebody at the broker, or, None, nobody any more. Raises ``Retry``."""
    if office.identities is not None:
        await office.identities.settle(names.user(Identity.ROBOT, name), user)


async def _lives(office: Office, robot: RobotActor) -> bool:
    """Looked at once more: its pod may be missing because the robot went since we read it."""
    found = await office.cluster.get(Kind.ROBOT_ACTOR, robot.metadata.name)
    return found is not None and found["metadata"]["uid"] == robot.metadata.uid


async def _end_pod(office: Office, name: str) -> None:
    """Of a robot that is gone; the garbage collector would do it too, but may take its time."""
    found = await office.cluster.get("Pod", robot_pod(name))
    if found and found["metadata"].get("labels", {}).get(Label.ROBOT) == name:
        pod = Pod.of(found)
        if not pod.deleting:
            await office.cluster.delete("Pod", pod.name, pod.uid)


async def _observe(
    office: Office, robot: RobotActor, job: FleetTrainingJob | None
) -> robot_actor.Seen:
    name, uid, inbox = robot.metadata.name, robot.metadata.uid, office.inbox
    pod, taken = None, ""
    if robot.spec.mode is RobotMode.SIMULATED:
        found = await office.cluster.get("Pod", robot_pod(name))
        if found and found["metadata"].get("labels", {}).get(Label.ROBOT) != name:
            found, taken = None, f"Pod {robot_pod(name)}"  # it is not ours to delete either
        pod = Pod.of(found) if found else None
    if job is None or job.metadata.deletion_timestamp:
        patience = office.settings.patience_seconds
        return robot_actor.Seen(
            job_exists=job is not None, at_work=False, pod=pod, patience=patience
        )
    feed = inbox.feed(job.metadata.name, job.metadata.uid)
    connected = feed is not None and feed.connected(name, uid, inbox.heard_since)
    line = inbox.read(job.metadata.name, job.metadata.uid, name)
    success, intervention = line.feed.rates(name) if line else (None, None)
    return robot_actor.Seen(
        job_exists=True,
        at_work=not robot.spec.suspend and not job.spec.suspend,
        template_hash=desired.template_hash(job, robot, resolve(job, office.settings)),
        pod=pod,
        beat=feed.heard[name].beat if feed and connected else None,
        connected=connected,
        settling=inbox.settling(job.metadata.name),
        unread=line is None,
        assignment=line.feed.assignment if line else None,
        success=success,
        intervention=intervention,
        taken=taken,
        refused=line.feed.refused.get(name, ("", "")) if line else ("", ""),
        patience=office.settings.patience_seconds,
    )
