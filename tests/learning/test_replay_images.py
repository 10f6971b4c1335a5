"""Frames in the replay: always the one that was put in, never more bytes than were given."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience.batch import SampleSpec, Side, Source
from fleet_runtime.replay.arena import Arena, row_bytes
from fleet_runtime.replay.buffers import Buffers
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.memory import share
from learning.makers import SPACES, episode

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode, Pixel

CAMERAS = {"top": (2, 3, 3), "wrist": (1, 1, 3)}
SIGHTED = SPACES.model_copy(update={"images": CAMERAS})
ROW = row_bytes(2, 1, CAMERAS)
NOTHING: dict[str, Episode] = {}


def filmed(number: int, steps: int) -> Episode:
    """Frame t of a camera is all (number, t, position of the camera)."""
    shown = {}
    for place, (name, shape) in enumerate(CAMERAS.items()):
        frames = np.zeros((steps + 1, *shape), np.uint8)
        frames[...] = np.stack([[number, t, place] for t in range(steps + 1)])[:, None, None]
        shown[name] = frames
    return episode(f"e{number}", steps=steps, images=shown)


def is_frame(found: Pixel, number: int, step: int, place: int) -> bool:
    return bool((found == [number, step, place]).all())


class Film(RuleBasedStateMachine):
    """An arena of twelve rows beside a dictionary of everything that was ever put."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(12, 2, 1, CAMERAS)
        self.full = self.arena.nbytes
        self.kept: dict[int, Episode] = {}
        self.held: list[tuple[Pixel, Pixel]] = []

    @rule(number=st.integers(0, 9), steps=st.integers(1, 12))
    def put(self, number: int, steps: int) -> None:
        self.kept[number] = filmed(number, steps)
        self.arena.put(number, self.kept[number])

    @rule(number=st.integers(0, 9))
    def forget(self, number: int) -> None:
        self.arena.forget(number)

    @rule(data=st.data(), windows=st.integers(0, 2), hold=st.booleans())
    def gather(self, data: st.DataObject, windows: int, hold: bool) -> None:
        if not self.kept:
            return
        drawn = data.draw(st.lists(st.sampled_from(sorted(self.kept)), min_size=1, max_size=9))
        ends = np.array([len(self.kept[number]) for number in drawn])
        step, *later = (
            np.array([data.draw(st.integers(0, end - 1)) for end in ends])
            for _ in range(1 + windows)
        )
        ahead = np.array(later, np.int64).reshape(windows, len(drawn)).T
        found = self.arena.gather(np.array(drawn), step, ends, 2, ahead, self.kept.__getitem__)
        for place, name in enumerate(CAMERAS):
            for row, number in enumerate(drawn):
                assert is_frame(found.images[name][row], number, step[row], place)
                for window in range(windows):
                    shown = found.later_images[name][row, window]
                    assert is_frame(shown, number, ahead[row, window], place)
        if hold:  # a view, as a tensor would be
            self.held.append((found.images["top"][:, 0], found.images["top"][:, 0].copy()))

    @invariant()
    def bounded(self) -> None:
        assert self.arena.nbytes == self.full == 12 * ROW

    @invariant()
    def left_alone(self) -> None:
        assert all(np.array_equal(view, copy) for view, copy in self.held)


TestFilm = Film.TestCase
TestFilm.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    room=st.integers(9, 30),
    windows=st.lists(st.integers(1, 12), max_size=2),
    seed=st.integers(0, 99),
)
def test_a_batch_shows_what_was_seen_at_each_row_and_at_its_windows(
    lengths: list[int], room: int, windows: list[int], seed: int
) -> None:
    spec = SampleSpec(4, 16, online=frozenset(Source), windows=tuple(windows))
    kept = {f"e{n}": filmed(n, steps) for n, steps in enumerate(lengths)}
    index = ReplayIndex(SIGHTED, spec, kept.__getitem__, cache_bytes=room * ROW)
    for made in kept.values():
        index.add(made, Side.ONLINE)
    batch = index.sample(np.array([[0, 16], [0, 0]]), np.random.default_rng(seed))
    for row in range(len(batch)):
        step = int(batch.observation[row, 0])  # the maker numbers its observations
        number = int(batch.images["top"][row, 0, 0, 0])
        for place, name in enumerate(CAMERAS):
            assert is_frame(batch.images[name][row], number, step, place)
            for window, seen in enumerate(batch.later_images[name][row]):
                assert is_frame(seen, number, int(batch.later[row, window, 0]), place)


def test_bytes_bound_the_cache_where_steps_do_not() -> None:
    index = ReplayIndex(SIGHTED, SampleSpec(4, 4), NOTHING.__getitem__, cache_bytes=8 * ROW + 1)
    with pytest.raises(Reject, match="9 steps, the cache holds 8") as caught:
        index.add(filmed(0, 9), Side.OFFLINE)
    assert caught.value.code is RejectCode.TOO_LARGE
    index.add(filmed(0, 8), Side.OFFLINE)


def test_an_episode_without_the_policys_cameras_is_rejected() -> None:
    index = ReplayIndex(SIGHTED, SampleSpec(4, 4), NOTHING.__getitem__)
    made = filmed(0, 3)
    blind = dataclasses.replace(made, images={"top": made.images["top"]})
    with pytest.raises(Reject, match=r"cameras \['wrist'\]"):
        index.add(blind, Side.OFFLINE)
    assert len(index) == 0


def test_cameras_no_policy_reads_take_no_room() -> None:
    kept = {"e0": filmed(0, 3)}
    index = ReplayIndex(SPACES, SampleSpec(4, 4), kept.__getitem__)
    index.add(kept["e0"], Side.OFFLINE)
    assert index.sample(np.array([[4, 0], [0, 0]]), np.random.default_rng(0)).images == {}


def test_memory_is_lent_again_once_no_view_of_it_is_left() -> None:
    buffers = Buffers()
    first = buffers.take((4, 2))
    address, view = first.ctypes.data, first[1:]
    del first
    assert buffers.take((4, 2)).ctypes.data != address
    del view
    gc.collect()
    assert address in {buffers.take((4, 2)).ctypes.data for _ in range(2)}


@pytest.mark.parametrize(
    ("told", "wanted"),
    [("4194304", 2**20), ("max", share(Path("/nowhere"))), ("9" * 18, share(Path("/nowhere")))],
)
def test_the_replay_takes_a_share_of_what_its_container_is_granted(
    told: str, wanted: int, tmp_path: Path
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{told}\n")
    assert share(limit) == wanted > 0
