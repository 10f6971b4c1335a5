"""Replay: what may be drawn, how far a chunk may reach, and how much memory it takes."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract.errors import Reject, RejectCode
from fleet_contract.resources.learning import Sampler, SamplerMode
from fleet_runtime.experience.batch import SOURCES, SampleSpec, Side, Source, source_of
from fleet_runtime.learner.build import sampling
from fleet_runtime.replay.arena import Arena
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex, segments
from fleet_runtime.replay.limiter import UpdateLimiter
from fleet_runtime.replay.sampler import AdaptiveSampler, SamplerSettings
from fleet_runtime.replay.selectors import UniformRuns
from learning.makers import SPACES, episode, frames

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode

EVERYTHING = SampleSpec(4, 16, frozenset(Source), frozenset(Source))
PATTERNS = st.text(alphabet=".hs", min_size=1, max_size=30)


def index_of(*made: Episode, spec: SampleSpec = EVERYTHING, **limits: Any) -> ReplayIndex:
    kept = {one.id: one for one in made}
    index = ReplayIndex(SPACES, spec, kept.__getitem__, **limits)
    for one in made:
        index.add(one, Side.ONLINE)
    return index


def counts(offline: int = 0, online: int = 0) -> np.ndarray:
    """Rows wanted of task `left`."""
    return np.array([[offline, online], [0, 0]])


@settings(max_examples=60)
@given(PATTERNS, st.integers(1, 12), st.integers(0, 99))
def test_a_chunk_is_valid_up_to_the_next_change_of_control(
    pattern: str, chunk: int, seed: int
) -> None:
    spec = dataclasses.replace(EVERYTHING, chunk=chunk)
    index = index_of(episode(**frames(pattern)), spec=spec)
    batch = index.sample(counts(online=20), np.random.default_rng(seed))
    human = [flag != "." for flag in pattern]
    for row in range(len(batch)):
        start = int(batch.observation[row, 0])  # the maker numbers its observations
        for ahead in range(chunk):
            reached = human[start : start + ahead + 1]
            inside = start + ahead < len(pattern) and set(reached) == {human[start]}
            assert batch.valid[row, ahead] == inside
            if inside:
                assert batch.action[row, ahead, 0] == np.float32((start + ahead) / 100)


@settings(max_examples=60)
@given(PATTERNS, st.lists(st.integers(1, 40), max_size=3), st.booleans(), st.integers(0, 99))
def test_a_window_ends_where_its_chunk_may_not_go_and_tells_what_was_seen_there(
    pattern: str, windows: list[int], through: bool, seed: int
) -> None:
    spec = dataclasses.replace(EVERYTHING, windows=tuple(windows), through_takeovers=through)
    made = episode(**frames(pattern))
    batch = index_of(made, spec=spec).sample(counts(online=20), np.random.default_rng(seed))
    ends = {step: stop for a, stop, _ in segments(made.intervention) for step in range(a, stop)}
    for row in range(len(batch)):
        start = int(batch.observation[row, 0])
        end = len(pattern) if through else ends[start]
        assert batch.remaining[row] == len(pattern) - start
        assert batch.success[row]
        assert SOURCES[batch.source[row]] is source_of(made, human=bool(made.intervention[start]))
        assert batch.valid[row].sum() == min(spec.chunk, end - start)
        for window, ahead, seen in zip(windows, batch.ahead[row], batch.later[row], strict=True):
            assert ahead == min(window, end - start)
            assert seen[0] == min(start + ahead, len(pattern) - 1)


@given(PATTERNS)
def test_segments_tile_an_episode_and_alternate(pattern: str) -> None:
    flags = frames(pattern)["intervention"]
    found = list(segments(flags))
    assert [step for start, stop, _ in found for step in range(start, stop)] == [*range(len(flags))]
    assert all((flags[start:stop] == human).all() for start, stop, human in found)
    assert all(a[2] != b[2] for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("pattern", "changes", "source", "steps"),
    [
        ("....", {}, Source.POLICY_ALONE_SUCCESS, 4),
        ("..hh", {}, Source.HUMAN, 2),
        ("..hh", {}, Source.POLICY_HELPED_SUCCESS, 2),
        ("..hh", {"outcome": "timeout"}, Source.POLICY_FAILURE, 2),
        ("..hh", {"outcome": "timeout"}, Source.HUMAN, 2),
        ("..hh", {"outcome": "aborted"}, Source.HUMAN, 0),
        ("....", {"outcome": "aborted"}, Source.POLICY_FAILURE, 0),
        ("....", {"mode": "eval"}, Source.POLICY_ALONE_SUCCESS, 0),
        ("....", {"mode": "shadow"}, Source.POLICY_ALONE_SUCCESS, 0),
    ],
)
def test_only_the_sources_asked_for_are_drawn(
    pattern: str, changes: dict[str, Any], source: Source, steps: int
) -> None:
    spec = SampleSpec(4, 16, frozenset(), frozenset({source}))
    index = index_of(episode(**frames(pattern), **changes), spec=spec)
    assert index.eligible().tolist() == [[0, steps], [0, 0]]


def test_every_step_of_a_pool_is_equally_likely() -> None:
    runs = UniformRuns(2)
    for number, (start, stop) in enumerate([(0, 1), (5, 9), (2, 7)]):
        runs.add(1, number, start, stop)
        runs.add(0, number + 10, start, stop)
    drawn = runs.draw(np.array([0, 20_000]), np.random.default_rng(0))
    _, seen = np.unique(drawn.episode * 100 + drawn.step, return_counts=True)
    assert len(seen) == runs.sizes[1] == 10
    assert seen.min() > 1800
    assert seen.max() < 2200


STEPS = st.tuples(st.sampled_from("+-?"), st.integers(0, 4), st.integers(0, 2), st.integers(1, 5))


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=40))
def test_what_is_drawn_is_what_was_added_and_not_removed(
    changes: list[tuple[str, int, int, int]],
) -> None:
    runs, kept = UniformRuns(3, facts=1), set[tuple[int, int, int]]()
    for what, number, pool, steps in (*changes, ("?", 0, 0, 1)):
        if what == "-":
            runs.remove(number)
            kept = {row for row in kept if row[1] != number}
        elif what == "+" and not any(row[:2] == (pool, number) for row in kept):
            runs.add(pool, number, 0, steps, number)
            kept |= {(pool, number, step) for step in range(steps)}
        if what != "?":
            continue
        counts = np.array([50 * (size > 0) for size in runs.sizes])
        found = runs.draw(counts, np.random.default_rng(0))
        drawn = zip(found.pool.tolist(), found.episode.tolist(), found.step.tolist(), strict=True)
        assert set(drawn) <= kept
        assert found.facts[:, 0].tolist() == found.episode.tolist()
        assert runs.sizes.sum() == len(kept)


def test_an_empty_pool_is_said_to_be_empty() -> None:
    runs = UniformRuns(2)
    runs.add(0, 7, 0, 3)
    with pytest.raises(ValueError, match="empty"):
        runs.draw(np.array([1, 1]), np.random.default_rng(0))


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    room=st.integers(9, 30),
    seed=st.integers(0, 99),
)
def test_what_was_evicted_is_loaded_again_and_memory_stays_bounded(
    lengths: list[int], room: int, seed: int
) -> None:
    made = [
        episode(f"e{n}", steps=s, action=np.full((s, 1), n, np.float32))
        for n, s in enumerate(lengths)
    ]
    index = index_of(*made, cache_steps=room)
    for _ in range(3):
        batch = index.sample(counts(online=16), np.random.default_rng(seed))
        assert np.isin(batch.action, np.arange(len(made))).all()
        assert (batch.action == batch.action[:, :1]).all()  # a chunk is of one episode
        assert (
            batch.observation[:, 0] < np.array(lengths)[batch.action[:, 0, 0].astype(int)]
        ).all()
    if sum(lengths) <= room:
        assert index.loads == 0


def test_the_arena_never_grows() -> None:
    arena = Arena(100, 2, 1)
    before = arena.nbytes
    for number in range(50):
        arena.put(number, episode(steps=1 + number))
    assert arena.nbytes == before
    assert len(arena) == 2  # 49 and 50 steps


def test_an_episode_delivered_twice_is_added_once() -> None:
    index = index_of(episode(), episode())
    index.add(episode(), Side.ONLINE)
    assert (len(index), index.steps) == (1, 6)


def test_the_oldest_online_episodes_make_room_and_demonstrations_stay() -> None:
    kept = {name: episode(name) for name in ["demo", "a", "b", "c"]}
    index = ReplayIndex(SPACES, EVERYTHING, kept.__getitem__, max_steps=18)
    index.add(kept["demo"], Side.OFFLINE)
    dropped = [index.add(kept[name], Side.ONLINE) for name in ["a", "b", "c"]]
    assert dropped == [(), (), ("a",)]
    assert [entry.id for entry in index] == ["demo", "b", "c"]


def test_a_late_label_moves_an_episode_between_sources() -> None:
    wins = SampleSpec(4, 16, frozenset(), frozenset({Source.POLICY_ALONE_SUCCESS}))
    index = index_of(episode(outcome="timeout"), spec=wins)
    assert index.eligible().sum() == 0
    assert index.relabel("e", "success")
    assert index.eligible().sum() == 6
    assert index.relabel("e", "discarded")
    assert index.eligible().sum() == 0
    assert not index.relabel("unknown", "success")


def test_a_dropped_episode_is_never_drawn() -> None:
    index = index_of(episode("a"), episode("b"))
    assert index.drop("a")
    assert not index.drop("a")
    assert "a" not in index
    assert index.eligible().sum() == 6


def test_an_unfit_episode_is_rejected_and_leaves_no_trace() -> None:
    index = index_of(cache_steps=5)
    for wrong, code in [
        (episode(task="dance"), RejectCode.UNKNOWN_TASK),
        (episode(observation=np.zeros((7, 9), np.float32)), RejectCode.SHAPE),
        (episode(), RejectCode.TOO_LARGE),
    ]:
        with pytest.raises(Reject) as caught:
            index.add(wrong, Side.ONLINE)
        assert caught.value.code is code
    assert (len(index), index.steps) == (0, 0)


LOSS = st.one_of(st.just(float("nan")), st.floats(0, 1e4))


@given(
    losses=st.lists(st.lists(LOSS, min_size=2, max_size=2), min_size=1, max_size=5),
    weights=st.data(),
)
def test_the_mix_is_a_distribution_within_the_papers_limits(
    losses: list[list[float]], weights: st.DataObject
) -> None:
    tasks = len(losses)
    given_weights = weights.draw(
        st.lists(st.floats(0.1, 10), min_size=tasks, max_size=tasks), label="weights"
    )
    sampler = AdaptiveSampler(tasks, weights=given_weights)
    sampler.observe(np.array(losses))
    mix = sampler.mix(np.ones((tasks, 2), np.int64))
    assert mix.sum() == pytest.approx(1.0)
    assert mix.sum(axis=1) == pytest.approx(np.array(given_weights) / sum(given_weights))
    share = mix[:, Side.ONLINE] / mix.sum(axis=1)
    assert (share >= 0.2 - 1e-9).all()
    assert (share <= 0.8 + 1e-9).all()


def test_the_online_share_is_the_papers_formula() -> None:
    sampler = AdaptiveSampler(1, SamplerSettings(alpha=1.5))
    sampler.observe(np.array([[0.4, 0.6]]))
    expected = np.exp(1.5 * 0.6) / (np.exp(1.5 * 0.6) + np.exp(0.4))
    assert sampler.online_share() == pytest.approx([expected])


def test_only_the_newest_losses_count() -> None:
    sampler = AdaptiveSampler(1, SamplerSettings(window=2))
    for loss in [9.0, 1.0, 3.0]:
        sampler.observe(np.array([[loss, np.nan]]))
    assert sampler.means()[0, Side.OFFLINE] == pytest.approx(2.0)


HUGE = float(np.finfo(np.float32).max)  # the largest loss a network can have
NONE = float("nan")


@pytest.mark.parametrize(
    ("online", "offline", "share"),
    [
        pytest.param(0.0, 0.0, 0.5, id="no loss left on either side"),
        pytest.param(0.3, 0.3, 1 / (1 + np.exp(-0.3)), id="equal losses lean online by α − 1"),
        pytest.param(0.2, 0.4, 0.5, id="α times as much offline is even"),
        pytest.param(0.0, 5.0, 0.2, id="online is mastered: the lower limit"),
        pytest.param(5.0, 0.0, 0.8, id="online is new: the upper limit"),
        pytest.param(HUGE, 0.0, 0.8, id="an online loss beyond exp"),
        pytest.param(0.0, HUGE, 0.2, id="an offline loss beyond exp"),
        pytest.param(HUGE, HUGE, 0.8, id="both beyond exp"),
        pytest.param(NONE, NONE, 0.5, id="before the first update"),
        pytest.param(NONE, 9.0, 0.5, id="nothing was drawn online yet"),
        pytest.param(9.0, NONE, 0.5, id="there never were demonstrations"),
    ],
)
def test_the_online_share_in_closed_form(online: float, offline: float, share: float) -> None:
    sampler = AdaptiveSampler(1, SamplerSettings(alpha=2.0))
    for _ in range(250):
        sampler.observe(np.array([[offline, online]]))
    assert sampler.online_share() == pytest.approx([share])


@given(st.floats(0, 0.5), st.floats(0.5, 1), st.lists(LOSS, min_size=2, max_size=2))
def test_the_limits_hold_from_the_first_draw_on(
    low: float, high: float, losses: list[float]
) -> None:
    sampler = AdaptiveSampler(1, SamplerSettings(low=low, high=high))
    for _ in range(2):
        assert low <= sampler.online_share()[0] <= high
        sampler.observe(np.array([losses]))


@given(st.lists(LOSS, min_size=2, max_size=2), st.floats(0, 1))
def test_balanced_is_one_to_one_whatever_the_losses_and_limits(
    losses: list[float], limit: float
) -> None:
    job = Sampler(mode=SamplerMode.BALANCED, min_online=limit, max_online=limit)
    sampler = AdaptiveSampler(1, sampling(job))
    sampler.observe(np.array([losses]))
    assert sampler.mix(np.array([[7, 1]])).tolist() == [[0.5, 0.5]]
    assert sampler.mix(np.array([[7, 0]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("low", "high", "eligible", "expected"),
    [
        (0.0, 0.0, [[0, 5]], [[0.0, 1.0]]),
        (1.0, 1.0, [[5, 0]], [[1.0, 0.0]]),
        (0.0, 0.0, [[5, 5]], [[1.0, 0.0]]),
    ],
    ids=["never online, but nothing else", "always online, but nothing else", "never online"],
)
def test_an_empty_side_goes_past_any_limit(
    low: float, high: float, eligible: list[list[int]], expected: list[list[float]]
) -> None:
    sampler = AdaptiveSampler(1, SamplerSettings(low=low, high=high))
    assert sampler.mix(np.array(eligible)).tolist() == expected


def test_a_task_draws_its_weights_share_and_one_without_data_leaves_it_to_the_others() -> None:
    sampler = AdaptiveSampler(3, weights=[1, 3, 4])
    there = np.array([[5, 5], [9, 1], [1, 1]])
    assert sampler.mix(there).sum(axis=1).tolist() == [0.125, 0.375, 0.5]
    there[2] = 0
    assert sampler.mix(there).sum(axis=1).tolist() == [0.25, 0.75, 0.0]


@pytest.mark.parametrize(
    ("eligible", "expected"),
    [
        ([[5, 5], [5, 5]], [[0.25, 0.25], [0.25, 0.25]]),
        ([[5, 0], [5, 5]], [[0.5, 0.0], [0.25, 0.25]]),
        ([[0, 5], [5, 0]], [[0.0, 0.5], [0.5, 0.0]]),
        ([[0, 0], [5, 5]], [[0.0, 0.0], [0.5, 0.5]]),
    ],
    ids=["cold start is half and half", "empty online", "opposite sides", "a task without data"],
)
def test_empty_buffers_leave_their_share_to_what_there_is(
    eligible: list[list[int]], expected: list[list[float]]
) -> None:
    mix = AdaptiveSampler(2).mix(np.array(eligible))
    assert mix.tolist() == expected


def test_with_nothing_to_draw_the_sampler_says_so() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        AdaptiveSampler(2).mix(np.zeros((2, 2), np.int64))


def by_the_book(
    told: list[np.ndarray], there: np.ndarray, weights: list[float], given: SamplerSettings
) -> list[list[float]]:
    """The mix as the paper's text has it, with the exponentials written out."""
    table = []
    for task, weight in enumerate(weights):
        means = []
        for side in Side:
            losses = [float(one[task, side]) for one in told if np.isfinite(one[task, side])]
            means.append(np.mean(losses[-given.window :]) if losses else NONE)
        on, off = np.exp(given.alpha * means[Side.ONLINE]), np.exp(means[Side.OFFLINE])
        share = 0.5 if np.isnan(on + off) else on / (on + off)
        share = min(max(share, given.low), given.high)
        if not there[task].all():
            share = float(there[task, Side.ONLINE] > 0)
        table.append([weight * (1 - share), weight * share] if there[task].any() else [0.0, 0.0])
    total = sum(map(sum, table))
    return [[part / total for part in row] for row in table]


