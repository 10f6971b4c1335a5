"""What an assignment document asks of this robot: pure, one answer per document.

Robots compare (generation, epoch) and nothing else; a rollback is a newer epoch that names an older
version. Expiry forbids adopting, never running.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from fleet_contract.errors import Untrusted
from fleet_contract.messages import AssignmentRole, AssignmentState

if TYPE_CHECKING:
    from fleet_contract.messages import Assignment, PolicyRef

NEVER = (-1, -1)
"""The order a robot holds before its first document: every document is newer."""


class Say(enum.Enum):
    """What a robot does about a document."""

    ADOPT = "adopt"  # take the policy up at the next boundary
    KEEP = "keep"  # stay as you are; take up nothing new, also nothing that waits already
    STOP = "stop"  # the job is over: come to rest and send what is left


@dataclasses.dataclass(frozen=True)
class Will:
    """A document, read by one robot."""

    say: Say
    policy: PolicyRef | None = None  # what to adopt
    fallback: PolicyRef | None = None  # what to adopt where that one is refused and none drives
    denied: frozenset[str] = frozenset()  # manifest digests that must not drive, whatever is said
    shadow: PolicyRef | None = None  # what to compute beside the policy that drives, where ADOPT


def admit(document: Assignment, *, job_uid: str, held: tuple[int, int], now_ms: int) -> None:
    """Raise `Untrusted` for a document of another job, older than `held`, or expired.

    Args:
        document: verified and parsed.
        job_uid: the job this robot works for.
        held: the (generation, epoch) it holds, over restarts.
        now_ms: Unix milliseconds.
    """
    if document.job_uid != job_uid:
        raise Untrusted(f"assignment of job {document.job_uid}, this robot works for {job_uid}")
    if document.order < held:
        raise Untrusted(f"assignment {document.order} is older than {held}, which is held")
    if now_ms > document.expires_at_ms:
        late = (now_ms - document.expires_at_ms) // 1000
        raise Untrusted(f"assignment {document.order} expired {late} s ago by this robot's clock")


def read(document: Assignment, robot: str) -> Will:
    """The fleet's will for one robot, from a document that was admitted."""
    denied = frozenset(document.denied)
    if document.state is AssignmentState.CLOSED:
        return Will(Say.STOP, denied=denied)
    if document.state is AssignmentState.FROZEN:
        return Will(Say.KEEP, denied=denied)
    fallback = document.fallback
    if fallback is not None and fallback.digest in denied:
        fallback = None
    wanted = document.policy_for(robot) or fallback
    if wanted is None:
        return Will(Say.KEEP, denied=denied)
    shadow = document.policy_for(robot, AssignmentRole.SHADOW)
    return Will(Say.ADOPT, wanted, fallback, denied, shadow)
