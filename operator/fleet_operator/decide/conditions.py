"""Conditions by the rules of kstatus. Pure.

Every object has exactly one Ready; Reconciling and Stalled are there only while true.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from fleet_contract.names import ConditionType as C
from fleet_contract.names import Reason
from fleet_contract.resources import Condition
from fleet_contract.resources.base import now_rfc3339

_SHOWN_ONLY_WHILE_TRUE = frozenset({C.RECONCILING, C.STALLED, C.SUSPENDED, C.COMPLETE})


class Finding(NamedTuple):
    """One condition before it is dated."""

    type: C
    holds: bool | None  # None: unknown
    reason: Reason
    message: str = ""


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


def holds(conditions: Iterable[Condition], type_: C) -> bool:
    """Whether the condition is there and True."""
    return any(one.type is type_ and one.status == "True" for one in conditions)
