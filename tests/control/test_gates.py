"""A candidate at its gates, as a list of sentences: before, what was seen, after."""

from typing import Any, NamedTuple

import pytest

from control.rollouts import (
    ASKED,
    NOW,
    STABLE,
    THREE,
    gated,
    known,
    on_trial,
    said,
    version,
    waiting,
)
from fleet_contract.names import Gate as GateName
from fleet_contract.names import Reason
from fleet_contract.resources import (
    Approval,
    GatePhase,
    GateStatus,
    PolicyPhase,
    Rollout,
    RolloutMode,
    RolloutPhase,
    Step,
    Strategy,
    Window,
)
from fleet_operator.decide.gates import Gate
from fleet_operator.decide.rollout import Observed, State, decide

P = PolicyPhase
ONE_STEP = Rollout(steps=[Step(robots=1)])
CLOSED = ONE_STEP.model_copy(update={"windows": [Window(schedule="0 22 * * *", duration="6h")]})
PAUSED = ONE_STEP.model_copy(update={"paused": True})
BROADCAST = ONE_STEP.model_copy(update={"strategy": Strategy.BROADCAST})
MANUAL = ONE_STEP.model_copy(update={"mode": RolloutMode.MANUAL})
APPROVED = ONE_STEP.model_copy(update={"approval": Approval.ALWAYS})
PINNED = ONE_STEP.model_copy(update={"mode": RolloutMode.PINNED, "pinned_version": 1})
ALONE = gated(1)._replace(stable=None, last_sequence=1)
PASSED, FAILED = said(GatePhase.PASSED), said(GatePhase.FAILED)
RUNNING, BLOCKED = said(GatePhase.RUNNING, "It runs."), said(GatePhase.BLOCKED, "No image.")
SHADOW = Gate(GateName.SHADOW, "asked")


def seen(gates: tuple[Gate, ...], newest: int = 2, **fields: Any) -> Observed:
    return Observed(version(newest), THREE, gates=gates)._replace(**fields)


class Case(NamedTuple):
    spec: Rollout
    state: State
    seen: Observed
    stable: int
    candidate: int
    robots: int
    moves: tuple[PolicyPhase, ...]
    reason: str = ""


