"""How ingest paces itself: few segments, and nobody in a hurry waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_runtime.learner.pace import EVERY, FULL, SAVED, Pace

ROUNDS = st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), max_size=60)


@given(ROUNDS)
def test_segments_are_never_more_than_records_and_time_pay_for(
    rounds: list[tuple[int, float]],
) -> None:
    pace, now, segments, records = Pace(0.0), 0.0, 0, 0
    for new, spent in rounds:
        now += spent
        segments, records = segments + 1, records + new
        now += pace.pause(new, now)
        assert segments <= records / FULL + now / EVERY + 1e-6


def test_a_lone_episode_waits_for_nothing_and_the_next_one_for_a_quarter_of_a_second() -> None:
    pace = Pace(0.0)
    for _ in range(SAVED // FULL):  # what a long silence has saved
        assert pace.pause(1, 100.0) == 0
    assert pace.pause(1, 100.0) == pytest.approx(EVERY, abs=0.05)


def test_full_rounds_follow_each_other_at_once_and_a_small_one_among_them_too() -> None:
    pace = Pace(0.0)
    assert [pace.pause(new, 0.0) for new in (100, 32, 5, 60, 10, 90)] == [0.0] * 6
