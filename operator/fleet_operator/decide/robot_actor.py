"""One robot: its pod and its status. Pure."""

from typing import Literal, NamedTuple

from fleet_contract.messages import Assignment, Heartbeat, PolicyRef
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Reason, policy_version
from fleet_contract.resources import RobotActor, RobotActorStatus, RobotMode, VersionRef
from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide import pace, policy_synced
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
    stalled_by,
    waits_for,
)
from fleet_operator.decide.pod import Pod
from fleet_operator.decide.training_job import rate


class Seen(NamedTuple):
    """What is known of the robot outside its own object."""

    job_exists: bool
    at_work: bool  # neither it nor its job is suspended
    template_hash: str = ""
    pod: Pod | None = None
    beat: Heartbeat | None = None
    connected: bool = False
    settling: bool = False  # we listen for too short a time to call it lost
    unread: bool = False  # what is stored of its job, the assignment too, has not been read yet
    assignment: Assignment | None = None
    success: float | None = None
    intervention: float | None = None
    refusal: str = ""
    taken: str = ""  # the pod of its name, where somebody else made it
    refused: tuple[str, str] = ("", "")  # (digest, why) of the last policy it would not take
    patience: float = PATIENCE


def pod_action(robot: RobotActor, seen: Seen) -> Literal["create", "delete", "keep"]:
    """What to do about the pod: one that is going must be gone before the next is made."""
    if robot.spec.mode is RobotMode.EXTERNAL:
        return "keep"
    wanted = seen.job_exists and seen.at_work and not seen.taken
    pod = seen.pod
    if pod is None:
        return "create" if wanted else "keep"
    if pod.deleting:
        return "keep"
    ended = pod.phase in {"Succeeded", "Failed"}
    ours = pod.owner_uid == robot.metadata.uid
    stale = pod.hash != seen.template_hash and seen.job_exists
    return "delete" if not wanted or ended or stale or not ours else "keep"


def status(robot: RobotActor, seen: Seen, now: float) -> RobotActorStatus:
    """The whole new status; counters as they are now."""
    before, beat = robot.status, seen.beat
    connected = seen.connected or (seen.settling and holds(before.conditions, C.CONNECTED))
    findings = _findings(robot, seen, now, connected=connected)
    conditions = settle(before.conditions, findings, robot.metadata.generation, now)
    fresh = RobotActorStatus(
        observed_generation=robot.metadata.generation,
        conditions=conditions,
        phase=_phase(robot, seen, connected=connected),
        active=before.active,
        pending=before.pending,
        last_seen=before.last_seen,
        episodes=before.episodes,
        success_rate=rate(seen.success) or before.success_rate,
        intervention_rate=rate(seen.intervention) or before.intervention_rate,
        spool_depth=before.spool_depth,
        last_known_good=before.last_known_good,
        guard_trips=before.guard_trips,
        template_hash=seen.pod.hash if seen.pod else "",
    )
    if beat is None or not seen.connected:
        return fresh
    return fresh.model_copy(
        update={
            "active": _version(robot.spec.job, beat.active),
            "pending": _version(robot.spec.job, beat.pending),
            "last_seen": now_rfc3339(now),
            "episodes": beat.episodes,
            "spool_depth": beat.spool_depth,
            "last_known_good": _version(robot.spec.job, beat.good),
            "guard_trips": beat.guard_trips,
        }
    )


_KEPT = frozenset({Reason.SAFE_STOP, Reason.POLICY_REFUSED, Reason.DOCUMENT_UNTRUSTED})
"""Reasons why it stands still that only itself tells."""
_COUNTERS = (
    *("last_seen", "episodes", "success_rate", "intervention_rate", "spool_depth"),
    *("last_known_good", "guard_trips"),
)


def write_in(
    before: RobotActorStatus, after: RobotActorStatus, since: float, robots: int | None
) -> float | None:
    """Seconds until it must be written, ``since`` seconds after the last write; None: never.

    A change of meaning at once; that it follows the fleet, and counters, when its turn among so
    many ``robots`` comes, and not before they are known; that it was merely seen again, never.
    """
    if _meant(before) != _meant(after):
        return 0.0
    if robots is None:
        return None
    if _followed(before) != _followed(after):
        return max(0.0, pace.following(robots) - since)
    seen = {"last_seen": None}
    if before.model_copy(update=seen) != after.model_copy(update=seen):
        return max(0.0, pace.counting(robots) - since)
    return None


def _followed(status: RobotActorStatus) -> RobotActorStatus:
    blank = {name: RobotActorStatus.model_fields[name].default for name in _COUNTERS}
    return status.model_copy(update=blank)


def _meant(status: RobotActorStatus) -> RobotActorStatus:
    kept = [
        one
        for one in status.conditions
        if one.type is not C.POLICY_SYNCED or one.reason not in pace.FOLLOWING
    ]
    following = {"active": None, "pending": None, "conditions": kept}
    return _followed(status).model_copy(update=following)


