"""Stages by group and site, their deadlines, and the watch after a promotion."""

from typing import Any, NamedTuple

import pytest

from control.rollouts import NOW, STABLE, THREE, known, on_trial, version, watched
from fleet_contract.names import Reason
from fleet_contract.resources import (
    Approval,
    OnDeadline,
    PolicyPhase,
    PostPromotion,
    Rollout,
    RolloutMode,
    RolloutPhase,
    Selector,
    Step,
)
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.rollout import Observed, State, decide

P = PolicyPhase
FLEET = (
    Robot("n1", site="north", groups=("arms",)),
    Robot("n2", site="north"),
    Robot("s1", site="south", groups=("arms", "new")),
    Robot("s2", site="south"),
)


@pytest.mark.parametrize(
    ("step", "robots"),
    [
        (Step(percent=100, selector=Selector(sites=["north"])), ["n1", "n2"]),
        (Step(percent=50, selector=Selector(groups=["arms"])), 1),
        (Step(percent=100, selector=Selector(groups=["arms", "new"])), ["n1", "s1"]),
        (Step(robots=4, selector=Selector(sites=["south"], groups=["arms"])), ["s1"]),
        (Step(percent=51), 3),
    ],
)
def test_a_stage_is_chosen_from_its_selector(step: Step, robots: list[str] | int) -> None:
    spec = Rollout(steps=[step])
    found = decide(spec, STABLE, Observed(version(2), FLEET), NOW).state.rollout.robots
    assert found == robots if isinstance(robots, list) else len(found) == robots


def test_the_next_stage_is_at_its_own_site_and_the_robots_before_go_back() -> None:
    spec = Rollout(
        steps=[Step(percent=100, selector=Selector(sites=[site])) for site in ("north", "south")]
    )
    seen = Observed(version(2), FLEET, Evidence(10, 10), 10)
    after = decide(spec, on_trial(robots=("n1", "n2")), seen, NOW).state.rollout
    assert (after.step, after.robots) == (1, ["s1", "s2"])


def test_a_version_waits_where_nobody_is_whom_the_first_step_wants() -> None:
    spec = Rollout(steps=[Step(robots=1, selector=Selector(sites=["east"]))])
    decision = decide(spec, STABLE, Observed(version(2), FLEET), NOW)
    assert decision.moves == ()
    assert decision.state.rollout.reason == Reason.NO_ROBOT_CONNECTED
    assert "selector" in decision.state.rollout.message


def test_robots_that_join_get_the_share_that_the_stage_says() -> None:
    spec = Rollout(steps=[Step(percent=50)])
    fleet = tuple(Robot(f"r{index}") for index in range(8))
    before = decide(spec, on_trial(robots=("r0", "r1")), Observed(version(2), fleet[:4]), NOW)
    assert before.state.rollout.robots == ["r0", "r1"]
    after = decide(spec, before.state, Observed(version(2), fleet), NOW).state.rollout.robots
    assert len(after) == 4
    assert {"r0", "r1"} <= set(after)


class Late(NamedTuple):
    on: OnDeadline
    evidence: Evidence
    after: float  # seconds in the stage
    moves: tuple[PolicyPhase, ...]
    phase: RolloutPhase
    reason: str


DEADLINE = {
    "before it nothing happens": Late(
        OnDeadline.FREEZE, Evidence(1, 1), 59, (), RolloutPhase.STAGED, Reason.AWAITING_EPISODES
    ),
    "at it the stage freezes": Late(
        OnDeadline.FREEZE, Evidence(1, 1), 60, (), RolloutPhase.FROZEN, Reason.DEADLINE_PASSED
    ),
    "or the version is taken back": Late(
        OnDeadline.ROLL_BACK, Evidence(1, 1), 60, (P.ROLLED_BACK,), RolloutPhase.IDLE, ""
    ),
    "what passed in time goes on": Late(
        OnDeadline.ROLL_BACK, Evidence(10, 10), 60, (P.PROMOTED,), RolloutPhase.IDLE, ""
    ),
    "what is bad is taken back for that": Late(
        OnDeadline.FREEZE, Evidence(20, 0), 60, (P.ROLLED_BACK,), RolloutPhase.IDLE, ""
    ),
}


@pytest.mark.parametrize("case", DEADLINE.values(), ids=DEADLINE.keys())
def test_a_deadline(case: Late) -> None:
    spec = Rollout(steps=[Step(robots=1, deadline="60s", on_deadline=case.on)])
    seen = Observed(version(2), THREE, case.evidence, 10)
    decision = decide(spec, on_trial(), seen, NOW + case.after)
    assert tuple(move.phase for move in decision.moves) == case.moves
    rollout = decision.state.rollout
    assert (rollout.phase, rollout.reason) == (case.phase, case.reason)


