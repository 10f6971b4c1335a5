"""Every verb of every standing a version may have: done, or answered with what to do instead."""

from typing import NamedTuple

import pytest

from control.rollouts import (
    ASKED,
    NOW,
    STABLE,
    THREE,
    gated,
    known,
    on_trial,
    version,
    waiting,
    watched,
)
from fleet_contract.names import Reason, Verb
from fleet_contract.resources import (
    Approval,
    PolicyPhase,
    Rollout,
    RolloutMode,
    RolloutStatus,
    Step,
    Window,
)
from fleet_operator.decide import requests
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.requests import Standing
from fleet_operator.decide.rollout import Decision, Observed, State, decide

P = PolicyPhase
AFTER = State(version(2), RolloutStatus(), (), 2, known_good=(version(1),))
BACK = STABLE._replace(rolled_back=(2,), last_sequence=2)
WHERE: dict[Standing, tuple[State, Observed]] = {
    Standing.NEWEST: (STABLE, Observed(version(2), THREE)),
    Standing.WAITING: (waiting(), Observed(version(2), THREE)),
    Standing.GATED: (gated(), Observed(version(2), THREE, gates=(ASKED,))),
    Standing.STAGED: (on_trial(), Observed(version(2), THREE)),
    Standing.STABLE: (AFTER, Observed(version(2), THREE)),
    Standing.BACK: (BACK, Observed(version(2), THREE, known=known(v2=P.ROLLED_BACK))),
    Standing.SUPERSEDED: (
        STABLE._replace(last_sequence=3),
        Observed(version(3), THREE, known=known(v2=P.SUPERSEDED)),
    ),
    Standing.ELSEWHERE: (STABLE._replace(last_sequence=3), Observed(version(3), THREE)),
}
ASKING = Rollout(steps=[Step(robots=1), Step(robots=2)])
SPECS = {
    Verb.PROMOTE: ASKING.model_copy(update={"mode": RolloutMode.MANUAL}),
    Verb.APPROVE: ASKING.model_copy(update={"approval": Approval.ALWAYS}),
}


def refused(decision: Decision) -> bool:
    return any(note.reason is Reason.REQUEST_REFUSED for note in decision.notes)


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("standing", Standing)
def test_a_verb_is_done_where_the_table_allows_it_and_nowhere_else(
    standing: Standing, verb: Verb
) -> None:
    spec = SPECS.get(verb, ASKING)
    state, seen = WHERE[standing]
    if verb is Verb.RESUME:
        state = state._replace(rollout=state.rollout.model_copy(update={"paused": True}))
    decision = decide(spec, state, seen._replace(request=f"{verb}@2#1"), NOW)
    assert refused(decision) == (standing not in requests.TABLE[verb].allowed)
    assert decision.state.last_handled_request == f"{verb}@2#1"
    assert decision.state.rollout.answer.endswith(".")
    if refused(decision):
        without = decide(spec, state, seen, NOW)
        assert (decision.moves, decision.state.stable) == (without.moves, without.state.stable)
        assert f"version 2 is {standing}" in decision.state.rollout.answer


class Press(NamedTuple):
    spec: Rollout
    state: State
    seen: Observed
    request: str
    moves: tuple[PolicyPhase, ...]
    stable: int
    candidate: int
    words: str  # of the answer


