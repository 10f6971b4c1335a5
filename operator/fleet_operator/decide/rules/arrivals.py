"""What is tried next: the newest version announced, once it may."""

from fleet_contract.names import Reason
from fleet_contract.resources import PolicyPhase, RolloutMode, Strategy
from fleet_operator.decide.rollout_state import NOTHING_BEFORE, Hold
from fleet_operator.decide.rules import holds
from fleet_operator.decide.turn import Turn


def give_way_to_pin(turn: Turn) -> None:
    if turn.spec.mode is not RolloutMode.PINNED:
        return
    turn.hold = _unknown(turn)
    if candidate := turn.state.candidate:
        turn.finish(
            candidate,
            PolicyPhase.SUPERSEDED,
            Reason.PINNED,
            f"The fleet was pinned to version {turn.spec.pinned_version}.",
        )
    elif turn.rollout.watching:
        turn.renew(message=f"The fleet was pinned to version {turn.spec.pinned_version}.")


def _unknown(turn: Turn) -> Hold | None:
    """Where the pin names no version that there is, the fleet runs another."""
    pin, stable = turn.spec.pinned_version, turn.state.stable
    there = {*turn.seen.known, *(one.sequence for one in (stable, turn.seen.announced) if one)}
    if pin is None or pin in there:
        return None
    runs = f"version {stable.sequence}" if stable else "none"
    return Hold(
        Reason.PIN_UNKNOWN,
        f"Version {pin}, to which the fleet is pinned, is not there: never announced, or no longer "
        f"kept. The fleet runs {runs} meanwhile. Set spec.rollout.pinnedVersion to another.",
    )


def take_newest(turn: Turn) -> None:
    """Where nobody has to say yes, a version is taken only when it may begin: latest wins."""
    newest, state = turn.seen.announced, turn.state
    busy = state.candidate is not None or turn.rollout.watching or turn.paused
    if newest is None or busy or not turn.is_new(newest):
        return
    if turn.spec.mode is RolloutMode.PINNED and (state.stable is not None or turn.seen.gates):
        return  # by its gates the pin would find it, and nothing would ever be passed
    asks = holds.needs_approval(turn) or turn.spec.mode is RolloutMode.MANUAL
    hold = holds.calendar(turn, newest.sequence) or holds.nobody(turn, newest.sequence)
    if hold and not asks:
        turn.hold = hold
    else:
        turn.take(newest, Reason.ANNOUNCED, "The learner announced it.")


def begin(turn: Turn) -> None:
    candidate = turn.state.candidate
    if candidate is None or turn.state.started or turn.paused:
        return
    for asks in holds.BEFORE_FIRST:
        if hold := asks(turn):
            turn.hold = hold
            return
    if turn.state.stable is None:
        turn.promote(candidate, Reason.FIRST_VERSION, NOTHING_BEFORE)
    elif turn.spec.strategy is Strategy.BROADCAST:
        turn.promote(candidate, Reason.BROADCAST, "given to the whole fleet at once")
    else:
        turn.start_stage(candidate, 0, Reason.CANARY_STARTED, "it may be tried")
