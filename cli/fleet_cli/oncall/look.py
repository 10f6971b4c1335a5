"""Objects → views: what is shown of jobs, robots and versions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_cli.oncall import views
from fleet_cli.oncall.world import since
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Reason
from fleet_contract.resources import RolloutPhase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_contract.resources import (
        Condition,
        FleetTrainingJob,
        PolicyVersion,
        RobotActor,
        Status,
    )

WELL = frozenset({Reason.AWAITING_EPISODE_END.value, Reason.NOT_ASSIGNED.value})
"""Reasons for which a robot that is not on its version is in no trouble."""


def job(found: FleetTrainingJob, now: float) -> views.Job:
    """One line of ``fleet get``."""
    status, ready = found.status, found.status.condition(C.READY)
    rollout = status.rollout
    staged = rollout.candidate is not None and bool(rollout.robots)
    step = f"{rollout.step + 1}/{len(found.spec.rollout.steps)}" if staged else ""
    return views.Job(
        name=found.metadata.name,
        namespace=found.metadata.namespace,
        phase=status.phase,
        ready=ready.status if ready else "Unknown",
        reason=ready.reason if ready else "",
        message=ready.message if ready else "No operator has looked at it yet.",
        stable=status.stable.sequence if status.stable else None,
        candidate=rollout.candidate.sequence if rollout.candidate else None,
        stage="gate" if rollout.phase is RolloutPhase.GATED else step,
        robots=views.Fleet(
            desired=status.robots.desired,
            connected=status.robots.connected,
            synced=status.robots.synced,
        ),
        success_rate=status.success_rate,
        age=since(found.metadata.creation_timestamp, now) or 0.0,
    )


def robot(found: RobotActor, now: float) -> views.Robot:
    """One line of ``fleet robots list``."""
    status, spec = found.status, found.spec
    return views.Robot(
        name=found.metadata.name,
        job=spec.job,
        mode=spec.mode.value,
        phase=status.phase,
        connected=holds(status, C.CONNECTED),
        synced=holds(status, C.POLICY_SYNCED),
        version=status.active.sequence if status.active else None,
        pending=status.pending.sequence if status.pending else None,
        pin=spec.pin,
        success_rate=status.success_rate,
        intervention_rate=status.intervention_rate,
        spool_depth=status.spool_depth,
        last_seen=since(status.last_seen, now),
        trouble=trouble(found),
        site=spec.site,
        groups=list(spec.groups),
        age=since(found.metadata.creation_timestamp, now) or 0.0,
    )


def trouble(found: RobotActor) -> str:
    """What is wrong with a robot, in a sentence; empty where nothing is."""
    status = found.status
    if found.spec.suspend:
        return ""
    if (stalled := status.condition(C.STALLED)) is not None:
        return stalled.message
    if status.observed_generation < 0:
        return "No operator has looked at it yet."
    connected = status.condition(C.CONNECTED)
    if connected is not None and connected.status == "False" and not holds(status, C.SUSPENDED):
        ready = status.condition(C.READY)
        return ready.message if ready and ready.message else connected.message
    for type_ in (C.SPOOL_FAILING, C.POLICY_SYNCED):
        one = status.condition(type_)
        wrong = "True" if type_ is C.SPOOL_FAILING else "False"
        if one is not None and one.status == wrong and one.reason not in WELL:
            return one.message
    return ""


def version(found: PolicyVersion, stable: int | None, now: float) -> views.Version:
    """One line of ``fleet history``."""
    status = found.status
    return views.Version(
        name=found.metadata.name,
        version=found.spec.sequence,
        phase=status.phase.value,
        stable=found.spec.sequence == stable,
        step=found.spec.learner_step,
        robots=status.cohort.robots,
        episodes=status.cohort.episodes,
        success_rate=status.success_rate,
        message=status.message,
        age=since(found.metadata.creation_timestamp, now) or 0.0,
    )


def history(
    found: FleetTrainingJob, versions: Iterable[PolicyVersion], now: float
) -> views.History:
    """Newest first."""
    stable = found.status.stable.sequence if found.status.stable else None
    newest = sorted(versions, key=lambda one: one.spec.sequence, reverse=True)
    return views.History(
        job=found.metadata.name,
        items=[version(one, stable, now) for one in newest],
        rolled_back=found.status.rolled_back,
    )


def holds(status: Status, type_: C) -> bool:
    """Whether a condition is there and True."""
    found: Condition | None = status.condition(type_)
    return found is not None and found.status == "True"
