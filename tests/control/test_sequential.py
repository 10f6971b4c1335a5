"""The test statistic: where it has a closed form, which way it moves, how often it errs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_operator.decide import sequential
from fleet_operator.decide.sequential import (
    Compared,
    Tally,
    log_against_stable,
    log_below,
    surely_below,
    surely_worse,
)

DROP = 0.1


def beta(won: float, lost: float) -> float:
    return math.lgamma(won) + math.lgamma(lost) - math.lgamma(won + lost)


@pytest.mark.parametrize("seen", [Tally(20, 12), Tally(150, 100), Tally(240, 220)])
def test_an_unknown_base_is_integrated_under_jeffreys_prior(seen: Tally) -> None:
    closed = beta(seen.successes + 0.5, seen.failures + 0.5) - beta(0.5, 0.5)
    assert sequential._odds(Compared(seen), DROP).null == pytest.approx(closed, abs=1e-6)


def test_a_version_that_always_fails_is_found_though_no_stable_robot_is_beside_it() -> None:
    """Were too little bet on that, a world that changed would explain it however long it fails."""
    history = Tally(20, 20)
    assert surely_worse([Compared(Tally(4, 0), history=history)], DROP, 0.01)


def test_against_a_floor_it_is_walds_ratio_mixed_over_three_bets() -> None:
    ratios = [(0.574 / 0.5, 0.426 / 0.5), (0.7 / 0.5, 0.3 / 0.5), (0.95 / 0.5, 0.05 / 0.5)]
    parts = (0.915, 0.04, 0.045)
    mixed = sum(part * down**3 * up**2 for part, (down, up) in zip(parts, ratios, strict=True))
    assert log_below(Tally(5, 2), 0.5, DROP) == pytest.approx(math.log(mixed))


def test_a_long_history_makes_it_the_test_against_a_known_base() -> None:
    seen, base = Tally(60, 50), 0.9
    known = log_below(seen, base, DROP)
    learnt = log_against_stable([Compared(seen, history=Tally(5_000, 4_500))], DROP)
    assert learnt == pytest.approx(known, abs=0.1)


@pytest.mark.parametrize("task", [Compared(Tally()), Compared(Tally(), Tally(9, 8), Tally(50, 40))])
def test_without_an_episode_of_the_candidate_it_says_nothing(task: Compared) -> None:
    assert log_against_stable([task] * 3, DROP) == pytest.approx(0.0, abs=1e-9)


def test_a_task_that_is_only_harder_is_not_held_against_it() -> None:
    easy = Compared(Tally(5, 5), Tally(200, 196))
    hard = Compared(Tally(40, 20), Tally(20, 10), Tally(200, 100))
    pooled = Compared(Tally(45, 25), Tally(220, 206), Tally(200, 100))
    assert log_against_stable([easy, hard], DROP) < 0 < log_against_stable([pooled], DROP)


def test_one_task_among_eight_is_found() -> None:
    fine = Compared(Tally(12, 12), Tally(36, 34), Tally(500, 475))
    bad = Compared(Tally(12, 4), Tally(36, 34), Tally(500, 475))
    assert log_against_stable([*[fine] * 7, bad], DROP) > math.log(100)
    assert log_against_stable([fine] * 8, DROP) < 0


@given(st.integers(1, 80), st.floats(0, 1), st.sampled_from([0.05, 0.1, 0.3]))
def test_a_failure_in_place_of_a_success_speaks_against_it(
    episodes: int, share: float, drop: float
) -> None:
    won = max(1, round(episodes * share))
    fewer = log_below(Tally(episodes, won - 1), 0.5, drop)
    assert fewer >= log_below(Tally(episodes, won), 0.5, drop)


def test_where_everybody_fails_since_the_trial_began_the_world_changed() -> None:
    history = Tally(500, 475)
    alone = Compared(Tally(30, 24), history=history)
    beside = alone._replace(stable=Tally(90, 72))
    blamed, cleared = (log_against_stable([task], DROP) for task in (alone, beside))
    assert cleared < 0.5
    assert blamed > 2.5


@pytest.mark.parametrize(
    ("base", "history", "beside"),
    [(0.95, 400, 3), (0.95, 0, 3), (0.7, 0, 1), (0.7, 100, 0)],
    ids=["history and others", "others only", "one other, at 70 %", "history only, at 70 %"],
)
def test_looked_at_after_every_failure_it_errs_no_more_often_than_said(
    base: float, history: int, beside: int
) -> None:
    """At 10 %, where errors are frequent enough to count them; three standard errors of margin."""
    rate, rollouts, episodes, wrong = 0.1, 300, 100, 0
    draw = np.random.default_rng(7)
    for _ in range(rollouts):
        before = Tally(history, int(draw.binomial(history, base)))
        won = (draw.random(episodes) < base).cumsum()
        others = draw.binomial(beside, base, size=episodes).cumsum()
        for at in np.flatnonzero(np.diff(won, prepend=0) == 0):
            stable = Tally(beside * (int(at) + 1), int(others[at]))
            task = Compared(Tally(int(at) + 1, int(won[at])), stable, before)
            if surely_worse([task], DROP, rate):
                wrong += 1
                break
    assert wrong / rollouts <= rate + 3 * math.sqrt(rate * (1 - rate) / rollouts)


def least_failures(base: float, drop: float, rate: float, episodes: int) -> int:
    """Failures among so many episodes that settle it."""
    few, many = 0, episodes + 1
    while few < many:
        middle = (few + many) // 2
        if surely_below(Tally(episodes, episodes - middle), base, drop, rate):
            many = middle
        else:
            few = middle + 1
    return few


def taken_back(base: float, now: float, drop: float, rate: float, episodes: int) -> list[float]:
    """Probability that a version at ``now`` was taken back by each episode: summed up, not drawn.

    Looked at after each of them, against a base that is known.
    """
    there, gone, by = np.array([1.0]), 0.0, [0.0]
    for at in range(1, episodes + 1):
        there = np.append(there * now, 0.0) + np.append(0.0, there * (1 - now))
        settled = least_failures(base, drop, rate, at)
        gone += float(there[settled:].sum())
        there = there[:settled]
        by.append(gone)
    return by


@pytest.mark.parametrize("rate", [0.2, 0.05, 0.01, 0.001])
@pytest.mark.parametrize(
    ("base", "drop"),
    [(0.995, 0.3), (0.99, 0.2), (0.95, 0.1), (0.95, 0.3), (0.8, 0.1), (0.5, 0.3), (0.3, 0.0)],
)
def test_a_known_base_is_never_wronged_more_often_than_said(
    base: float, drop: float, rate: float
) -> None:
    assert taken_back(base, base, drop, rate, 400)[-1] <= 1.01 * rate


def test_what_the_stake_passes_its_mark_by_is_not_given_away() -> None:
    """A mark at 1/rate errs in 0.7 % of the trials, and the slowest take longer."""
    assert taken_back(0.95, 0.95, DROP, 0.01, 800)[-1] == pytest.approx(0.0094, abs=0.0003)
    slow, heavy = (taken_back(0.95, now, DROP, 0.01, 200) for now in (0.85, 0.5))
    assert next(at for at, part in enumerate(slow) if part >= 0.95) <= 156
    assert next(at for at, part in enumerate(heavy) if part >= 0.95) <= 18


@given(st.integers(0, 40), st.floats(0, 1), st.floats(0, 0.5))
def test_a_mark_is_between_seven_tenths_of_villes_and_his(
    episodes: int, share: float, drop: float
) -> None:
    base = sequential._base(Compared(Tally(3, 1), history=Tally(episodes, round(episodes * share))))
    assert 0.7 <= sequential._part([base, base], drop) <= 1


def test_only_a_base_that_is_known_from_before_makes_the_mark_lower() -> None:
    """Beside others alone it errs as often as it may, and more where the prior says otherwise."""
    others = Tally(4_000, 3_800)
    known, unknown = Compared(Tally(60, 50), history=others), Compared(Tally(60, 50), others)
    for task, part in ((known, 0.75), (unknown, 1.0)):
        e = log_against_stable([task], DROP)
        assert surely_worse([task], DROP, part * math.exp(-e) * 1.02)
        assert not surely_worse([task], DROP, part * math.exp(-e) * 0.98)
