"""The stage that runs: taken back, held, or passed on, by what its robots lived through."""

from fleet_contract.names import Reason
from fleet_contract.resources import (
    OnDeadline,
    PolicyPhase,
    RolloutMode,
    Strategy,
    VersionRef,
    seconds,
)
from fleet_operator.decide.analysis import Judgement, Verdict
from fleet_operator.decide.rollout_state import Hold
from fleet_operator.decide.rules import holds
from fleet_operator.decide.turn import Turn


def judge(turn: Turn) -> None:
    candidate = turn.state.candidate
    if candidate is None or not turn.state.started:
        return
    turn.recount()
    if turn.paused:
        return
    said = turn.judge(turn.step)
    if said.verdict is Verdict.FAIL:
        turn.roll_back(candidate, said.reason, said.message)
    elif turn.spec.strategy is Strategy.BROADCAST and turn.spec.mode is RolloutMode.AUTO:
        _go_on(turn, candidate, Reason.BROADCAST, "given to the whole fleet at once")
    elif _late(turn, said.verdict):
        _end_late(turn, candidate)
    elif said.verdict is Verdict.DOUBT and (newer := turn.gives_way(turn.step.min_episodes)):
        turn.finish(candidate, PolicyPhase.SUPERSEDED, Reason.SUPERSEDED, _undecided(turn, newer))
    elif hold := _hold(turn, candidate, said):
        turn.hold = hold
    else:
        _go_on(turn, candidate, Reason.CANARY_PASSED, turn.figures)


def _go_on(turn: Turn, candidate: VersionRef, reason: Reason, why: str) -> None:
    if hold := holds.calendar(turn):
        turn.hold = hold
    else:
        turn.forward(candidate, reason, why)


def _late(turn: Turn, verdict: Verdict) -> bool:
    """A frozen stage does not thaw by episodes that come later."""
    deadline = turn.step.deadline
    due = deadline is not None and turn.elapsed >= seconds(deadline)
    return turn.rollout.frozen or (due and verdict is not Verdict.PASS)


def _end_late(turn: Turn, candidate: VersionRef) -> None:
    at, step = candidate.sequence, turn.step
    why = f"{turn.stage} did not pass within its deadline of {step.deadline}; {turn.figures}"
    if step.on_deadline is OnDeadline.ROLL_BACK:
        turn.roll_back(candidate, Reason.DEADLINE_PASSED, why)
        return
    turn.update(frozen=True)
    turn.hold = Hold(
        Reason.DEADLINE_PASSED,
        f"Frozen, version {at}: {why}. Request skip@{at} to go on, resume@{at} for that time "
        f"again, or abort@{at}.",
    )


def _hold(turn: Turn, candidate: VersionRef, said: Judgement) -> Hold | None:
    at = candidate.sequence
    if not turn.rollout.robots:
        return Hold(
            Reason.NO_ROBOT_CONNECTED,
            f"Frozen: no robot may run version {at} in {turn.stage}: not suspended, not pinned, "
            f"chosen by the step's selector. Enroll one, or request skip@{at} or abort@{at}.",
        )
    if not turn.anyone_there():
        return Hold(
            Reason.NO_ROBOT_CONNECTED,
            f"Frozen: no robot that runs version {at} is connected; connect one of "
            f"status.rollout.robots, or request abort@{at}.",
        )
    if said.verdict is Verdict.FREEZE:
        return Hold(
            said.reason, f"Frozen, version {at}: {said.message}; mend that, or request abort@{at}."
        )
    if said.verdict in {Verdict.WAIT, Verdict.DOUBT}:
        return Hold(said.reason, _progress(turn, at, said.message))
    if turn.spec.mode is RolloutMode.MANUAL and not turn.rollout.confirmed:
        return Hold(
            Reason.AWAITING_PROMOTION,
            f"Version {at} passed {turn.stage} ({turn.figures}): request promote@{at} to go on.",
        )
    return None


def _undecided(turn: Turn, newer: VersionRef) -> str:
    floor = turn.spec.analysis.min_success_rate
    return (
        f"Version {newer.sequence} takes its place: {turn.figures}, neither enough for the floor "
        f"of {floor:.0%} nor surely too few."
    )


def _progress(turn: Turn, sequence: int, figures: str) -> str:
    by = f" within {turn.step.deadline}" if turn.step.deadline else ""
    return f"Version {sequence}, {turn.stage}, {len(turn.rollout.robots)} robots: {figures}{by}."
