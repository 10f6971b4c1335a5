"""What keeps a version from going on: each a question that answers with a sentence, or None."""

from collections.abc import Callable

from fleet_contract import names
from fleet_contract.names import Reason
from fleet_contract.resources import Approval, GatePhase, GateStatus, RolloutMode, Strategy
from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide import cohort, windows
from fleet_operator.decide.gates import OPEN, Gate
from fleet_operator.decide.rollout_state import Hold
from fleet_operator.decide.turn import Turn


def calendar(turn: Turn, sequence: int | None = None) -> Hold | None:
    """Neither stage nor promotion begins outside a window, or while the namespace is frozen."""
    which = sequence or (turn.state.candidate.sequence if turn.state.candidate else 0)
    if why := turn.seen.freeze:
        return Hold(
            Reason.FLEET_FROZEN,
            f"Version {which} waits: the namespace is frozen ({why}); take its annotation "
            f"{names.Label.FREEZE} away to go on.",
        )
    try:
        opens = windows.opens_at(turn.spec.windows, turn.now)
    except windows.WindowError as fault:
        return Hold(Reason.WINDOW_INVALID, f"Version {which} waits: {fault}; correct it.")
    if opens is None:
        return None
    return Hold(
        Reason.OUTSIDE_WINDOW,
        f"Version {which} waits until {now_rfc3339(opens)}, when the next of spec.rollout.windows "
        "opens.",
        opens,
    )


def needs_approval(turn: Turn) -> bool:
    """Whether a new candidate waits for a person's word."""
    asked = turn.spec.approval
    return asked is Approval.ALWAYS or (asked is Approval.FIRST and turn.state.stable is None)


def approval(turn: Turn) -> Hold | None:
    candidate = turn.state.candidate
    if candidate is None or turn.rollout.approved or not needs_approval(turn):
        return None
    at = candidate.sequence
    return Hold(
        Reason.AWAITING_APPROVAL,
        f"Version {at} waits for approval: request approve@{at}, or abort@{at}.",
    )


def manual(turn: Turn) -> Hold | None:
    """In mode Manual people start what comes after the first version."""
    candidate, mode = turn.state.candidate, turn.spec.mode
    if candidate is None or mode is not RolloutMode.MANUAL or turn.rollout.confirmed:
        return None
    if turn.state.stable is None:
        return None
    at = candidate.sequence
    return Hold(
        Reason.AWAITING_PROMOTION,
        f"Version {at} waits: request promote@{at} to begin, or abort@{at}.",
    )


def nobody(turn: Turn, sequence: int | None = None) -> Hold | None:
    """A first stage needs a robot that may try it now."""
    if turn.state.stable is None or turn.spec.strategy is Strategy.BROADCAST:
        return None
    if any(one.connected for one in cohort.able(turn.seen.robots, turn.spec.steps[0])):
        return None
    which = sequence or (turn.state.candidate.sequence if turn.state.candidate else 0)
    return Hold(
        Reason.NO_ROBOT_CONNECTED,
        f"Version {which} waits until a robot that may try it is connected: not suspended, not "
        "pinned, chosen by the first step's selector.",
    )


def runs(status: GateStatus | None, gate: Gate) -> bool:
    """Whether what was begun is what is asked for; a skip holds whatever is asked."""
    if status is None:
        return False
    return status.phase is GatePhase.SKIPPED or status.asked == gate.asked


def opened(turn: Turn, gate: Gate) -> bool:
    status = turn.gate(gate.name)
    return status is not None and status.phase in OPEN and runs(status, gate)


def gates(turn: Turn) -> Hold | None:
    """One that runs. One that may not even begin yet is held by what holds it."""
    for gate in turn.seen.gates:
        status = turn.gate(gate.name)
        if opened(turn, gate) or status is None or not runs(status, gate):
            continue
        blocked = status.phase is GatePhase.BLOCKED
        return Hold(Reason.GATE_BLOCKED if blocked else Reason.GATE_RUNNING, status.message)
    return None


Asks = Callable[[Turn], Hold | None]
BEFORE_GATES: tuple[Asks, ...] = (approval, manual, calendar)
BEFORE_FIRST: tuple[Asks, ...] = (approval, manual, gates, calendar, nobody)
"""What a candidate passes, in this order, before a robot runs it. A window may close and robots may
go while a gate runs, so both are asked again behind it."""
