"""What reaches the motors is finite and within bounds, whatever a policy says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fleet_contract.resources.robot_actor import Guard as Spec
from fleet_runtime.experience.types import Float
from fleet_runtime.robot.guard import Guard, GuardSettings

LOW, HIGH = (-1.0, 0.5), (1.0, 2.0)


def guard(rate: float | None = None) -> Guard:
    made = Guard(LOW, HIGH, GuardSettings(rate=rate))
    made.begin("a")
    return made


def act(*numbers: float) -> Float:
    return np.array(numbers, np.float32)


@given(
    actions=st.lists(
        arrays.arrays(np.float32, 2, elements=st.floats(width=32)), min_size=1, max_size=20
    ),
    rate=st.none() | st.floats(0.01, 1),
    by_policy=st.booleans(),
)
def test_whatever_goes_in_what_comes_out_is_finite_bounded_and_not_too_fast(
    actions: list[Float], rate: float | None, by_policy: bool
) -> None:
    made = guard(rate)
    last: Float | None = None
    for action in actions:
        safe = made.action(action, by_policy=by_policy)
        assert np.isfinite(safe).all()
        assert (safe >= np.array(LOW, np.float32)).all()
        assert (safe <= np.array(HIGH, np.float32)).all()
        if rate is not None and last is not None:
            allowed = rate * (np.array(HIGH, np.float32) - np.array(LOW, np.float32)) * 1.001 + 1e-6
            assert (np.abs(safe - last) <= allowed).all()
        last = safe


def test_a_sound_action_passes_unchanged_and_trips_nothing() -> None:
    made = guard()
    assert made.action(act(0.3, 1.0), by_policy=True).tolist() == pytest.approx([0.3, 1.0])
    assert made.action(act(1.00001, 2.0), by_policy=True).tolist() == [1.0, 2.0]  # rounding
    assert made.policy_trips == 0


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        pytest.param(act(float("nan"), 1), "not finite", id="nan"),
        pytest.param(act(float("inf"), 1), "not finite", id="inf"),
        pytest.param(act(1.5, 1), "out of bounds", id="above"),
        pytest.param(act(0, 0), "out of bounds", id="below"),
        pytest.param(act(0), "shape", id="shape"),
    ],
)
def test_a_policys_bad_action_is_a_trip_and_the_last_safe_one_is_held(
    action: Float, reason: str
) -> None:
    made = guard()
    made.action(act(0.2, 1.5), by_policy=True)
    assert made.action(action, by_policy=True).tolist() == pytest.approx([0.2, 1.5])
    assert made.episode_trips == 1
    assert reason in made.reasons[0]


def test_before_any_action_the_held_one_is_nearest_to_rest() -> None:
    assert guard().action(act(9, 9), by_policy=True).tolist() == [0.0, 0.5]


def test_a_humans_action_out_of_bounds_is_made_to_fit_and_is_no_trip() -> None:
    made = guard()
    assert made.action(act(3, 9), by_policy=False).tolist() == [1.0, 2.0]
    assert made.policy_trips == 0


def test_a_humans_action_that_is_not_finite_is_held_and_no_fault_of_the_policys() -> None:
    made = guard()
    made.begin("a", probation=True)
    made.action(act(0.2, 1.5), by_policy=True)
    for _ in range(3):
        assert not made.abort
        held = made.action(act(float("nan"), 1), by_policy=False)
        assert held.tolist() == pytest.approx([0.2, 1.5])
    assert made.abort
    assert (made.episode_trips, made.policy_trips, made.distrust) == (0, 0, False)
    made.begin("a", probation=True)
    assert not made.abort


def test_a_chunk_that_is_not_finite_is_one_trip_and_its_bad_rows_are_held() -> None:
    made = guard()
    made.action(act(0.2, 1.5), by_policy=True)
    chunk = np.array([[0.1, 1.0], [float("nan"), 1.0]], np.float32)
    assert made.chunk(chunk).ravel().tolist() == pytest.approx([0.1, 1.0, 0.2, 1.5])
    assert made.chunk(np.zeros((2, 3), np.float32)).shape == (1, 2)
    assert made.episode_trips == 2


def test_too_many_trips_abort_the_episode_then_the_policy() -> None:
    made = guard()
    for episode in range(2):
        made.begin("a")
        assert made.episode_trips == 0
        for _ in range(3):
            made.action(act(float("nan"), 0), by_policy=True)
        assert (made.abort, made.distrust) == (True, episode == 1)
    made.begin("b")
    assert not made.abort


def test_a_robot_that_says_nothing_of_its_guard_has_the_guard_of_before() -> None:
    assert GuardSettings.of(Spec()) == GuardSettings()
    told = Spec(inference_periods=2, max_step=0.1, trips_per_episode=4, trips_per_policy=9)
    assert GuardSettings.of(told) == GuardSettings(0.1, 4, 9, patience=2)
