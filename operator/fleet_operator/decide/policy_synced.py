"""Whether a robot runs what it is assigned, and why it does not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_contract.names import TRUST, Reason
from fleet_contract.names import ConditionType as C
from fleet_operator.decide.conditions import Finding

if TYPE_CHECKING:
    from fleet_contract.messages import Assignment, Heartbeat
    from fleet_contract.resources import RobotActor
    from fleet_operator.decide.robot_actor import Seen


def synced(robot: str, beat: Heartbeat | None, assignment: Assignment | None) -> bool:
    """Whether the robot runs what the document gives it."""
    assigned = assignment.policy_for(robot) if assignment else None
    active = beat.active if beat else None
    return assigned is not None and active is not None and active.digest == assigned.digest


def finding(robot: RobotActor, seen: Seen) -> Finding:
    """PolicySynced by what is known."""
    assigned = seen.assignment.policy_for(robot.metadata.name) if seen.assignment else None
    if assigned is None:
        return Finding(C.POLICY_SYNCED, None, Reason.NOT_ASSIGNED, "No version is assigned yet.")
    if robot.spec.pin is not None and robot.spec.pin != assigned.sequence:
        return Finding(
            C.POLICY_SYNCED,
            False,
            Reason.NOT_ASSIGNED,
            f"Version {robot.spec.pin}, to which it is pinned, is not known.",
        )
    active = seen.beat.active if seen.beat else None
    if active and active.digest == assigned.digest:
        return Finding(
            C.POLICY_SYNCED, True, Reason.ON_ASSIGNED_VERSION, "It runs what it is assigned."
        )
    if kept := kept_from(robot, seen):
        return Finding(C.POLICY_SYNCED, False, *kept)
    if seen.beat and seen.beat.policy_fault:
        return Finding(C.POLICY_SYNCED, False, Reason.POLICY_UNREACHABLE, seen.beat.policy_fault)
    return Finding(
        C.POLICY_SYNCED,
        False,
        Reason.AWAITING_EPISODE_END,
        f"It takes version {assigned.sequence} up when its episode ends.",
    )


def kept_from(robot: RobotActor, seen: Seen) -> tuple[Reason, str] | None:
    """Why it does not do as the last document says; None where it has not said so."""
    if why := _fell_back(robot, seen):
        return Reason.FELL_BACK, why
    if why := _refused(robot, seen):
        return Reason.POLICY_REFUSED, why
    if seen.beat is None or not seen.beat.document_fault:
        return None
    return Reason.DOCUMENT_UNTRUSTED, (
        f"It did not believe the last assignment document: {seen.beat.document_fault}. It keeps "
        f"what it has: see that it holds the public keys of ConfigMap {TRUST}, and the right time."
    )


def _fell_back(robot: RobotActor, seen: Seen) -> str:
    """Why it stopped what it is assigned; empty where it did not."""
    assigned = seen.assignment.policy_for(robot.metadata.name) if seen.assignment else None
    fallback = seen.beat.fallback if seen.beat else None
    if assigned is None or fallback is None or assigned.digest != fallback.policy.digest:
        return ""
    now = "rests in a safe stop" if seen.beat is None or seen.beat.active is None else "goes on"
    return (
        f"It stopped version {assigned.sequence} by itself and {now}: {fallback.why}. Take that "
        "version back; a newer version, or a newer assignment of this one, sets it going."
    )


def _refused(robot: RobotActor, seen: Seen) -> str:
    """Why it does not take what it is assigned; empty where it has not said so."""
    assigned = seen.assignment.policy_for(robot.metadata.name) if seen.assignment else None
    digest, why = seen.refused
    if assigned is None or assigned.digest != digest:
        return ""
    return (
        f"It refused version {assigned.sequence}: {why}; it keeps what it has. Take that version "
        "back, or give the robot to a job whose policy is made for it."
    )