@settings(max_examples=80)
@given(st.data(), st.integers(1, 4), st.integers(1, 7), st.integers(0, 99))
def test_the_mix_is_the_papers_after_any_losses_over_any_pools(
    data: st.DataObject, tasks: int, window: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    given = SamplerSettings(alpha=1.0 + rng.random(), window=window)
    weights = (0.1 + rng.random(tasks)).tolist()
    sampler, told = AdaptiveSampler(tasks, given, weights=weights), list[np.ndarray]()
    drawn = data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]), label="how often a pool is drawn")
    for _ in range(3 * window):
        there = rng.integers(0, 2, (tasks, 2)) * 7
        there[rng.integers(tasks)] = 7
        for eligible in (there, np.full((tasks, 2), 7)):
            expected = by_the_book(told, eligible, weights, given)
            np.testing.assert_allclose(sampler.mix(eligible), expected, rtol=1e-12, atol=0)
        told.append(np.where(rng.random((tasks, 2)) < drawn, rng.exponential(1, (tasks, 2)), NONE))
        sampler.observe(told[-1])


@given(st.integers(0, 450), st.sampled_from([0.0, 0.3, 0.98, 1.0]))
def test_a_sampler_goes_on_from_its_state_as_if_it_never_stopped(
    updates: int, drawn: float
) -> None:
    first, second = AdaptiveSampler(2, seed=1), AdaptiveSampler(2, seed=2)
    rng = np.random.default_rng(0)
    for _ in range(updates):
        first.observe(np.where(rng.random((2, 2)) < drawn, rng.random((2, 2)), NONE))
    second.load(json.loads(json.dumps(first.state())))
    for _ in range(3):
        losses = rng.random((2, 2))
        first.observe(losses)
        second.observe(losses)
        np.testing.assert_array_equal(first.means(), second.means())
        many = np.full((2, 2), 9)
        assert first.draw(64, many).tolist() == second.draw(64, many).tolist()


def test_a_feed_gives_batches_of_the_size_the_algorithm_asked_for() -> None:
    index = index_of(episode("a"), episode("b", task="right"))
    batch = next(Feed(index, AdaptiveSampler(2)))
    assert batch.observation.shape == (16, 2)
    assert batch.action.shape == (16, 4, 1)
    assert set(batch.task.tolist()) == {0, 1}
    assert set(batch.side.tolist()) == {Side.ONLINE}


def test_updates_are_paid_for_by_episodes() -> None:
    limiter = UpdateLimiter(per_episode=50, initial=100)
    assert limiter.allowed(updates=0, episodes=0) == 100
    assert limiter.allowed(updates=100, episodes=0) == 0
    assert limiter.allowed(updates=120, episodes=1) == 30
    assert limiter.allowed(updates=900, episodes=1) == 0
