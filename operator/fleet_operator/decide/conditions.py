"""Conditions by the rules of kstatus. Pure.

Every object has exactly one Ready; Reconciling and Stalled are there only while true.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from fleet_contract.names import ConditionType as C
from fleet_contract.names import Reason
from fleet_contract.resources import Condition
from fleet_contract.resources.base import now_rfc3339

PATIENCE = 30.0
"""Seconds that what heals by itself, a broker or a store on its way back, may take before the
object counts as Stalled. Until then it is Reconciling."""
_SHOWN_ONLY_WHILE_TRUE = frozenset(
    {C.RECONCILING, C.STALLED, C.SUSPENDED, C.COMPLETE, C.STORAGE_FAILING, C.SPOOL_FAILING}
)
_TOLD = frozenset({C.READY, C.STALLED, C.COMPLETE})
_REASONS = frozenset(Reason)


class Finding(NamedTuple):
    """One condition before it is dated."""

    type: C
    holds: bool | None  # None: unknown
    reason: Reason
    message: str = ""


class Told(NamedTuple):
    """An Event for people."""

    reason: str
    message: str
    warning: bool


def stalled(reason: Reason, message: str) -> list[Finding]:
    """It cannot go on before somebody does as the message says."""
    return [Finding(C.READY, False, reason, message), Finding(C.STALLED, True, reason, message)]


def reconciling(reason: Reason, message: str) -> list[Finding]:
    """It is on its way."""
    return [Finding(C.READY, False, reason, message), Finding(C.RECONCILING, True, reason, message)]


def impatient(lasted: float, patience: float, reason: Reason, message: str) -> list[Finding]:
    """Reconciling at first, Stalled when it has lasted for longer than the patience (seconds)."""
    return (stalled if lasted >= patience else reconciling)(reason, message)


def name_taken(
    before: Sequence[Condition], what: str, patience: float, now: float
) -> list[Finding]:
    """An object of a name that is needed is not ours: it may be a deleted namesake's, on its way.

    ``what``: its kind and name.
    """
    waits = waits_for(before, Reason.NAME_TAKEN)
    return impatient(
        lasted(before, C.READY, "False", now) if waits else 0.0,
        patience,
        Reason.NAME_TAKEN,
        f"{what} is there and belongs to somebody else: delete it, or give this object another "
        "name.",
    )


def lasted(before: Sequence[Condition], type_: C, status: str, now: float) -> float:
    """Seconds for which the condition has had this status; 0 where it has another."""
    for one in before:
        if one.type is type_ and one.status == status:
            return max(0.0, now - datetime.fromisoformat(one.last_transition_time).timestamp())
    return 0.0


def stalled_by(before: Sequence[Condition], *reasons: Reason) -> bool:
    """Whether it is Stalled for one of these reasons."""
    return any(
        one.type is C.STALLED and one.status == "True" and one.reason in reasons for one in before
    )


def waits_for(before: Sequence[Condition], reason: Reason) -> bool:
    """Whether it is not Ready for this reason, Stalled by it or not yet."""
    return any(
        one.type is C.READY and one.status == "False" and one.reason == reason for one in before
    )


def turned(before: Sequence[Condition], after: Sequence[Condition]) -> list[Told]:
    """What is worth an Event: Ready, Complete or Stalled came, or Stalled has another reason; and
    a robot that fell back.
    """
    known = {one.type: one for one in before}
    told = []
    for one in after:
        old = known.get(one.type)
        same = old is not None and old.status == "True"
        if one.type is C.STALLED:
            same = same and old is not None and old.reason == one.reason
        if one.type in _TOLD and one.status == "True" and not same:
            told.append(Told(one.reason, one.message, one.type is C.STALLED))
        fell = one.type is C.POLICY_SYNCED and one.reason == Reason.FELL_BACK
        if fell and (old is None or (old.reason, old.message) != (one.reason, one.message)):
            told.append(Told(one.reason, one.message, True))
    return told


def settle(
    before: Sequence[Condition], findings: Iterable[Finding], generation: int, now: float
) -> list[Condition]:
    """The new list, in the order of the findings; a time changes only when a status does."""
    known = {one.type: one for one in before}
    settled = []
    for finding in findings:
        if finding.type in _SHOWN_ONLY_WHILE_TRUE and not finding.holds:
            continue
        status: Literal["True", "False", "Unknown"] = (
            "Unknown" if finding.holds is None else "True" if finding.holds else "False"
        )
        old = known.get(finding.type)
        settled.append(
            Condition(
                type=finding.type,
                status=status,
                reason=finding.reason.value,
                message=finding.message,
                observed_generation=generation,
                last_transition_time=old.last_transition_time
                if old and old.status == status
                else now_rfc3339(now),
            )
        )
    return settled


def as_it_was(before: Iterable[Condition], type_: C) -> Finding | None:
    """The condition once more; None where there is none, or an older operator's."""
    holding = {"True": True, "False": False, "Unknown": None}
    for one in before:
        if one.type is type_ and one.reason in _REASONS:
            return Finding(type_, holding[one.status], Reason(one.reason), one.message)
    return None


def holds(conditions: Iterable[Condition], type_: C) -> bool:
    """Whether the condition is there and True."""
    return any(one.type is type_ and one.status == "True" for one in conditions)
