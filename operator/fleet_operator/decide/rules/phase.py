"""One word and one sentence for whoever looks; last, when all is decided."""

from fleet_contract.names import Label, Reason
from fleet_contract.resources import RolloutPhase
from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide.rollout_state import Hold
from fleet_operator.decide.turn import Turn

AWAITED = {
    Reason.AWAITING_APPROVAL: "`spec.rollout.approval` asks for a person: request `approve`.",
    Reason.AWAITING_PROMOTION: "Mode Manual: request `promote` to begin, or to go on.",
    Reason.OUTSIDE_WINDOW: "Nothing: it goes on at `status.rollout.opensAt`.",
    Reason.WINDOW_INVALID: "Correct the window that the message names.",
    Reason.FLEET_FROZEN: f"Take the namespace's annotation `{Label.FREEZE}` away.",
    Reason.PIN_UNKNOWN: "Pin the fleet to a version that there is: `kubectl get polv` lists them.",
    Reason.GATE_RUNNING: "Nothing: its gate runs. `skip` goes on without it.",
    Reason.GATE_BLOCKED: "Mend what the message says, then `retry`; or `skip`, or `abort`.",
    Reason.NO_ROBOT_CONNECTED: "Connect a robot that may run it, or `abort`.",
    Reason.AWAITING_EPISODES: "Nothing: its robots gather evidence. `skip` goes on without.",
    Reason.TELEMETRY_MISSING: "Mend what the message says its robots do not tell, or `abort`.",
    Reason.DEADLINE_PASSED: "Request `skip`, `resume` for the same time again, or `abort`.",
    Reason.WATCH_STARTED: "Nothing: the fleet gathers evidence. `rollback` takes it back.",
    Reason.PAUSED: "Request `resume`, or set `spec.rollout.paused` to false, as it says.",
}
"""All that ``status.rollout.reason`` may say, and what to do then."""
TOLD = AWAITED.keys() - {
    *(Reason.NO_ROBOT_CONNECTED, Reason.AWAITING_EPISODES, Reason.WATCH_STARTED),
    *(Reason.TELEMETRY_MISSING, Reason.GATE_RUNNING, Reason.GATE_BLOCKED),
}
"""What is worth an Event when it begins to be awaited; the others come and go, or moved,
or the job is Stalled by them, which is told."""
STUCK = frozenset({Reason.NO_ROBOT_CONNECTED, Reason.DEADLINE_PASSED, Reason.TELEMETRY_MISSING})


def name(turn: Turn) -> None:
    if turn.paused:
        turn.hold = Hold(Reason.PAUSED, _paused(turn))
    hold, before, message = turn.hold, turn.before.rollout, turn.rollout.message
    if hold is not None:
        message = hold.message
    elif before.reason and before.message == message:
        message = ""  # what it awaited is not awaited any more
    opens = None if hold is None or hold.opens_at is None else now_rfc3339(hold.opens_at)
    reason = hold.reason.value if hold else ""
    turn.update(phase=_phase(turn), reason=reason, message=message, opens_at=opens)


def tell(turn: Turn) -> None:
    """Events of what begins to be awaited."""
    before, after = turn.before.rollout.reason, turn.rollout.reason
    if before == Reason.PAUSED and not turn.paused:
        turn.tell(Reason.RESUMED, "The fleet is no longer paused.")
    if after != before and after in TOLD:
        late = after == Reason.DEADLINE_PASSED
        turn.tell(Reason(after), turn.rollout.message, warning=late)


def _phase(turn: Turn) -> RolloutPhase:
    if turn.paused:
        return RolloutPhase.PAUSED
    if turn.state.started:
        stuck = turn.hold is not None and turn.hold.reason in STUCK
        return RolloutPhase.FROZEN if stuck else RolloutPhase.STAGED
    if turn.rollout.watching:
        return RolloutPhase.WATCHING
    if turn.state.gated:
        return RolloutPhase.GATED
    return RolloutPhase.WAITING if turn.hold else RolloutPhase.IDLE


def _paused(turn: Turn) -> str:
    of = turn.state.candidate or turn.state.stable
    how = {
        "set spec.rollout.paused to false": turn.spec.paused,
        f"request resume@{of.sequence if of else 0}": turn.rollout.paused,
    }
    return f"Paused, no robot takes another version up: {' and '.join(k for k in how if how[k])}."