def _findings(robot: RobotActor, seen: Seen, now: float, *, connected: bool) -> list[Finding]:
    verdict = _verdict(robot, seen, now, connected=connected)
    heard = (
        Finding(C.CONNECTED, True, Reason.HEARTBEAT_RECEIVED, "It is heard of.")
        if connected
        else Finding(C.CONNECTED, False, Reason.HEARTBEAT_MISSING, "It is not heard of.")
    )
    why = "spec.suspend of the robot or of its job is true."
    suspended = Finding(C.SUSPENDED, not seen.at_work, Reason.SUSPENDED, why)
    spool = _spool_fault(robot, seen, connected=connected)
    full = Finding(C.SPOOL_FAILING, bool(spool), Reason.SPOOL_FAILED, spool)
    synced = policy_synced.finding(robot, seen)
    if _unsaid(seen, connected=connected):
        synced = as_it_was(robot.status.conditions, C.POLICY_SYNCED) or synced
    return [*verdict, heard, synced, full, *([suspended] if seen.job_exists else [])]


def _verdict(  # noqa: C901, PLR0911 - a list of rules, the first wins
    robot: RobotActor, seen: Seen, now: float, *, connected: bool
) -> list[Finding]:
    before = robot.status.conditions
    pod = seen.pod
    if not seen.job_exists:
        # Whoever applies both at once may bring the robot a moment before its job.
        waits = waits_for(before, Reason.JOB_NOT_FOUND)
        return impatient(
            lasted(before, C.READY, "False", now) if waits else 0.0,
            seen.patience,
            Reason.JOB_NOT_FOUND,
            f"There is no FleetTrainingJob {robot.spec.job} in this namespace: apply it, or "
            "delete this robot and enroll it for another.",
        )
    if seen.refusal:
        return stalled(Reason.APPLY_REFUSED, seen.refusal)
    if not seen.at_work:
        if pod is not None:
            return reconciling(Reason.SUSPENDED, "Its pod ends.")
        return [Finding(C.READY, True, Reason.SUSPENDED, "It is out of work, as asked.")]
    if seen.taken:
        return name_taken(before, seen.taken, seen.patience, now)
    if pod is not None and pod.image_fault:
        message = pod.without_image("spec.robots.simulated.image of its job")
        return stalled(Reason.IMAGE_PULL_FAILED, message)
    doubted = stalled_by(before, Reason.ROBOT_REFUSED, Reason.ROBOT_CRASHING) and not connected
    if pod is not None and (pod.crashing or (doubted and pod.shaky(now))):
        if pod.last is not None and pod.last.refused:
            return stalled(
                Reason.ROBOT_REFUSED,
                f"The robot cannot work as its job says: {pod.last.words} Correct spec.tasks or "
                "spec.robots.simulated of the job.",
            )
        return stalled(Reason.ROBOT_CRASHING, f"The robot ends again and again: {pod.why}")
    if robot.spec.mode is RobotMode.SIMULATED and (pod is None or not pod.running):
        why = pod.trouble if pod else ""
        return reconciling(Reason.POD_PENDING, f"Its pod does not run yet. {why}".strip())
    if not connected:
        return reconciling(
            Reason.HEARTBEAT_MISSING,
            "It does not send heartbeats: look whether it runs and reaches NATS.",
        )
    if spool := _spool_fault(robot, seen, connected=connected):
        since = lasted(before, C.SPOOL_FAILING, "True", now)
        return impatient(since, seen.patience, Reason.SPOOL_FAILED, spool)
    return _stands(robot, seen) or [Finding(C.READY, True, Reason.READY, "It is at work.")]


def _stands(robot: RobotActor, seen: Seen) -> list[Finding]:
    """It has no policy and will take none: nothing but another document gives it any."""
    drives = seen.beat is not None and seen.beat.active is not None
    said = as_it_was(robot.status.conditions, C.STALLED)
    if (seen.beat is None or seen.unread) and not drives and said and said.reason in _KEPT:
        return stalled(said.reason, said.message)
    if seen.beat is None or drives or (kept := policy_synced.kept_from(robot, seen)) is None:
        return []
    reason, why = kept
    return stalled(Reason.SAFE_STOP if reason is Reason.FELL_BACK else reason, why)


def _unsaid(seen: Seen, *, connected: bool) -> bool:
    """We began too lately to know what it runs, or should: what its status says of that stands."""
    return seen.unread or (connected and seen.beat is None)


def _spool_fault(robot: RobotActor, seen: Seen, *, connected: bool) -> str:
    if seen.beat is not None:
        return seen.beat.spool_fault
    said = as_it_was(robot.status.conditions, C.SPOOL_FAILING)
    return said.message if said and connected else ""


def _phase(robot: RobotActor, seen: Seen, *, connected: bool) -> str:
    if not seen.job_exists:
        return "NoJob"
    if not seen.at_work:
        return "Suspended"
    if not connected:
        return "Pending" if seen.pod and not seen.pod.running else "Offline"
    active = seen.beat.active if seen.beat else robot.status.active
    return "WaitingForPolicy" if active is None else "Running"


def _version(job: str, policy: PolicyRef | None) -> VersionRef | None:
    if policy is None:
        return None
    return VersionRef(
        name=policy_version(job, policy.sequence),
        sequence=policy.sequence,
        digest=policy.digest,
        uri=policy.uri,
    )
