"""Tasks get robot time by their weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_runtime.robot.tasks import Schedule


@given(
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6),
    lengths=st.lists(st.floats(1, 200), min_size=1, max_size=10),
    start=st.integers(0, 10**9),
)
def test_each_task_gets_its_share_of_time_however_long_its_episodes_are(
    weights: list[float], lengths: list[float], start: int
) -> None:
    tasks = {f"t{index}": weight for index, weight in enumerate(weights)}
    schedule = Schedule(tasks, start=start)
    used = dict.fromkeys(tasks, 0.0)
    for turn in range(600):
        task = schedule.next()
        length = lengths[(turn + int(task[1:])) % len(lengths)]
        used[task] += length
        schedule.spent(task, length)
    total = sum(used.values())
    for task, weight in tasks.items():
        share = weight / sum(weights)
        assert abs(used[task] - share * total) <= 200 * len(tasks)


def test_a_task_without_weight_never_runs() -> None:
    schedule = Schedule({"a": 1, "b": 0})
    for _ in range(5):
        assert schedule.next() == "a"
        schedule.spent("a", 10)


def test_a_task_whose_attempts_fail_at_once_does_not_block_the_others() -> None:
    schedule = Schedule({"a": 1, "b": 1})
    seen = []
    for _ in range(4):
        seen.append(schedule.next())
        schedule.spent(seen[-1], 0)
    assert seen == ["a", "b", "a", "b"]


def test_robots_of_one_fleet_begin_with_different_tasks() -> None:
    assert {Schedule({"a": 1, "b": 1}, start=start).next() for start in range(2)} == {"a", "b"}


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="no task"):
        Schedule({"a": 0})