MANUAL = SPECS[Verb.PROMOTE]
APPROVED = SPECS[Verb.APPROVE]
PAUSED = ASKING.model_copy(update={"paused": True})
PINNED = ASKING.model_copy(update={"mode": RolloutMode.PINNED, "pinned_version": 1})
CLOSED = ASKING.model_copy(update={"windows": [Window(schedule="0 22 * * *", duration="6h")]})
SEEN = Observed(version(2), THREE)
GOOD = SEEN._replace(evidence=Evidence(10, 10), last_event=10)
PRESSED = {
    "promote starts the first stage": Press(
        MANUAL, waiting(), SEEN, "promote@2#1", (P.STAGED,), 1, 2, "goes on as soon as it may"
    ),
    "promote lets a stage that passed go on": Press(
        MANUAL, on_trial(), GOOD, "promote@2#1", (P.STAGED,), 1, 2, "goes on"
    ),
    "promote before the evidence is remembered, and skips nothing": Press(
        MANUAL, on_trial(), SEEN, "promote@2#1", (), 1, 2, "goes on as soon as it may"
    ),
    "promote of a newer one supersedes the one that waits": Press(
        MANUAL,
        waiting(),
        Observed(version(7), THREE),
        "promote@7#1",
        (P.SUPERSEDED, P.CANDIDATE, P.STAGED),
        1,
        7,
        "goes on",
    ),
    "promote in mode Auto has nothing to say yes to": Press(
        ASKING, on_trial(), SEEN, "promote@2#1", (), 1, 2, "skip@2"
    ),
    "promote of the newest does not end a trial": Press(
        MANUAL, on_trial(), Observed(version(3), THREE), "promote@3#1", (), 1, 2, "abort@2 first"
    ),
    "skip needs no evidence": Press(
        ASKING, on_trial(), SEEN, "skip@2#1", (P.STAGED,), 1, 2, "left stage 1 of 2"
    ),
    "skip of the last stage promotes": Press(
        ASKING, on_trial(step=1), SEEN, "skip@2#1", (P.PROMOTED,), 2, 0, "left stage 2 of 2"
    ),
    "skip waits for a window like all that begins": Press(
        CLOSED, on_trial(), SEEN, "skip@2#1", (), 1, 2, "2027-01-15T22:00:00Z"
    ),
    "skip moves nobody while the fleet is paused": Press(
        PAUSED, on_trial(), SEEN, "skip@2#1", (), 1, 2, "resume it first"
    ),
    "abort is allowed outside of the windows": Press(
        CLOSED, on_trial(), SEEN, "abort@2#1", (P.ROLLED_BACK,), 1, 0, "taken back"
    ),
    "abort of one that waits": Press(
        APPROVED, waiting(), SEEN, "abort@2#1", (P.ROLLED_BACK,), 1, 0, "taken back"
    ),
    "approve lets the candidate begin": Press(
        APPROVED, waiting(), SEEN, "approve@2#1", (P.STAGED,), 1, 2, "approved"
    ),
    "approve where nobody asks for it": Press(
        ASKING, waiting(), SEEN, "approve@2#1", (P.STAGED,), 1, 2, "asks for none"
    ),
    "retry tries what was taken back once more": Press(
        ASKING,
        BACK,
        WHERE[Standing.BACK][1],
        "retry@2#1",
        (P.CANDIDATE, P.STAGED),
        1,
        2,
        "once more",
    ),
    "retry needs the approval that the first time needed": Press(
        APPROVED, BACK, WHERE[Standing.BACK][1], "retry@2#1", (P.CANDIDATE,), 1, 2, "once more"
    ),
    "retry does not end a trial": Press(
        ASKING,
        on_trial(3)._replace(rolled_back=(2,)),
        Observed(version(3), THREE, known=known(v2=P.ROLLED_BACK)),
        "retry@2#1",
        (),
        1,
        3,
        "abort@3 first",
    ),
    "retry of a version whose object is gone": Press(
        ASKING, BACK, SEEN, "retry@2#1", (), 1, 0, "version 2 is not at hand"
    ),
    "rollback gives the fleet what it ran before": Press(
        ASKING, AFTER, SEEN, "rollback@2#1", (P.ROLLED_BACK,), 1, 0, "returned to version 1"
    ),
    "rollback ends a trial of what came after": Press(
        ASKING,
        on_trial(3)._replace(stable=version(2), known_good=(version(1),)),
        Observed(version(3), THREE),
        "rollback@2#1",
        (P.SUPERSEDED, P.ROLLED_BACK),
        1,
        0,
        "returned to version 1",
    ),
    "rollback ends a watch": Press(
        ASKING, watched(), SEEN, "rollback@2#1", (P.ROLLED_BACK,), 1, 0, "returned to version 1"
    ),
    "rollback without a version before": Press(
        ASKING, STABLE, Observed(version(1), THREE), "rollback@1#1", (), 1, 0, "no version before"
    ),
    "rollback of a pinned fleet": Press(
        PINNED, AFTER, SEEN, "rollback@2#1", (), 2, 0, "spec.rollout.pinnedVersion instead"
    ),
    "rollback of a paused fleet": Press(
        PAUSED, AFTER, SEEN, "rollback@2#1", (), 2, 0, "resume it first"
    ),
    "pause when it is paused": Press(
        ASKING, on_trial(paused=True), SEEN, "pause@2#1", (), 1, 2, "nothing to do"
    ),
    "resume of what Git paused": Press(
        PAUSED, on_trial(), SEEN, "resume@2#1", (), 1, 2, "set spec.rollout.paused to false"
    ),
    "a word nobody knows": Press(
        ASKING, on_trial(), SEEN, "undo@2#1", (), 1, 2, "<verb>@<sequence>#<nonce>"
    ),
}


@pytest.mark.parametrize("press", PRESSED.values(), ids=PRESSED.keys())
def test_pressed(press: Press) -> None:
    decision = decide(press.spec, press.state, press.seen._replace(request=press.request), NOW)
    state = decision.state
    assert tuple(move.phase for move in decision.moves) == press.moves
    assert press.words in state.rollout.answer
    assert state.stable == version(press.stable)
    assert (state.candidate.sequence if state.candidate else 0) == press.candidate


def test_a_pause_holds_everything_and_its_time_does_not_count() -> None:
    spec = Rollout(steps=[Step(robots=1, min_episodes=1, soak="60s", deadline="100s")])
    seen = GOOD._replace(request="pause@2#1")
    paused = decide(spec, on_trial(), seen, NOW + 30)
    assert paused.state.rollout.reason == Reason.PAUSED
    assert "resume@2" in paused.state.rollout.message
    still = decide(spec, paused.state, seen, NOW + 1000)
    assert still.state == paused.state
    resumed = decide(spec, still.state, seen._replace(request="resume@2#2"), NOW + 1030)
    assert resumed.moves == ()
    assert resumed.state.rollout.reason == Reason.AWAITING_EPISODES
    assert [note.reason for note in resumed.notes] == [Reason.RESUMED]
    soaked = decide(spec, resumed.state, GOOD, NOW + 1060)
    assert [move.phase for move in soaked.moves] == [P.PROMOTED]


def test_a_pause_outlives_the_trial_in_which_it_was_asked_for() -> None:
    paused = decide(ASKING, on_trial(), SEEN._replace(request="pause@2#1"), NOW).state
    ended = decide(ASKING, paused, SEEN._replace(request="abort@2#2"), NOW).state
    assert ended.rollout.paused
    assert decide(ASKING, ended, Observed(version(3), THREE), NOW).moves == ()


def test_a_request_longer_than_status_repeats_is_handled_once() -> None:
    seen = SEEN._replace(request="x" * 1000)
    once = decide(ASKING, on_trial(), seen, NOW)
    assert decide(ASKING, once.state, seen, NOW).notes == ()


def test_a_paused_fleet_lets_no_robot_into_the_stage_and_none_out() -> None:
    state = on_trial(robots=("gone", "r1"))
    assert decide(PAUSED, state, SEEN, NOW).state.rollout.robots == ["gone", "r1"]
    assert decide(ASKING, state, SEEN, NOW).state.rollout.robots == ["r1"]
