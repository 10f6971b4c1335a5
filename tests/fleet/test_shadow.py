"""A policy computes beside the one that drives: what is counted, and that nothing waits for it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fleet_contract.messages import AssignmentRole, Event, EventKind, Shadowed, Trip
from fleet_runtime.experience.types import Float, Images
from fleet_runtime.policies.base import Policy
from fleet_runtime.policies.flow import FlowPolicy
from fleet_runtime.robot.env import Observation
from fleet_runtime.robot.guard import Guard, GuardSettings
from fleet_runtime.robot.human import Control
from fleet_runtime.robot.shadow import Account, Asked, Bounds
from fleet_runtime.robot.shadow_slot import ALONE, ShadowSlot
from fleet_runtime.robot.swap import IllegalMove
from helpers.alone import Alone, loaded
from helpers.world import SPEC, PointRobot, flow

# --- the slot -------------------------------------------------------------------------------


def test_an_offer_computes_from_the_next_episode_on_and_the_newest_wins() -> None:
    one, two = loaded(1, flow()), loaded(2, flow())
    slot = ALONE.begin("acting").offer(one).offer(two)
    assert slot.active is None
    assert slot.end().begin("acting").active is two


def test_a_withdrawn_or_denied_one_computes_to_the_episode_s_end_and_no_further() -> None:
    one = loaded(1, flow())
    for leave in (ShadowSlot.withdraw, lambda slot: slot.deny(frozenset({one.digest}))):
        slot = leave(ALONE.offer(one).begin("acting"))
        assert slot.active is one
        assert slot.end().begin("acting").active is None
    assert ALONE.offer(one).deny(frozenset({"another"})).wanted is one


def test_nobody_is_a_shadow_of_itself() -> None:
    one = loaded(1, flow())
    slot = ALONE.offer(one).begin(one.digest)
    assert slot.active is None
    assert slot.end().begin("acting").active is one


def test_illegal_moves_raise() -> None:
    with pytest.raises(IllegalMove):
        ALONE.end()
    with pytest.raises(IllegalMove):
        ALONE.begin("acting").begin("acting")


@given(st.lists(st.sampled_from(["offer 1", "offer 2", "withdraw", "deny", "begin", "end"])))
def test_only_the_start_of_an_episode_changes_what_computes(moves: list[str]) -> None:
    these = {"offer 1": loaded(1, flow()), "offer 2": loaded(2, flow())}
    slot = ALONE
    for move in moves:
        before = slot
        try:
            if move in these:
                slot = slot.offer(these[move])
            elif move == "deny":
                slot = slot.deny(frozenset({these["offer 1"].digest}))
            elif move == "begin":
                slot = slot.begin("acting")
            else:
                slot = {"withdraw": slot.withdraw, "end": slot.end}[move]()
        except IllegalMove:
            assert slot.driving == (move == "begin")
        if move == "begin":
            assert slot.active is (before.active if before.driving else before.wanted)
        elif move != "end":
            assert slot.active is before.active


# --- the account ----------------------------------------------------------------------------

SEEN = Observation(np.zeros(2, np.float32), 0.0)


def plan(*actions: float) -> Float:
    return np.array(actions, np.float32)[:, None]


def account(rate: float | None = None) -> Account:
    low, high = SPEC.action_low, SPEC.action_high
    guard = Guard(low, high, GuardSettings(rate=rate))
    return Account(loaded(2, flow()), loaded(1, flow()), "left", Bounds(low, high), guard)


def entered(
    said: Float | Exception, did: Float | None, *, rate: float | None = None, human: bool = False
) -> Shadowed:
    made = account(rate)
    made.enter(Asked(SEEN, did, human=human), said, 0.01)
    return made.told()


@pytest.mark.parametrize(
    ("said", "rate", "trips"),
    [
        pytest.param(plan(0.1, 0.2), None, {}, id="sound"),
        pytest.param(plan(0.1, np.nan), None, {Trip.NOT_FINITE: 1}, id="nan"),
        pytest.param(plan(np.inf), None, {Trip.NOT_FINITE: 1}, id="inf"),
        pytest.param(plan(0.1, 1.5), None, {Trip.BOUNDS: 1}, id="out of bounds"),
        pytest.param(plan(2.0, -2.0), None, {Trip.BOUNDS: 2}, id="each action counts"),
        pytest.param(plan(0.1, 0.9), 0.2, {Trip.RATE: 1}, id="a jump inside the plan"),
        pytest.param(plan(0.9), 0.2, {}, id="a jump from what another did is none of its own"),
        pytest.param(plan(0.1, 0.2, np.nan), None, {Trip.NOT_FINITE: 1}, id="nan in its tail"),
        pytest.param(np.zeros((2, 3), np.float32), None, {Trip.SHAPE: 1}, id="another shape"),
        pytest.param(np.zeros(2, np.float32), None, {Trip.SHAPE: 1}, id="no chunk"),
        pytest.param(ArithmeticError("no solution"), None, {Trip.FAILED: 1}, id="it raised"),
    ],
)
def test_the_guard_s_own_checks_judge_what_it_would_have_done(
    said: Float | Exception, rate: float | None, trips: dict[Trip, int]
) -> None:
    assert entered(said, plan(0.0), rate=rate).trips == trips


@pytest.mark.parametrize(
    ("said", "did", "chunks", "disagreement"),
    [
        pytest.param(plan(0.1, 0.2), plan(0.1, 0.2), 1, 0.0, id="the same"),
        pytest.param(plan(1.0), plan(-1.0), 1, 2.0, id="opposite ends"),
        pytest.param(plan(0.0, 1.0), plan(0.0, 0.0), 1, 0.5, id="the mean over the steps"),
        pytest.param(plan(0.5, 0.9), plan(0.0), 1, 0.5, id="over the steps both have"),
        pytest.param(plan(0.5, 0.5, 0.9), plan(0, 0, 0), 1, 0.5, id="that it would execute"),
        pytest.param(plan(), plan(0.0), 0, None, id="an empty plan"),
        pytest.param(plan(3e38), plan(-1.0), 1, 2.0, id="out of bounds is at the bound"),
        pytest.param(plan(0.5), None, 0, None, id="the acting policy said nothing sound"),
        pytest.param(plan(np.nan), plan(0.0), 0, None, id="it said nothing sound itself"),
        pytest.param(ValueError(), plan(0.0), 0, None, id="it raised"),
    ],
)
def test_disagreement_is_the_mean_difference_in_halves_of_the_range(
    said: Float | Exception, did: Float | None, chunks: int, disagreement: float | None
) -> None:
    told = entered(said, did)
    assert told.chunks == chunks
    assert told.disagreement == (None if disagreement is None else pytest.approx(disagreement))


def test_what_cannot_move_cannot_differ_and_each_action_has_a_range_of_its_own() -> None:
    bounds = Bounds((-1.0, 0.0, 2.0), (1.0, 10.0, 2.0))
    one, other = np.array([[0.5, 5.0, 2.0]], np.float32), np.array([[0.0, 0.0, 2.0]], np.float32)
    assert bounds.disagreement(one, other) == pytest.approx((0.5 + 1.0 + 0.0) / 3)


def test_a_person_s_frames_are_kept_apart() -> None:
    told = entered(plan(0.75, 0.0), plan(0.25), human=True)
    assert (told.chunks, told.disagreement, told.most) == (0, None, None)
    assert told.human_frames == 1
    assert told.human_disagreement == pytest.approx(0.5)


def test_mean_and_most_are_over_the_chunks_of_the_episode() -> None:
    made = account()
    for said in (0.0, 0.2, 0.7):
        made.enter(Asked(SEEN, plan(0.0)), plan(said), said)
    told = made.told()
    assert told.chunks == 3
    assert told.disagreement == pytest.approx(0.3)
    assert told.most == pytest.approx(0.7)
    assert made.slowest == 0.7


# --- beside the control loop ------------------------------------------------------------------

STEPS = SPEC.horizon
CHUNKS = STEPS // 2  # the policy executes two actions of each chunk


class Odd(FlowPolicy):
    """A policy whose answer is whatever a test makes of the sound one."""

    def __init__(self, change: Callable[[Float], Float]) -> None:
        sound = flow(seed=2)
        super().__init__(sound.settings, sound.normalization)
        self.net.load_state_dict(sound.net.state_dict())
        self._change = change
        self.threads: set[str] = set()

    def act(
        self, observation: Float, task: NDArray[np.integer], images: Images | None = None
    ) -> Float:
        self.threads.add(threading.current_thread().name)
        return self._change(super().act(observation, task, images))


def always(action: float) -> Odd:
    return Odd(lambda chunk: np.full_like(chunk, action))


@contextmanager
def running(
    folder: Path, acting: Policy, shadow: Policy | None, *, hz: float = 200.0, human: object = None
) -> Iterator[tuple[Alone, PointRobot]]:
    robot = PointRobot()
    alone = Alone(folder, robot, hz=hz, human=human)  # type: ignore[arg-type]
    if shadow is not None:
        alone.desk.accompany(lambda slot: slot.offer(loaded(2, shadow)))
    alone.desk.change(lambda slot: slot.offer(loaded(1, acting)))
    with alone:
        yield alone, robot


def shadowed(event: Event) -> Shadowed:
    assert event.shadow is not None
    return event.shadow


def compared(event: Event) -> int:
    return shadowed(event).chunks


def test_a_shadow_is_told_of_each_episode_by_its_own_name_and_never_drives(tmp_path: Path) -> None:
    shadow = always(-0.25)
    with running(tmp_path, always(0.5), shadow) as (alone, robot):
        alone.until(3, EventKind.SHADOW)
        told = shadowed(alone.first(EventKind.SHADOW, compared))
    assert told.disagreement == pytest.approx(0.75)
    assert told.most == pytest.approx(0.75)
    assert set(robot.acted) == {0.5}
    assert shadow.threads == {"shadow"}
    for event, outcome in zip(alone.of(EventKind.SHADOW), alone.of(EventKind.OUTCOME), strict=True):
        told = shadowed(event)
        assert (event.role, event.episode_id) == (AssignmentRole.SHADOW, outcome.episode_id)
        assert (event.policy, told.acted) == (loaded(2, shadow).ref, outcome.policy)
        assert outcome.role is AssignmentRole.LIVE
        if outcome.frames == STEPS:
            assert told.chunks + told.skipped == CHUNKS
    events = [event.kind for event in alone.events if event.kind is not EventKind.SWAP]
    assert set(pairwise(events)) == {  # an episode is told first
        (EventKind.OUTCOME, EventKind.SHADOW),
        (EventKind.SHADOW, EventKind.OUTCOME),
    }


def test_the_same_weights_agree_for_both_get_the_same_noise(tmp_path: Path) -> None:
    with running(tmp_path, flow(seed=1), flow(seed=1)) as (alone, _):
        event = alone.first(EventKind.SHADOW, compared)
    assert shadowed(event).most == pytest.approx(0, abs=1e-6)


def broken(chunk: Float) -> Float:
    raise ArithmeticError("no solution")


@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        pytest.param(broken, Trip.FAILED, "no solution", id="raises"),
        pytest.param(lambda c: np.full_like(c, np.nan), Trip.NOT_FINITE, "finite", id="nan"),
        pytest.param(lambda c: np.full_like(c, 7.0), Trip.BOUNDS, "6 out of bounds", id="bounds"),
    ],
)
def test_whatever_a_shadow_answers_the_robot_goes_on_and_its_guard_has_nothing_to_say(
    tmp_path: Path, change: Callable[[Float], Float], kind: Trip, detail: str
) -> None:
    with running(tmp_path, flow(seed=1), Odd(change)) as (alone, robot):
        event = alone.first(EventKind.SHADOW, lambda event: shadowed(event).trips)
        alone.until(3, EventKind.SHADOW)
    assert alone.desk.tally.guard_trips == 0
    assert max(map(abs, robot.acted)) <= 1.0
    assert shadowed(event).trips.keys() == {kind}
    assert detail in event.detail
    assert {one.outcome for one in alone.of(EventKind.OUTCOME)[:3]} <= {"success", "timeout"}


def test_a_shadow_that_hangs_skips_every_chunk_and_no_episode_waits_for_it(tmp_path: Path) -> None:
    free, asked = threading.Event(), threading.Event()

    def hang(chunk: Float) -> Float:
        asked.set()
        free.wait(60)
        return chunk

    with running(tmp_path, flow(seed=1), Odd(hang)) as (alone, _):
        alone.until(4, EventKind.SHADOW)
        assert asked.is_set()
        assert not free.is_set()
        hung = alone.of(EventKind.SHADOW)
        free.set()
        after = alone.first(EventKind.SHADOW, compared)
    assert {(shadowed(one).chunks, one.latency) for one in hung} == {(0, None)}
    assert [shadowed(event).skipped for event in hung[:4]] == [CHUNKS] * 4
    # Free again, it computes again; what it said too late stands nowhere.
    assert after.latency is not None
    assert shadowed(after).chunks + shadowed(after).skipped <= CHUNKS


def test_without_a_shadow_nothing_is_told_and_no_thread_is_begun(tmp_path: Path) -> None:
    with running(tmp_path, flow(seed=1), None) as (alone, _):
        alone.until(2)
        assert "shadow" not in {thread.name for thread in threading.enumerate()}
    assert alone.of(EventKind.SHADOW) == []


class Helper:
    """A person who drives each episode's second half, at full speed to the right."""

    def begin(self, task: str) -> None:
        """Nothing to prepare."""

    def control(self, step: int, reward: float) -> Control:
        return Control.SCHEDULED if step >= STEPS // 2 else Control.POLICY

    def act(self, observation: Float) -> Float:
        return np.ones(1, np.float32)


def test_in_a_person_s_frames_it_is_compared_with_the_person(tmp_path: Path) -> None:
    with running(tmp_path, always(-0.5), always(1.0), human=Helper()) as (alone, _):
        alone.first(EventKind.SHADOW, lambda event: shadowed(event).human_frames)
        alone.first(EventKind.SHADOW, compared)
    told = [shadowed(event) for event in alone.of(EventKind.SHADOW)]
    assert all(one.chunks + one.skipped <= CHUNKS // 2 for one in told)
    with_person = {one.human_disagreement for one in told if one.human_frames}
    with_policy = {one.disagreement for one in told if one.chunks}
    assert (with_person, with_policy) == ({0.0}, {1.5})  # it says what the person does
