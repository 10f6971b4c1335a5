"""One turn of a RobotActor: observe, decide, apply; the status last, if it is worth a write."""

from fleet_contract.names import ConditionType, Kind, Label, Reason, robot_pod
from fleet_contract.resources import FleetTrainingJob, RobotActor, RobotMode
from fleet_operator.cluster import RefusedError
from fleet_operator.decide import conditions, robot_actor
from fleet_operator.decide.pod import Pod
from fleet_operator.desired import robots as desired
from fleet_operator.desired.transport import resolve
from fleet_operator.office import Office

WATCHFUL = 10.0  # seconds between two looks at what crashed: nothing arrives when it goes on
DOUBTED = (Reason.ROBOT_CRASHING, Reason.ROBOT_REFUSED, Reason.NAME_TAKEN)
SOON = 2.0  # seconds until the next look at a pod that is on its way


async def reconcile(office: Office, name: str) -> float | None:
    """Returns the seconds until the next look; None when the robot is gone."""
    raw = await office.cluster.get(Kind.ROBOT_ACTOR, name)
    if raw is None:
        await _end_pod(office, name)
        return None
    robot = RobotActor.model_validate(raw)
    uid = robot.metadata.uid
    if robot.metadata.deletion_timestamp:
        return SOON
    found = await office.cluster.get(Kind.TRAINING_JOB, robot.spec.job)
    job = FleetTrainingJob.model_validate(found) if found else None
    seen = await _observe(office, robot, job)

    action = robot_actor.pod_action(robot, seen)
    try:
        if action == "delete" and seen.pod is not None:
            await office.cluster.delete("Pod", seen.pod.name, seen.pod.uid)
        elif action == "create" and job is not None:
            to = resolve(job, office.settings)
            await office.cluster.create(desired.robot_pod(job, robot, to))
    except RefusedError as fault:
        seen = seen._replace(refusal=str(fault))

    after = robot_actor.status(robot, seen, office.clock())
    now = office.inbox.now
    since = now - office.written_at.get(uid, float("-inf"))
    if robot_actor.worth_writing(robot.status, after, since):
        await office.cluster.write_status(Kind.ROBOT_ACTOR, robot.metadata, after.dump())
        office.written_at[uid] = now
        for told in conditions.turned(robot.status.conditions, after.conditions):
            await office.cluster.event(raw, told.reason, told.message, warning=told.warning)
    if action != "keep":
        return SOON
    doubted = conditions.stalled_by(after.conditions, *DOUBTED)
    doubted |= conditions.holds(after.conditions, ConditionType.SPOOL_FAILING)
    resync = office.settings.resync_seconds
    if not seen.job_exists and conditions.holds(after.conditions, ConditionType.RECONCILING):
        return min(office.settings.patience_seconds, resync)
    return min(WATCHFUL, resync) if doubted else resync


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
    found, taken = await office.cluster.get("Pod", robot_pod(name)), ""
    if found and found["metadata"].get("labels", {}).get(Label.ROBOT) != name:
        found, taken = None, f"Pod {robot_pod(name)}"  # it is not ours to delete either
    pod = Pod.of(found) if found else None
    if robot.spec.mode is RobotMode.EXTERNAL:
        taken = ""  # it needs none
    if job is None or job.metadata.deletion_timestamp:
        patience = office.settings.patience_seconds
        return robot_actor.Seen(
            job_exists=job is not None, at_work=False, pod=pod, patience=patience
        )
    feed = inbox.feed(job.metadata.name, job.metadata.uid)
    connected = feed is not None and feed.connected(name, uid, inbox.heard_since)
    success, intervention = feed.rates(name) if feed else (None, None)
    return robot_actor.Seen(
        job_exists=True,
        at_work=not robot.spec.suspend and not job.spec.suspend,
        template_hash=desired.template_hash(job, robot, resolve(job, office.settings)),
        pod=pod,
        beat=feed.heard[name].beat if feed and connected else None,
        connected=connected,
        settling=inbox.settling,
        assignment=feed.assignment if feed else None,
        success=success,
        intervention=intervention,
        taken=taken,
        refused=feed.refused.get(name, ("", "")) if feed else ("", ""),
        patience=office.settings.patience_seconds,
    )
