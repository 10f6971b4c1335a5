"""An episode in parts: cut and put together it is the same, and nothing else is put together."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience import codec, parts
from fleet_runtime.experience.parts import cut, joined
from fleet_runtime.experience.types import ARRAYS
from learning.makers import episode, frames, smooth

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode


def pieces(made: Episode, cuts: list[int]) -> list[Episode]:
    bounds = [0, *sorted(cuts)]
    inner = [cut(made, start, stop) for start, stop in itertools.pairwise(bounds)]
    return [*inner, cut(made, bounds[-1])]


def same(one: Episode, other: Episode) -> bool:
    facts = all(getattr(one, name) == getattr(other, name) for name in codec.FACTS)
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
    cameras = one.images.keys() == other.images.keys()
    return (
        facts
        and arrays
        and cameras
        and all(np.array_equal(one.images[c], other.images[c]) for c in one.images)
    )


@settings(max_examples=60)
@given(st.text(alphabet=".hs", min_size=2, max_size=30), st.data())
def test_cut_anywhere_sent_and_joined_it_is_the_same_episode(
    pattern: str, data: st.DataObject
) -> None:
    made = episode(**frames(pattern))
    cuts = data.draw(st.lists(st.integers(1, len(made) - 1), unique=True, max_size=5))
    sent = [codec.decode(codec.encode(part)) for part in pieces(made, cuts)]
    assert [part.outcome for part in sent] == ["aborted"] * len(cuts) + ["success"]
    assert same(joined(sent), made)


def test_frames_are_cut_and_joined_with_their_steps() -> None:
    filmed = np.stack([smooth((8, 8, 3), seed) for seed in range(7)])
    made = episode(images={"wrist": filmed})
    assert same(joined(pieces(made, [2, 5])), made)


_UNLIKE: dict[str, tuple[RejectCode, dict[str, Any]]] = {
    "of another robot": (RejectCode.CONFLICT, {"robot": "eve"}),
    "under another version": (RejectCode.CONFLICT, {"policy_sequence": 4}),
    "by another policy": (RejectCode.CONFLICT, {"policy_digest": "sha256:1"}),
    "at another task": (RejectCode.CONFLICT, {"task": "right"}),
    "in another mode": (RejectCode.CONFLICT, {"mode": "eval"}),
    "of other sizes": (RejectCode.SHAPE, {"observation": np.zeros((3, 5), np.float32)}),
    "somewhere else": (RejectCode.CONFLICT, {"observation": np.full((3, 2), 9, np.float32)}),
    "with another camera": (
        RejectCode.SHAPE,
        {"images": {"wrist": np.zeros((3, 4, 4, 3), np.uint8)}},
    ),
    "before it": (RejectCode.MALFORMED, {"time": np.zeros(2)}),
}


@pytest.mark.parametrize("how", _UNLIKE)
def test_a_part_that_goes_on_is_refused(how: str) -> None:
    code, changes = _UNLIKE[how]
    first, second = pieces(episode(), [4])
    with pytest.raises(Reject) as refused:
        joined([first, dataclasses.replace(second, **changes)])
    assert refused.value.code is code


def test_parts_with_a_gap_are_refused() -> None:
    first, _, third = pieces(episode(), [2, 4])
    with pytest.raises(Reject, match="does not begin where part 0 ends"):
        joined([first, third])


def test_parts_are_not_put_together_beyond_what_a_whole_episode_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = pieces(episode(), [2, 4])
    monkeypatch.setattr(parts, "MAX_BYTES", made[0].nbytes + made[1].nbytes - 1)
    read = iter(made)
    with pytest.raises(Reject, match="more than are taken"):
        joined(read)
    assert len(list(read)) == 1  # and the rest was not even read