def test_a_frozen_stage_waits_for_people_whatever_its_robots_do_later() -> None:
    spec = Rollout(steps=[Step(robots=1, deadline="60s")])
    seen = Observed(version(2), THREE, Evidence(1, 1), 10)
    frozen = decide(spec, on_trial(), seen, NOW + 60)
    assert [(note.reason, note.warning) for note in frozen.notes] == [
        (Reason.DEADLINE_PASSED, True)
    ]
    for button in ("skip@2", "resume@2", "abort@2"):
        assert button in frozen.state.rollout.message
    good = seen._replace(evidence=Evidence(10, 10))
    assert decide(spec, frozen.state, good, NOW + 90).moves == ()
    resumed = decide(spec, frozen.state, seen._replace(request="resume@2#1"), NOW + 90)
    assert resumed.state.rollout.reason == Reason.AWAITING_EPISODES
    assert decide(spec, resumed.state, seen, NOW + 149).state.rollout.phase is RolloutPhase.STAGED
    assert decide(spec, resumed.state, seen, NOW + 150).state.rollout.phase is RolloutPhase.FROZEN


WATCHING = Rollout(post_promotion=PostPromotion(min_episodes=20, soak="60s"))


class Watched(NamedTuple):
    evidence: Evidence
    after: float
    stable: int
    moves: tuple[PolicyPhase, ...]
    watching: bool
    spec: Rollout = WATCHING
    fields: dict[str, Any] = {}


SINCE = {
    "it lasts until its episodes are there": Watched(Evidence(19, 19), 60, 2, (), True),
    "and until its time is over": Watched(Evidence(20, 20), 59, 2, (), True),
    "then it ends": Watched(Evidence(20, 20), 60, 2, (), False),
    "a rate under the floor keeps it on": Watched(Evidence(20, 8), 60, 2, (), True),
    "a bad verdict returns the fleet": Watched(Evidence(20, 1), 10, 1, (P.ROLLED_BACK,), False),
    "a guard trip too": Watched(Evidence(0, 0, 0, 1), 1, 1, (P.ROLLED_BACK,), False),
    "one failure is no verdict where only time was asked for": Watched(
        *(Evidence(1, 0), 10, 2, (), True),
        Rollout(post_promotion=PostPromotion(soak="60s")),
    ),
    "a paused fleet stays as it is": Watched(
        Evidence(20, 0), 10, 2, (), True, WATCHING.model_copy(update={"paused": True})
    ),
    "it ends where nobody asks for one any more": Watched(
        Evidence(0, 0), 1, 2, (), False, Rollout()
    ),
    "a pin ends it": Watched(
        *(Evidence(0, 0), 1, 2, (), False),
        WATCHING.model_copy(update={"mode": RolloutMode.PINNED, "pinned_version": 2}),
    ),
}


@pytest.mark.parametrize("case", SINCE.values(), ids=SINCE.keys())
def test_a_watch(case: Watched) -> None:
    seen = Observed(version(2), THREE, case.evidence, 30)
    decision = decide(case.spec, watched(), seen, NOW + case.after)
    state = decision.state
    assert tuple(move.phase for move in decision.moves) == case.moves
    assert (state.stable, state.rollout.watching) == (version(case.stable), case.watching)
    assert state.rolled_back == ((2,) if case.stable == 1 else ())


def test_a_promotion_begins_the_watch_and_newer_versions_wait_for_its_end() -> None:
    passed = Observed(version(3), THREE, Evidence(10, 10), 10)
    begun = decide(WATCHING, on_trial(), passed, NOW)
    assert [move.phase for move in begun.moves] == [P.PROMOTED]
    assert begun.state.rollout.phase is RolloutPhase.WATCHING
    assert begun.state.known_good == (version(1),)
    assert Reason.WATCH_STARTED in {note.reason for note in begun.notes}
    ended = decide(
        WATCHING, begun.state, passed._replace(evidence=Evidence(20, 20), last_event=40), NOW + 60
    )
    assert [(m.version.sequence, m.phase) for m in ended.moves] == [(3, P.CANDIDATE), (3, P.STAGED)]


