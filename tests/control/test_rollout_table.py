"""The rollout, as a list of sentences: before, what was seen, after."""

from typing import NamedTuple

import pytest

from control.rollouts import NOW, STABLE, THREE, on_trial, version
from fleet_contract.resources import (
    PolicyPhase,
    Rollout,
    RolloutMode,
    RolloutStatus,
    Step,
    Strategy,
)
from fleet_contract.resources.analysis import Analysis
from fleet_operator.decide import phases
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.evidence import Task
from fleet_operator.decide.rollout import Decision, Observed, State, decide
from fleet_operator.decide.sequential import Compared, Tally

ONE_STEP = Rollout(steps=[Step(robots=1, min_episodes=10)])
FAILING = Evidence(4, 0, tasks=(Task("push", Compared(Tally(4, 0), Tally(20, 19))),))


class Case(NamedTuple):
    spec: Rollout
    state: State
    seen: Observed
    stable: int
    candidate: int
    robots: int
    moves: tuple[PolicyPhase, ...]
    after: float = 0.0  # seconds since NOW


P = PolicyPhase
CASES = {
    "the first version is promoted at once, even with nobody there": Case(
        ONE_STEP, State(), Observed(version(1)), 1, 0, 0, (P.CANDIDATE, P.PROMOTED)
    ),
    "a second version starts on one robot": Case(
        ONE_STEP, STABLE, Observed(version(2), THREE), 1, 2, 1, (P.CANDIDATE, P.STAGED)
    ),
    "a version waits until a robot that may try it is connected": Case(
        ONE_STEP, STABLE, Observed(version(2), (Robot("r1", connected=False),)), 1, 0, 0, ()
    ),
    "a suspended robot and a pinned one try nothing": Case(
        ONE_STEP,
        STABLE,
        Observed(version(2), (Robot("r1", suspended=True), Robot("r2", pin=1))),
        1,
        0,
        0,
        (),
    ),
    "Broadcast gives a version to all at once": Case(
        Rollout(strategy=Strategy.BROADCAST),
        STABLE,
        Observed(version(2), THREE),
        2,
        0,
        0,
        (P.CANDIDATE, P.PROMOTED),
    ),
    "nothing passes before its episodes": Case(
        ONE_STEP, on_trial(), Observed(version(2), THREE, Evidence(9, 9), 9), 1, 2, 1, ()
    ),
    "enough good episodes promote": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, Evidence(10, 5), 10),
        2,
        0,
        0,
        (P.PROMOTED,),
    ),
    "too few successes take it back": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, Evidence(20, 1), 20),
        1,
        0,
        0,
        (P.ROLLED_BACK,),
    ),
    "a rate under the floor that may be chance neither passes nor is taken back": Case(
        ONE_STEP, on_trial(), Observed(version(2), THREE, Evidence(10, 4), 10), 1, 2, 1, ()
    ),
    "nor after four times its episodes while nothing newer waits": Case(
        ONE_STEP, on_trial(), Observed(version(2), THREE, Evidence(40, 17), 40), 1, 2, 1, ()
    ),
    "a doubt that lasts waits for more even if a newer one came": Case(
        ONE_STEP, on_trial(), Observed(version(3), THREE, Evidence(39, 17), 39), 1, 2, 1, ()
    ),
    "but no longer than four times its episodes": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(3), THREE, Evidence(40, 17), 40),
        1,
        3,
        1,
        (P.SUPERSEDED, P.CANDIDATE, P.STAGED),
    ),
    "three failures against a stable version that hardly fails decide at once": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, FAILING, 4),
        1,
        0,
        0,
        (P.ROLLED_BACK,),
    ),
    "one guard trip takes it back at once": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, Evidence(0, 0, 0, 1), 1),
        1,
        0,
        0,
        (P.ROLLED_BACK,),
    ),
    "a robot that cannot load it has it taken back, for it would never end an episode": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, Evidence(refusal="robot r1 would not take it: no weights"), 1),
        1,
        0,
        0,
        (P.ROLLED_BACK,),
    ),
    "guard trips up to the limit are tolerated": Case(
        ONE_STEP.model_copy(update={"analysis": Analysis(max_guard_trips=1)}),
        on_trial(),
        Observed(version(2), THREE, Evidence(0, 0, 0, 1), 1),
        1,
        2,
        1,
        (),
    ),
    "soak holds a good version back": Case(
        Rollout(steps=[Step(robots=1, min_episodes=10, soak="60s")]),
        on_trial(),
        Observed(version(2), THREE, Evidence(20, 20), 20),
        1,
        2,
        1,
        (),
        after=59,
    ),
    "after the soak it passes": Case(
        Rollout(steps=[Step(robots=1, min_episodes=10, soak="60s")]),
        on_trial(),
        Observed(version(2), THREE, Evidence(20, 20), 20),
        2,
        0,
        0,
        (P.PROMOTED,),
        after=60,
    ),
    "the next stage has more robots": Case(
        Rollout(steps=[Step(robots=1), Step(percent=50)]),
        on_trial(),
        Observed(version(2), THREE, Evidence(10, 10), 10),
        1,
        2,
        2,
        (P.STAGED,),
    ),
    "good episodes of a cohort that is gone do not pass": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), (Robot("r1", connected=False), *THREE[1:]), Evidence(10, 10), 10),
        1,
        2,
        1,
        (),
    ),
    "a deleted robot's place is filled": Case(
        ONE_STEP, on_trial(), Observed(version(2), THREE[1:], Evidence(), 0), 1, 2, 1, ()
    ),
    "a fleet that is gone freezes the trial": Case(
        ONE_STEP, on_trial(), Observed(version(2), (), Evidence(10, 10), 10), 1, 2, 0, ()
    ),
    "a newer version waits while one is on trial": Case(
        ONE_STEP, on_trial(), Observed(version(5), THREE, Evidence(1, 1), 1), 1, 2, 1, ()
    ),
    "when the trial ends well the newest is taken": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(5), THREE, Evidence(10, 10), 10),
        2,
        5,
        1,
        (P.PROMOTED, P.CANDIDATE, P.STAGED),
    ),
    "when the trial ends badly the newest is taken": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(5), THREE, Evidence(20, 0), 20),
        1,
        5,
        1,
        (P.ROLLED_BACK, P.CANDIDATE, P.STAGED),
    ),
    "a version taken back does not return": Case(
        ONE_STEP,
        State(version(1), RolloutStatus(), (2,), 2),
        Observed(version(2), THREE),
        1,
        0,
        0,
        (),
    ),
    "while paused nothing is taken": Case(
        ONE_STEP.model_copy(update={"paused": True}),
        STABLE,
        Observed(version(2), THREE),
        1,
        0,
        0,
        (),
    ),
    "while paused nothing passes and nothing is taken back": Case(
        ONE_STEP.model_copy(update={"paused": True}),
        on_trial(),
        Observed(version(2), THREE, Evidence(20, 0), 20),
        1,
        2,
        1,
        (),
    ),
    "in mode Manual a version waits for its promotion": Case(
        ONE_STEP.model_copy(update={"mode": RolloutMode.MANUAL}),
        STABLE,
        Observed(version(2), THREE),
        1,
        2,
        0,
        (P.CANDIDATE,),
    ),
    "in mode Manual a request starts the first stage": Case(
        ONE_STEP.model_copy(update={"mode": RolloutMode.MANUAL}),
        State(version(1), RolloutStatus(candidate=version(2)), (), 2),
        Observed(version(2), THREE, request="promote@2#a"),
        1,
        2,
        1,
        (P.STAGED,),
    ),
    "in mode Manual a passed stage waits for the next request": Case(
        ONE_STEP.model_copy(update={"mode": RolloutMode.MANUAL}),
        on_trial(),
        Observed(version(2), THREE, Evidence(10, 10), 10),
        1,
        2,
        1,
        (),
    ),
    "in mode Manual a bad version is taken back without a request": Case(
        ONE_STEP.model_copy(update={"mode": RolloutMode.MANUAL}),
        on_trial(),
        Observed(version(2), THREE, Evidence(20, 0), 20),
        1,
        0,
        0,
        (P.ROLLED_BACK,),
    ),
    "in mode Manual promoting the newest supersedes the one that waits": Case(
        ONE_STEP.model_copy(update={"mode": RolloutMode.MANUAL}),
        State(version(1), RolloutStatus(candidate=version(2)), (), 2),
        Observed(version(7), THREE, request="promote@7#a"),
        1,
        7,
        1,
        (P.SUPERSEDED, P.CANDIDATE, P.STAGED),
    ),
    "a request skips the last stage": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, request="skip@2#a"),
        2,
        0,
        0,
        (P.PROMOTED,),
    ),
    "an abort takes the version back": Case(
        ONE_STEP,
        on_trial(),
        Observed(version(2), THREE, request="abort@2#a"),
        1,
        0,
        0,
        (P.ROLLED_BACK,),
    ),
    "a request for another version does nothing": Case(
        ONE_STEP, on_trial(), Observed(version(2), THREE, request="abort@3#a"), 1, 2, 1, ()
    ),
    "a pin supersedes the trial": Case(
        ONE_STEP.model_copy(update={"mode": RolloutMode.PINNED, "pinned_version": 1}),
        on_trial(),
        Observed(version(9), THREE, Evidence(10, 10), 10),
        1,
        0,
        0,
        (P.SUPERSEDED,),
    ),
    "a stream made anew begins to count from its start": Case(
        ONE_STEP,
        on_trial(events_from=500),
        Observed(version(2), THREE, Evidence(), 3),
        1,
        2,
        1,
        (),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rollout(case: Case) -> None:
    decision = decide(case.spec, case.state, case.seen, NOW + case.after)
    state = decision.state
    found = (
        state.stable.sequence if state.stable else 0,
        state.candidate.sequence if state.candidate else 0,
        len(state.rollout.robots),
        tuple(move.phase for move in decision.moves),
    )
    assert found == (case.stable, case.candidate, case.robots, case.moves)


def test_a_handled_request_is_not_handled_again() -> None:
    spec = Rollout(steps=[Step(robots=1), Step(robots=2), Step(robots=3)])
    seen = Observed(version(2), THREE, request="skip@2#a")
    once = decide(spec, on_trial(), seen, NOW)
    again = decide(spec, once.state, seen, NOW)
    assert (once.state.rollout.step, again.state.rollout.step) == (1, 1)
    pressed = decide(spec, again.state, seen._replace(request="skip@2#b"), NOW)
    assert pressed.state.rollout.step == 2


def test_an_unknown_request_says_what_to_write() -> None:
    decision = decide(ONE_STEP, STABLE, Observed(request="please"), NOW)
    assert "<verb>@<sequence>#<nonce>" in decision.state.rollout.answer
    assert decision.state.last_handled_request == "please"


def test_an_old_stages_evidence_does_not_pass_the_next_one() -> None:
    spec = Rollout(steps=[Step(robots=1), Step(robots=2)])
    seen = Observed(version(2), THREE, Evidence(10, 10), 10, "skip@2#a")
    decision: Decision = decide(spec, on_trial(), seen, NOW)
    assert decision.state.rollout.step == 1
    assert decision.state.rollout.episodes == 0


@pytest.mark.parametrize("start", [P.CANDIDATE, P.GATED, P.STAGED, P.PROMOTED])
def test_only_what_was_tried_and_dropped_becomes_a_candidate_again(start: PolicyPhase) -> None:
    with pytest.raises(phases.IllegalMoveError, match="is no move"):
        phases.move(start, PolicyPhase.CANDIDATE)


@pytest.mark.parametrize("end", [P.ROLLED_BACK, P.SUPERSEDED])
def test_what_was_dropped_reaches_the_fleet_by_a_new_trial_only(end: PolicyPhase) -> None:
    assert {to for start, to in phases.MOVES if start is end} == {P.CANDIDATE}
