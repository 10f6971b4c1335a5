"""The shadow gate: what robots tell of a version that computes beside theirs, and the verdict."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.rollouts import NOW, gated, version, waiting
from fleet_contract import names
from fleet_contract.messages import (
    AssignmentRole,
    Event,
    EventKind,
    PolicyRef,
    Shadowed,
)
from fleet_contract.names import Reason
from fleet_contract.resources import (
    Analysis,
    GatePhase,
    Gates,
    GateStatus,
    PolicyPhase,
    Rollout,
    Selector,
    Shadow,
)
from fleet_operator.decide import assignment, shadow
from fleet_operator.decide.beside import Account, Beside, Scope
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.gates import Gate
from fleet_operator.decide.rollout import Observed, State, decide

P = GatePhase


def ref(sequence: int) -> PolicyRef:
    return assignment.ref(version(sequence))


SCOPE = Scope(ref(2).digest, ref(1).digest, start=10)


def told(
    episode: str = "e1",
    *,
    of: int = 2,
    acted: int = 1,
    kind: EventKind = EventKind.SHADOW,
    latency: float | None = 0.01,
    **figures: Any,
) -> Event:
    figures = {"chunks": 4, "disagreement": 0.1, "most": 0.2} | figures
    return Event(
        kind=kind,
        robot="r1",
        robot_uid="u1",
        job_uid="j",
        episode_id=episode,
        policy=ref(of),
        role=AssignmentRole.SHADOW,
        latency=latency,
        detail="an action 6 out of bounds",
        shadow=Shadowed(acted=ref(acted), **figures) if kind is EventKind.SHADOW else None,
        at=0.0,
    )


def folded(*events: Event, start: int = 10) -> Beside:
    return Account(SCOPE).extend(enumerate(events, start)).added_up()


@pytest.mark.parametrize(
    ("events", "start", "episodes"),
    [
        pytest.param([told("a"), told("b")], 10, 2, id="an episode is one"),
        pytest.param([told("a"), told("a")], 10, 1, id="told twice it is still one"),
        pytest.param([told("a"), told("b")], 9, 1, id="what came before the gate began is not"),
        pytest.param([told(of=3)], 10, 0, id="another version's is not"),
        pytest.param([told(acted=3)], 10, 0, id="beside another than the stable one it is not"),
        pytest.param([told(chunks=0, disagreement=None)], 10, 0, id="nothing compared is none"),
        pytest.param([told(kind=EventKind.OUTCOME)], 10, 0, id="an outcome is none"),
    ],
)
def test_an_episode_counts_once_and_only_beside_the_stable_version(
    events: list[Event], start: int, episodes: int
) -> None:
    assert folded(*events, start=start).episodes == episodes


def test_figures_are_means_over_episodes_and_people_are_kept_apart() -> None:
    found = folded(
        told("a", chunks=10, skipped=10, disagreement=0.2, latency=0.5),
        told("b", chunks=1, disagreement=0.4, human_frames=1, human_disagreement=0.9),
        told("c", chunks=1, disagreement=0.6, human_frames=3, human_disagreement=0.1, latency=None),
    )
    assert found.disagreement == pytest.approx(0.4)
    assert found.most == pytest.approx(0.6)
    assert found.human == pytest.approx((0.9 + 3 * 0.1) / 4)
    assert found.latencies == (0.5, 0.01)
    assert found.skipped == pytest.approx(10 / 22)


def test_the_last_word_on_an_episode_counts() -> None:
    found = folded(told("a", disagreement=1.9), told("a", disagreement=0.1))
    assert found.disagreement == pytest.approx(0.1)


def test_trips_count_by_episode_and_are_told_by_kind() -> None:
    found = folded(told("a", trips={"bounds": 6}), told("b", trips={"bounds": 1, "rate": 2}))
    assert found.tripped == 2
    assert found.trips == "7 bounds, 2 rate; r1: an action 6 out of bounds"


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(0, 40))
def test_an_operator_that_reads_all_anew_knows_the_same(episodes: list[int], cut: int) -> None:
    events = [
        (number, told(f"e{of}", disagreement=of / 31)) for number, of in enumerate(episodes, 10)
    ]
    at_once = Account(SCOPE).extend(events)
    later = Account(SCOPE).extend(events[:cut]).extend(events[cut:])
    assert later.added_up() == at_once.added_up()


GOOD = Beside(5, 0.12, 0.3, latencies=(0.01,) * 5)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Beside, float, GatePhase, str]] = {
    "enough episodes that agree": (
        {},
        {},
        GOOD,
        0,
        P.PASSED,
        "5 of 5 episodes compared, disagreement 0.12 (at most 0.45), slowest inference 0.010 s",
    ),
    "not enough yet": ({}, {}, GOOD._replace(episodes=4), 0, P.RUNNING, "4 of 5 episodes"),
    "too far apart, but too early to say so": (
        {},
        {},
        GOOD._replace(episodes=4, disagreement=1.5),
        0,
        P.RUNNING,
        "disagreement 1.50",
    ),
    "too far apart": (
        {},
        {},
        GOOD._replace(disagreement=0.51),
        0,
        P.FAILED,
        "disagreement 0.51 (at most 0.45)",
    ),
    "as far apart as may be": ({"max_disagreement": 0.12}, {}, GOOD, 0, P.PASSED, "at most 0.12"),
    "nothing was told within the deadline": (
        {"deadline": "10m"},
        {},
        Beside(),
        600,
        P.BLOCKED,
        "0 of 5 episodes compared",
    ),
    "too little was told within the deadline": (
        {"deadline": "10m"},
        {},
        GOOD._replace(episodes=4),
        600,
        P.BLOCKED,
        "4 of 5",
    ),
    "all was told, however late": ({"deadline": "10m"}, {}, GOOD, 9999, P.PASSED, "5 of 5"),
    "silence, however long, is no pass": ({}, {}, Beside(), 1e9, P.BLOCKED, "0 of 5"),
    "one trip, at once": (
        {},
        {},
        Beside(1, 0.1, 0.1, tripped=1, trips="3 bounds; r1: out of bounds"),
        0,
        P.FAILED,
        "the guard would have stopped it in 1 episodes (3 bounds; r1: out of bounds)",
    ),
    "as many trips as are tolerated": (
        {},
        {"max_guard_trips": 1},
        GOOD._replace(tripped=1),
        0,
        P.PASSED,
        "5 of 5",
    ),
    "a robot would not take it": (
        {},
        {},
        Beside(refusal="robot r1 would not take it: observation size"),
        0,
        P.FAILED,
        "robot r1 would not take it",
    ),
    "surely too slow": (
        {"max_inference_latency": "50ms", "min_episodes": 100},
        {},
        GOOD._replace(latencies=(0.2,) * 5),
        0,
        P.FAILED,
        "5 of 5 episodes had an inference of more than 50ms",
    ),
    "too slow by the analysis' own bound": (
        {},
        {"max_inference_latency": "50ms"},
        GOOD._replace(latencies=(0.2,) * 5),
        0,
        P.FAILED,
        "more than 50ms",
    ),
    "the gate's bound counts for more than the analysis'": (
        {"max_inference_latency": "1s"},
        {"max_inference_latency": "50ms"},
        GOOD._replace(latencies=(0.2,) * 5),
        0,
        P.PASSED,
        "5 of 5",
    ),
    "slow once, which may be chance": (
        {"max_inference_latency": "50ms"},
        {},
        GOOD._replace(latencies=(0.2, 0.01, 0.01, 0.01, 0.01)),
        0,
        P.PASSED,
        "5 of 5",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts_and_the_sentences_that_carry_them(case: str) -> None:
    asked, bounds, found, elapsed, phase, words = CASES[case]
    got, said = shadow.judge(Shadow(**asked), Analysis(**bounds), found, elapsed)
    assert got is phase
    assert words in said


# --- the gate, as the rollout sees it -----------------------------------------------------

FLEET = (Robot("r1"), Robot("r2"), Robot("r3", connected=False, away=999))
NOTHING = Beside()
SPEC = Rollout(gates=Gates(shadow=Shadow(min_episodes=2)))


def at_gate(found: Beside = NOTHING, **fields: Any) -> tuple[State, Gate]:
    state = at(**fields)
    made = shadow.gate(SPEC, state, FLEET, found, 0)
    assert made is not None
    return state, made


def at(**fields: Any) -> State:
    """Version 2 at its shadow gate, version 1 stable."""
    asked = shadow.gate(SPEC, waiting(), FLEET, Beside(), 0)
    assert asked is not None
    return gated(**{"name": names.Gate.SHADOW, "asked": asked.asked} | fields)


def rules(state: State, spec: Rollout = SPEC) -> dict[AssignmentRole, tuple[str, ...]]:
    known = {number: version(number) for number in (1, 2)}
    return {rule.role: rule.robots for rule in assignment.content(spec, state, FLEET, known).rules}


def test_connected_robots_compute_and_what_they_run_is_the_stable_version() -> None:
    state, gate = at_gate()
    decision = decide(SPEC, state, Observed(robots=FLEET, gates=(gate,)), NOW)
    (status,) = decision.state.rollout.gates
    assert len(status.robots) == 1
    assert set(status.robots) <= {"r1", "r2"}
    assert decision.state.rollout.robots == []
    assert rules(decision.state) == {AssignmentRole.SHADOW: tuple(status.robots)}
    assert "moves nothing: 0 of 2 episodes compared" in decision.state.rollout.message


def test_who_computes_it_first_acts_on_it_first() -> None:
    state, gate = at_gate(Beside(2, 0.1, 0.1))
    (before,) = decide(SPEC, at(), Observed(robots=FLEET, gates=(at_gate()[1],)), NOW)[
        0
    ].rollout.gates
    decision = decide(SPEC, state, Observed(robots=FLEET, gates=(gate,)), NOW)
    assert decision.state.started
    assert decision.state.rollout.robots == before.robots
    assert rules(decision.state) == {AssignmentRole.LIVE: tuple(before.robots)}


def test_a_robot_that_computes_goes_on_while_others_come() -> None:
    many = tuple(Robot(f"r{number}") for number in range(9))
    (first,) = shadow.choose(Shadow(), many[:3], "salt", ())
    assert shadow.choose(Shadow(), many, "salt", [first]) == [first]
    assert len(shadow.choose(Shadow(percent=50), many, "salt", [first])) == 5
    gone = [robot for robot in many if robot.name != first]
    assert len(shadow.choose(Shadow(), gone, "salt", [first])) == 1


def test_a_version_that_a_gate_refused_is_taken_back_and_nobody_ever_ran_it() -> None:
    state, gate = at_gate(Beside(2, 1.5, 1.5), robots=["r1"])
    decision = decide(SPEC, state, Observed(robots=FLEET, gates=(gate,)), NOW)
    assert decision.state.rolled_back == (2,)
    assert rules(decision.state) == {}
    (move,) = decision.moves
    assert (move.phase, move.reason) == (PolicyPhase.ROLLED_BACK, Reason.GATE_FAILED)
    assert "its shadow gate refused it, 2 of 2 episodes compared, disagreement 1.50" in move.message


def test_with_no_stable_version_nothing_acts_and_the_gate_is_passed_over_with_a_word() -> None:
    state, gate = at_gate()
    state = state._replace(stable=None)
    found = shadow.gate(SPEC, state, FLEET, Beside(), 0)
    assert found is not None
    decision = decide(SPEC, state, Observed(robots=FLEET, gates=(found,)), NOW)
    assert decision.state.stable == version(2)
    (note,) = (note for note in decision.notes if note.reason is Reason.GATE_SKIPPED)
    assert "no version drives yet" in note.message
    assert gate.report is not None
    assert gate.report.phase is P.RUNNING


@pytest.mark.parametrize(
    ("robots", "words"),
    [
        pytest.param((), "waits for a robot that may compute it", id="no robot at all"),
        pytest.param((Robot("r1", connected=False),), "waits for a robot", id="one is offline"),
        pytest.param((Robot("r1", pin=1), Robot("r2", suspended=True)), "waits", id="none may"),
    ],
)
def test_where_nobody_can_compute_it_a_sentence_says_so(
    robots: tuple[Robot, ...], words: str
) -> None:
    found = shadow.gate(SPEC, at(), robots, Beside(), 0)
    assert found is not None
    assert found.report is not None
    assert words in found.report.message
    late = shadow.gate(SPEC, at(), robots, Beside(), 1e6)
    assert late is not None
    assert late.report is not None
    assert late.report.phase is P.BLOCKED
    assert "retry@2" in late.report.message


def test_what_is_asked_anew_is_run_anew_and_an_older_run_says_nothing() -> None:
    state, gate = at_gate(Beside(2, 0.1, 0.1))
    elsewhere = Shadow(min_episodes=2, selector=Selector(sites=["b"]))
    other = SPEC.model_copy(update={"gates": Gates(shadow=elsewhere)})
    anew = shadow.gate(other, state, FLEET, Beside(9, 0.1, 0.1), 0)
    assert anew is not None
    assert anew.asked != gate.asked
    assert anew.report is None
    (status,) = decide(other, state, Observed(robots=FLEET, gates=(anew,), last_event=7), NOW)[
        0
    ].rollout.gates
    assert (status.run, status.events_from, status.robots) == (2, 8, [])


def test_other_bounds_are_applied_to_what_was_told_already() -> None:
    state, gate = at_gate()
    tighter = SPEC.model_copy(
        update={"gates": Gates(shadow=Shadow(min_episodes=2, max_disagreement=0.05))}
    )
    found = shadow.gate(tighter, state, FLEET, Beside(2, 0.1, 0.1), 0)
    assert found is not None
    assert found.asked == gate.asked
    assert found.report is not None
    assert found.report.phase is P.FAILED


def test_after_the_stream_was_lost_its_new_numbers_count() -> None:
    state, gate = at_gate(events_from=50)
    (status,) = decide(SPEC, state, Observed(robots=FLEET, gates=(gate,), last_event=3), NOW)[
        0
    ].rollout.gates
    assert status.events_from == 1


def test_no_gate_is_asked_for_unless_spec_says_so() -> None:
    assert shadow.gate(Rollout(), waiting(), FLEET, Beside(), 0) is None
    assert GateStatus(name=names.Gate.SHADOW).robots == []