def test_a_watch_that_stays_in_doubt_ends_when_a_newer_version_waits() -> None:
    doubtful = Observed(version(2), THREE, Evidence(80, 35), 80)
    assert decide(WATCHING, watched(), doubtful, NOW + 60).state.rollout.watching
    decision = decide(WATCHING, watched(), doubtful._replace(announced=version(3)), NOW + 60)
    assert not decision.state.rollout.watching
    assert [(m.version.sequence, m.phase) for m in decision.moves] == [
        (3, P.CANDIDATE),
        (3, P.STAGED),
    ]
    assert "undecided: 35 of 80" in decision.notes[0].message


def test_the_first_version_is_not_watched_for_there_is_nothing_to_return_to() -> None:
    first = decide(WATCHING, State(), Observed(version(1), THREE), NOW).state
    assert (first.stable, first.rollout.watching) == (version(1), False)


def test_only_the_last_known_good_versions_are_kept() -> None:
    state, spec = STABLE, Rollout(steps=[Step(robots=1, min_episodes=1)])
    for sequence in range(2, 10):
        begun = decide(spec, state, Observed(version(sequence), THREE), NOW).state
        seen = Observed(version(sequence), THREE, Evidence(1, 1), 1)
        state = decide(
            spec,
            begun._replace(rollout=begun.rollout.model_copy(update={"events_from": 1})),
            seen,
            NOW,
        ).state
    assert [one.sequence for one in state.known_good] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("approval", "first", "second"),
    [
        (Approval.NEVER, Reason.FIRST_VERSION, Reason.CANARY_STARTED),
        (Approval.FIRST, Reason.AWAITING_APPROVAL, Reason.CANARY_STARTED),
        (Approval.ALWAYS, Reason.AWAITING_APPROVAL, Reason.AWAITING_APPROVAL),
    ],
)
def test_approval(approval: Approval, first: Reason, second: Reason) -> None:
    spec = Rollout(approval=approval)
    for state, sequence, expected in ((State(), 1, first), (STABLE, 2, second)):
        decision = decide(spec, state, Observed(version(sequence), THREE), NOW)
        asks = expected is Reason.AWAITING_APPROVAL
        assert decision.moves[-1].reason is (Reason.ANNOUNCED if asks else expected)
        if asks:
            assert f"approve@{sequence}" in decision.state.rollout.message
            assert expected in {note.reason for note in decision.notes}


AWAY = tuple(one._replace(connected=False) for one in THREE)


@pytest.mark.parametrize(
    ("fleet", "stands"),
    [
        pytest.param(AWAY, True, id="nobody is at work"),
        pytest.param((*AWAY[1:], THREE[0]), False, id="robots of somebody's own go on"),
    ],
)
def test_while_a_job_is_suspended_and_nobody_works_no_time_passes(
    fleet: tuple[Robot, ...], *, stands: bool
) -> None:
    """Else a night of suspension would take back whatever was on trial, and soak what was not."""
    step = Step(robots=1, deadline="60s", on_deadline=OnDeadline.ROLL_BACK)
    watch = PostPromotion(soak="60s")
    for spec, state in (
        (Rollout(steps=[step]), on_trial()),
        (Rollout(post_promotion=watch), watched()),
    ):
        seen = Observed(None, fleet, suspended=True)
        asleep = decide(spec, state, seen, NOW + 10).state
        slept = decide(spec, asleep, seen, NOW + 1000)
        ended = slept.state.candidate is None and not slept.state.rollout.watching
        assert ended is not stands
        if stands:
            awake = Observed(None, THREE)
            went_on = decide(spec, slept.state, awake, NOW + 1001)
            assert went_on.moves == ()
            assert went_on.state.rollout.paused_at is None
            later = decide(spec, went_on.state, awake, NOW + 1052)
            ended = later.state.candidate is None and not later.state.rollout.watching
            assert ended


@pytest.mark.parametrize(
    ("pin", "seen", "told"),
    [
        pytest.param(7, {}, "Version 7, to which the fleet is pinned, is not there", id="unknown"),
        pytest.param(1, {}, "", id="what the fleet runs"),
        pytest.param(7, {"announced": version(7)}, "", id="announced this moment"),
        pytest.param(7, {"known": known(v7=P.ROLLED_BACK)}, "", id="there, and taken back"),
    ],
)
def test_a_pin_on_a_version_that_is_not_there_is_told(
    pin: int, seen: dict[str, Any], told: str
) -> None:
    spec = Rollout(mode=RolloutMode.PINNED, pinned_version=pin)
    found = decide(spec, STABLE, Observed(robots=THREE, **seen), NOW)
    assert found.state.rollout.reason == (Reason.PIN_UNKNOWN if told else "")
    assert told in found.state.rollout.message
    assert [note.reason for note in found.notes] == [Reason.PIN_UNKNOWN] * bool(told)
