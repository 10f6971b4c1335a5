"""A candidate's gates, one after the other: begun, listened to, passed or not."""

from fleet_contract.names import Reason
from fleet_contract.resources import GatePhase
from fleet_operator.decide.gates import OPEN, Gate
from fleet_operator.decide.rules import holds
from fleet_operator.decide.turn import Turn


def judge(turn: Turn) -> None:
    """What their runs found. A gate that refuses takes the version back at any time but a pause."""
    candidate = turn.state.candidate
    if candidate is None or turn.state.started or turn.paused:
        return
    asked = {gate.name for gate in turn.seen.gates}
    turn.update(gates=[one for one in turn.rollout.gates if one.name in asked])
    for gate in turn.seen.gates:
        status, report = turn.gate(gate.name), gate.report
        if status is None or report is None or not holds.runs(status, gate):
            continue
        if status.phase in OPEN or report.run != status.run:
            continue
        found: dict[str, object] = {
            "phase": report.phase,
            "message": report.message,
            "tasks": list(report.tasks),
        }
        if status.events_from > turn.seen.last_event + 1:
            found["events_from"] = 1  # the stream was lost and made anew: its numbers are new
        turn.put_gate(status.model_copy(update={**found, "robots": list(report.robots)}))
        which = f"its {gate.name} gate"
        if report.phase is GatePhase.FAILED:
            turn.roll_back(candidate, Reason.GATE_FAILED, f"{which} refused it, {report.message}")
            return
        if report.phase is GatePhase.PASSED:
            said = f"Version {candidate.sequence} passed {which}: {report.message}."
            turn.tell(Reason.GATE_PASSED, said)
        if report.phase is GatePhase.SKIPPED:
            said = f"Version {candidate.sequence} goes on without {which}: {report.message}."
            turn.tell(Reason.GATE_SKIPPED, said)


def start(turn: Turn) -> None:
    """The next one, when a person's word and the calendar let the version begin."""
    candidate = turn.state.candidate
    if candidate is None or turn.state.started or turn.paused:
        return
    if any(asks(turn) for asks in holds.BEFORE_GATES):
        return
    gate = following(turn)
    if gate is not None and not holds.runs(turn.gate(gate.name), gate):
        turn.start_gate(candidate, gate)


def following(turn: Turn) -> Gate | None:
    """The first one that is still in the way, begun or not."""
    return next((gate for gate in turn.seen.gates if not holds.opened(turn, gate)), None)
