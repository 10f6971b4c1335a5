"""Episodes: what they count for, and that their bytes can be trusted."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience import codec
from fleet_runtime.experience.types import ARRAYS, MODES, OUTCOMES, Episode
from learning.makers import TASKS, episode, frames


@pytest.mark.parametrize(
    ("pattern", "outcome", "judged"),
    [
        pytest.param("......", "success", True, id="a success of the policy alone counts"),
        pytest.param("......", "failure", False, id="a failure of the policy alone counts"),
        pytest.param("......", "timeout", False, id="running out of time is a failure"),
        pytest.param("..hh..", "success", False, id="a rescued stall is a failure"),
        pytest.param(".ss...", "success", None, id="a scheduled takeover says nothing"),
        pytest.param(".ss...", "timeout", None, id="nor when the task fails after it"),
        pytest.param(".ss.hh", "success", None, id="what a human left behind is not judged"),
        pytest.param(".hh.ss", "success", False, id="a stall before a scheduled takeover counts"),
        pytest.param("..hh..", "aborted", None, id="an aborted episode is nobody's fault"),
        pytest.param("......", "discarded", None, id="a discarded episode is nobody's fault"),
    ],
)
def test_an_episode_is_judged_by_its_first_human_frame(
    pattern: str, outcome: str, judged: bool | None
) -> None:
    made = episode(**frames(pattern), outcome=outcome)
    assert made.judged is judged
    assert made.autonomous is ("h" not in pattern and "s" not in pattern)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"id": ""}, RejectCode.MALFORMED, "id"),
        ({"outcome": "won"}, RejectCode.MALFORMED, "outcome"),
        ({"mode": "dream"}, RejectCode.MALFORMED, "mode"),
        ({"duration_s": float("nan")}, RejectCode.NON_FINITE, "duration_s"),
        ({"task": "dance"}, RejectCode.UNKNOWN_TASK, "dance"),
        ({"action": np.full((6, 1), np.nan, np.float32)}, RejectCode.NON_FINITE, "action"),
        ({"reward": np.zeros(5, np.float32)}, RejectCode.SHAPE, "reward"),
        ({"reward": np.zeros(6, np.float64)}, RejectCode.SHAPE, "float64"),
        ({"observation": np.zeros((6, 2), np.float32)}, RejectCode.SHAPE, "observation"),
        ({"observation": np.zeros((7, 3), np.float32)}, RejectCode.SHAPE, "observation"),
        ({"action": np.zeros((0, 1), np.float32)}, RejectCode.TOO_LARGE, "0 steps"),
        ({"action": [0.0] * 6}, RejectCode.MALFORMED, "not an array"),
        ({"scheduled": np.ones(6, bool)}, RejectCode.MALFORMED, "scheduled"),
        ({"time": np.arange(6, 0, -1, dtype=np.float64)}, RejectCode.MALFORMED, "backwards"),
    ],
)
def test_an_unsound_episode_is_rejected_with_its_reason(
    changes: dict[str, Any], code: RejectCode, words: str
) -> None:
    with pytest.raises(Reject, match=words) as caught:
        episode(**changes).validate(observation_size=2, action_size=1, tasks=TASKS)
    assert caught.value.code is code


def _floats(width: Literal[32, 64], *shape: int) -> st.SearchStrategy[Any]:
    kind = np.float32 if width == 32 else np.float64
    numbers = st.floats(-1e6, 1e6, width=width)
    return hnp.arrays(kind, shape, elements=numbers)


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    steps, o, a = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    human = draw(hnp.arrays(bool, steps))
    text = st.text(min_size=1, max_size=20)
    return Episode(
        id=draw(text),
        robot=draw(text),
        task=draw(text),
        outcome=draw(st.sampled_from(OUTCOMES)),
        outcome_source=draw(text),
        mode=draw(st.sampled_from(MODES)),
        policy_digest=draw(text),
        policy_sequence=draw(st.integers(-1, 2**40)),
        terminated=draw(st.booleans()),
        truncated=draw(st.booleans()),
        duration_s=draw(st.floats(0, 1e6)),
        observation=draw(_floats(32, steps + 1, o)),
        action=draw(_floats(32, steps, a)),
        policy_action=draw(_floats(32, steps, a)),
        intervention=human,
        scheduled=human & draw(hnp.arrays(bool, steps)),
        reward=draw(_floats(32, steps)),
        time=np.sort(draw(_floats(64, steps))),
        observation_age=draw(_floats(32, steps)),
        chunk_index=draw(hnp.arrays(np.int32, steps)),
    )


def same(left: Episode, right: Episode) -> bool:
    facts = [getattr(left, n) == getattr(right, n) for n in codec.Header.model_fields]
    arrays = [np.array_equal(getattr(left, n), getattr(right, n)) for n in ARRAYS]
    return all(facts) and all(arrays)


@settings(max_examples=60)
@given(episodes())
def test_bytes_give_back_the_episode_they_were_made_from(made: Episode) -> None:
    assert same(codec.decode(codec.encode(made)), made)


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_are_rejected_and_never_anything_else(data: st.DataObject) -> None:
    made = episode()
    whole = codec.encode(made)
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    if kind == "flip":
        damaged = bytearray(whole)
        damaged[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        damaged = bytearray(whole[:at])
    else:
        place = at if kind == "insert" else len(whole)
        damaged = bytearray(whole[:place] + data.draw(st.binary(min_size=1)) + whole[place:])
    try:
        found = codec.decode(bytes(damaged))
    except Reject:
        return
    assert same(found, made)  # only a bit that means nothing may go unnoticed


@settings(max_examples=200)
@given(st.data())
def test_a_forged_body_is_rejected_even_with_a_good_checksum(data: st.DataObject) -> None:
    body = bytearray(_body(codec.encode(episode())))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        codec.decode(_pack(bytes(body))).validate()
    except Reject:
        return


def test_a_decompression_bomb_is_refused_before_it_unpacks() -> None:
    bomb = _pack(b"\0" * (codec.MAX_BYTES + 1))
    assert len(bomb) < 100_000
    with pytest.raises(Reject, match="unpacks to") as caught:
        codec.decode(bomb)
    assert caught.value.code is RejectCode.TOO_LARGE


def test_a_frame_that_hides_its_size_is_refused() -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False)
    hidden = codec.MAGIC + bytes([codec.VERSION]) + packer.compress(b"\0" * 1000)
    with pytest.raises(Reject, match="declare its size"):
        codec.decode(hidden)


def test_another_version_is_refused_by_name() -> None:
    whole = codec.encode(episode())
    with pytest.raises(Reject, match="not version 1"):
        codec.decode(whole[:4] + b"\x02" + whole[5:])


def test_a_header_field_nobody_knows_is_ignored() -> None:
    body = _body(codec.encode(episode()))
    (length,) = struct.unpack_from(">I", body)
    header = body[4 : 4 + length].replace(b"{", b'{"new": 1, ', 1)
    grown = struct.pack(">I", len(header)) + header + body[4 + length :]
    assert same(codec.decode(_pack(grown)), episode())


def test_an_unsound_episode_is_refused_by_its_maker() -> None:
    with pytest.raises(Reject, match="reward"):
        codec.encode(episode(reward=np.full(6, np.inf, np.float32)))


def _body(whole: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(whole[5:])


def _pack(body: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_checksum=True)
    return codec.MAGIC + bytes([codec.VERSION]) + packer.compress(body)