CASES = {
    "a new version begins its gate, and no robot runs it": Case(
        ONE_STEP, STABLE, seen((ASKED,)), 1, 2, 0, (P.CANDIDATE, P.GATED), Reason.GATE_RUNNING
    ),
    "so does the first version": Case(
        ONE_STEP,
        State(),
        seen((ASKED,), 1),
        0,
        1,
        0,
        (P.CANDIDATE, P.GATED),
        Reason.GATE_RUNNING,
    ),
    "so does one that Broadcast would give to all": Case(
        BROADCAST, STABLE, seen((ASKED,)), 1, 2, 0, (P.CANDIDATE, P.GATED), Reason.GATE_RUNNING
    ),
    "silence passes nothing": Case(
        ONE_STEP, gated(), seen((ASKED,)), 1, 2, 0, (), Reason.GATE_RUNNING
    ),
    "what another run found passes nothing": Case(
        ONE_STEP,
        gated(run=2),
        seen(PASSED),
        1,
        2,
        0,
        (),
        Reason.GATE_RUNNING,
    ),
    "a gate that passes lets it into its first stage": Case(
        ONE_STEP, gated(), seen(PASSED), 1, 2, 1, (P.STAGED,), Reason.AWAITING_EPISODES
    ),
    "a gate that passes promotes the first version": Case(
        ONE_STEP, ALONE, seen(PASSED, 1), 1, 0, 0, (P.PROMOTED,)
    ),
    "a gate that passes gives a Broadcast to all": Case(
        BROADCAST, gated(), seen(PASSED), 2, 0, 0, (P.PROMOTED,)
    ),
    "a gate that refuses takes it back": Case(
        ONE_STEP, gated(), seen(FAILED), 1, 0, 0, (P.ROLLED_BACK,)
    ),
    "a gate that cannot be run holds it": Case(
        ONE_STEP, gated(), seen(BLOCKED), 1, 2, 0, (), Reason.GATE_BLOCKED
    ),
    "and lets go when it can": Case(
        ONE_STEP,
        gated(phase=GatePhase.BLOCKED),
        seen(RUNNING),
        1,
        2,
        0,
        (),
        Reason.GATE_RUNNING,
    ),
    "a newer version waits while a gate runs": Case(
        ONE_STEP, gated(), seen(RUNNING, 7), 1, 2, 0, (), Reason.GATE_RUNNING
    ),
    "the newest is tried when a gate refused the one before": Case(
        ONE_STEP,
        gated(),
        seen(FAILED, 7),
        1,
        7,
        0,
        (P.ROLLED_BACK, P.CANDIDATE, P.GATED),
        Reason.GATE_RUNNING,
    ),
    "a gate is not begun before somebody approved": Case(
        APPROVED, waiting(), seen((ASKED,)), 1, 2, 0, (), Reason.AWAITING_APPROVAL
    ),
    "nor before somebody said so in mode Manual": Case(
        MANUAL, waiting(), seen((ASKED,)), 1, 2, 0, (), Reason.AWAITING_PROMOTION
    ),
    "nor outside of the windows": Case(
        CLOSED, waiting(), seen((ASKED,)), 1, 2, 0, (), Reason.OUTSIDE_WINDOW
    ),
    "nor in a freeze": Case(
        ONE_STEP,
        waiting(),
        seen((ASKED,), freeze="fair week"),
        1,
        2,
        0,
        (),
        Reason.FLEET_FROZEN,
    ),
    "nor in a pause": Case(PAUSED, waiting(), seen((ASKED,)), 1, 2, 0, (), Reason.PAUSED),
    "a gate that passes outside of the windows begins no stage": Case(
        CLOSED, gated(), seen(PASSED), 1, 2, 0, (), Reason.OUTSIDE_WINDOW
    ),
    "a gate that refuses outside of the windows takes it back": Case(
        CLOSED, gated(), seen(FAILED), 1, 0, 0, (P.ROLLED_BACK,)
    ),
    "a pause holds a refusal too": Case(PAUSED, gated(), seen(FAILED), 1, 2, 0, (), Reason.PAUSED),
    "nobody there is told behind the gate only": Case(
        ONE_STEP, gated(), seen(PASSED, robots=()), 1, 2, 0, (), Reason.NO_ROBOT_CONNECTED
    ),
    "a gate that is asked otherwise is run anew, passed or not": Case(
        ONE_STEP,
        gated(phase=GatePhase.PASSED),
        seen((ASKED._replace(asked="more"),)),
        1,
        2,
        0,
        (P.GATED,),
        Reason.GATE_RUNNING,
    ),
    "one that is asked for no more is in nobody's way": Case(
        ONE_STEP, gated(), seen(()), 1, 2, 1, (P.STAGED,), Reason.AWAITING_EPISODES
    ),
    "the second gate begins when the first is passed": Case(
        ONE_STEP, gated(), seen((*PASSED, SHADOW)), 1, 2, 0, (P.GATED,), Reason.GATE_RUNNING
    ),
    "what is on trial already is not asked": Case(
        ONE_STEP, on_trial(), seen((ASKED,)), 1, 2, 1, (), Reason.AWAITING_EPISODES
    ),
    "a pin takes it from its gate": Case(PINNED, gated(), seen(RUNNING), 1, 0, 0, (P.SUPERSEDED,)),
    "while pinned nothing is led to a gate, not even a first version": Case(
        PINNED, State(), seen((ASKED,)), 0, 0, 0, (), Reason.PIN_UNKNOWN
    ),
    "skip goes on without the gate": Case(
        ONE_STEP,
        gated(phase=GatePhase.BLOCKED),
        seen(BLOCKED, request="skip@2#1"),
        1,
        2,
        1,
        (P.STAGED,),
        Reason.AWAITING_EPISODES,
    ),
    "skip leaves the gate it stands at, and no other": Case(
        ONE_STEP,
        gated(),
        seen((*RUNNING, SHADOW), request="skip@2#1"),
        1,
        2,
        0,
        (P.GATED,),
        Reason.GATE_RUNNING,
    ),
    "a skipped gate does not come back when it is asked otherwise": Case(
        ONE_STEP,
        gated(phase=GatePhase.SKIPPED),
        seen((ASKED._replace(asked="more"),)),
        1,
        2,
        1,
        (P.STAGED,),
        Reason.AWAITING_EPISODES,
    ),
    "abort takes it back from its gate": Case(
        ONE_STEP, gated(), seen(RUNNING, request="abort@2#1"), 1, 0, 0, (P.ROLLED_BACK,)
    ),
    "retry runs its gate anew": Case(
        ONE_STEP,
        gated(phase=GatePhase.BLOCKED),
        seen(BLOCKED, request="retry@2#1"),
        1,
        2,
        0,
        (P.GATED,),
        Reason.GATE_RUNNING,
    ),
    "retry of what a gate refused begins with that gate": Case(
        ONE_STEP,
        STABLE._replace(rolled_back=(2,), last_sequence=2),
        seen((ASKED,), request="retry@2#1", known=known(v2=P.ROLLED_BACK)),
        1,
        2,
        0,
        (P.CANDIDATE, P.GATED),
        Reason.GATE_RUNNING,
    ),
    "in mode Manual a newer one may be put in its place": Case(
        MANUAL,
        gated(confirmed=True),
        seen(RUNNING, 7, request="promote@7#1"),
        1,
        7,
        0,
        (P.SUPERSEDED, P.CANDIDATE, P.GATED),
        Reason.GATE_RUNNING,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_gate(case: Case) -> None:
    decision = decide(case.spec, case.state, case.seen, NOW)
    state = decision.state
    found = (
        state.stable.sequence if state.stable else 0,
        state.candidate.sequence if state.candidate else 0,
        len(state.rollout.robots),
        tuple(move.phase for move in decision.moves),
        state.rollout.reason,
    )
    assert found == (case.stable, case.candidate, case.robots, case.moves, case.reason)


def test_a_refusal_says_what_was_measured_and_stays_with_the_version() -> None:
    gates = said(GatePhase.FAILED, "push: 3 of 20")
    (move,) = decide(ONE_STEP, gated(), seen(gates), NOW).moves
    assert move.reason is Reason.GATE_FAILED
    assert move.message == ("Version 2 taken back: its simulation gate refused it, push: 3 of 20.")
    assert move.gates is not None
    assert [one.phase for one in move.gates] == [GatePhase.FAILED]


def test_what_a_gate_found_stays_with_the_version_that_passed_it() -> None:
    decision = decide(ONE_STEP, gated(), seen(PASSED), NOW)
    assert [one.phase for one in decision.gates] == [GatePhase.PASSED]
    (move,) = decision.moves
    assert move.gates is not None
    assert [one.phase for one in move.gates] == [GatePhase.PASSED]
    assert [note.reason for note in decision.notes] == [Reason.GATE_PASSED]
    assert decide(ONE_STEP, decision.state, seen(PASSED), NOW).gates == ()


def test_a_run_never_takes_the_number_of_another() -> None:
    first = decide(ONE_STEP, STABLE, seen((ASKED,)), NOW).state
    anew = decide(ONE_STEP, first, seen((ASKED,), request="retry@2#1"), NOW).state
    back = decide(ONE_STEP, anew, seen((ASKED,), request="abort@2#2"), NOW).state
    other = decide(ONE_STEP, back, seen((ASKED,), 3, request="abort@2#2"), NOW).state
    runs = [state.rollout.gates[0].run for state in (first, anew, other)]
    assert runs == [1, 2, 3]
    wiped = State().recovered("job", (), None, gate_run=3)
    assert decide(ONE_STEP, wiped, seen((ASKED,), 9), NOW).state.rollout.gates[0].run == 4


def test_where_it_stands_is_seen_in_a_word_and_a_pause_stops_its_clock() -> None:
    state = decide(ONE_STEP, gated(), seen(RUNNING), NOW).state
    assert (state.rollout.phase, state.rollout.message) == (RolloutPhase.GATED, "It runs.")
    paused = decide(PAUSED, state, seen(RUNNING), NOW + 10).state
    resumed = decide(ONE_STEP, paused, seen(RUNNING), NOW + 70).state
    assert resumed.rollout.gates[0].started_at == "2027-01-15T08:01:00Z"


def test_skip_says_so_and_the_version_carries_it() -> None:
    decision = decide(ONE_STEP, gated(), seen(RUNNING, request="skip@2#1"), NOW)
    words = "Version 2 goes on without its simulation gate, by request."
    assert decision.state.rollout.answer == words
    assert (Reason.GATE_SKIPPED, words) in {(one.reason, one.message) for one in decision.notes}
    (status,) = decision.state.rollout.gates
    assert (status.phase, status.message) == (GatePhase.SKIPPED, words)


def test_skip_of_what_only_waits_behind_its_gates_is_refused() -> None:
    state = gated(phase=GatePhase.PASSED)
    decision = decide(CLOSED, state, seen((ASKED,), request="skip@2#1"), NOW)
    assert "its gates are passed" in decision.state.rollout.answer
    assert decision.state.rollout.gates == state.rollout.gates


def test_a_skip_counts_for_a_gate_that_has_not_begun() -> None:
    shadow = GateStatus(name=GateName.SHADOW, run=2, asked="asked")
    state = gated(phase=GatePhase.PASSED)
    state = state._replace(
        rollout=state.rollout.model_copy(update={"gates": [*state.rollout.gates, shadow]})
    )
    decision = decide(ONE_STEP, state, seen((ASKED, SHADOW), request="skip@2#1"), NOW)
    assert [move.phase for move in decision.moves] == [P.STAGED]
    assert [one.phase for one in decision.state.rollout.gates] == [
        GatePhase.PASSED,
        GatePhase.SKIPPED,
    ]
