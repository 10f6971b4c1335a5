"""A policy that is late or hangs is not waited for; real threads, and no test depends on speed."""

import threading

import numpy as np
import pytest

from fleet_runtime.experience.types import Float
from fleet_runtime.robot.thinking import Thinker

LONG = 60.0  # seconds; nothing here takes them


def chunk(number: float) -> Float:
    return np.full((1, 1), number, np.float32)


def test_an_answer_and_a_fault_come_back_where_they_were_asked() -> None:
    thinker, policy = Thinker(), object()
    assert thinker.ask(policy, lambda: chunk(1), LONG) == chunk(1)
    with pytest.raises(ZeroDivisionError):
        thinker.ask(policy, lambda: chunk(1 / 0), LONG)
    assert thinker.ask(policy, lambda: chunk(2), LONG) == chunk(2)
    thinker.close()


def test_what_hangs_costs_its_time_only_and_a_late_answer_is_never_heard() -> None:
    thinker, policy, free = Thinker(), object(), threading.Event()
    asked: list[int] = []

    def hang() -> Float:
        asked.append(1)
        free.wait(LONG)
        return chunk(1)

    def other() -> Float:
        asked.append(2)
        return chunk(2)

    assert thinker.ask(policy, hang, 0.01) is None
    # It is one policy: while it is busy it is asked nothing else.
    assert thinker.ask(policy, other, 0.01) is None
    assert asked == [1]
    free.set()
    assert thinker.ask(policy, other, LONG) == chunk(2)
    assert asked == [1, 2]
    thinker.close()


def test_another_policy_answers_while_one_hangs() -> None:
    thinker, free = Thinker(), threading.Event()
    hung, sound = object(), object()

    def hang() -> Float:
        free.wait(LONG)
        return chunk(1)

    assert thinker.ask(hung, hang, 0.01) is None
    assert thinker.ask(sound, lambda: chunk(2), LONG) == chunk(2)
    free.set()
    thinker.close()
