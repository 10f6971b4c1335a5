"""One word and one sentence for whoever looks; last, when all is decided."""

from fleet_contract.names import Reason
from fleet_contract.resources import RolloutPhase
from fleet_operator.decide.rollout_state import Hold
from fleet_operator.decide.turn import Turn

TOLD = frozenset(
    {
        *(Reason.AWAITING_APPROVAL, Reason.AWAITING_PROMOTION, Reason.DEADLINE_PASSED),
        *(Reason.OUTSIDE_WINDOW, Reason.WINDOW_INVALID, Reason.FLEET_FROZEN, Reason.PAUSED),
    }
)
"""What is worth an Event when it begins to be awaited."""
STUCK = frozenset({Reason.NO_ROBOT_CONNECTED, Reason.DEADLINE_PASSED})


def name(turn: Turn) -> None:
    if turn.paused:
        turn.wait(Hold(Reason.PAUSED, _paused(turn)))
    phase = _phase(turn)
    before, after = turn.before.rollout, turn.rollout
    turn.update(phase=phase)
    if phase is RolloutPhase.IDLE and before.reason and before.message == after.message:
        turn.update(message="")  # what it awaited is not awaited any more


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
        return RolloutPhase.FROZEN if turn.rollout.reason in STUCK else RolloutPhase.STAGED
    if turn.rollout.watching:
        return RolloutPhase.WATCHING
    return RolloutPhase.WAITING if turn.rollout.reason else RolloutPhase.IDLE


def _paused(turn: Turn) -> str:
    of = turn.state.candidate or turn.state.stable
    how = {
        "set spec.rollout.paused to false": turn.spec.paused,
        f"request resume@{of.sequence if of else 0}": turn.rollout.paused,
    }
    return f"Paused, no robot takes another version up: {' and '.join(k for k in how if how[k])}."
