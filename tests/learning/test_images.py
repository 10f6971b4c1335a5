"""Camera frames: that their bytes give them back, and that hostile ones cost nothing but words."""

from __future__ import annotations

import dataclasses
import itertools
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
import simplejpeg
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience import codec, images
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.experience.types import ARRAYS
from fleet_runtime.policies import bundle
from learning.makers import SPACES, episode, smooth

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Episode

GOLDEN = Path(__file__).parent / "golden"
SHAPE = (12, 16, 3)


def filmed(steps: int = 6, **changes: Any) -> Episode:
    """An episode with one camera, each frame another picture."""
    frames = np.stack([smooth(SHAPE, seed) for seed in range(steps + 1)])
    return episode(steps=steps, images={"wrist": frames}, **changes)


@settings(max_examples=40)
@given(st.data(), st.integers(1, 5), st.integers(0, 3))
def test_lossless_frames_come_back_bit_by_bit(
    data: st.DataObject, steps: int, cameras: int
) -> None:
    side = st.integers(1, 9)
    shown = {
        name: data.draw(hnp.arrays(np.uint8, (steps + 1, data.draw(side), data.draw(side), 3)))
        for name in ("top", "left.wrist", "observation_2")[:cameras]
    }
    found = codec.decode(codec.encode(episode(steps=steps, images=shown), quality=None))
    assert found.images.keys() == shown.keys()
    assert all(np.array_equal(found.images[name], shown[name]) for name in shown)


@settings(max_examples=40)
@given(st.integers(8, 70), st.integers(8, 70), st.integers(90, 100), st.integers(0, 99))
def test_jpeg_frames_come_back_within_an_error(
    height: int, width: int, quality: int, seed: int
) -> None:
    frames = np.stack([smooth((height, width, 3), seed + at) for at in range(3)])
    made = episode(steps=2, images={"top": frames})
    found = codec.decode(codec.encode(made, quality=quality)).images["top"]
    assert found.shape == frames.shape
    assert np.abs(found.astype(int) - frames).mean() < 5


def test_a_filmed_episode_is_worth_its_bytes() -> None:
    made = filmed()
    assert made.nbytes - episode().nbytes == 7 * 12 * 16 * 3
    assert codec.decode(codec.encode(made)).nbytes == made.nbytes


def test_an_episode_from_before_cameras_still_decodes() -> None:
    found = codec.decode((GOLDEN / "state.episode").read_bytes())
    assert found.images == {}
    assert np.array_equal(found.observation, episode().observation)
    assert (found.id, found.policy_sequence) == ("e", 3)


def test_a_bundle_from_before_cameras_is_read_and_written_as_it_was() -> None:
    files = {name: (GOLDEN / name).read_bytes() for name in bundle.FILES}
    assert bundle.to_files(bundle.from_files(files)) == files


def test_an_episode_without_cameras_says_nothing_of_them() -> None:
    """So that a program of before reads it."""
    assert b"images" not in zstandard.decompress(codec.encode(episode())[5:])
    assert "images" not in SPACES.model_dump()


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({}, "no frames of the cameras"),
        ({"top": np.zeros((7, *SHAPE), np.uint8)}, "no frames of the cameras"),
        ({"wrist": np.zeros((7, *SHAPE), np.float32)}, "not of uint8"),
        ({"wrist": np.zeros((6, *SHAPE), np.uint8)}, "wanted"),
        ({"wrist": np.zeros((7, 12, 17, 3), np.uint8)}, "wanted"),
        ({"wrist": np.zeros((7, 12, 16, 4), np.uint8)}, "wanted"),
        ({"wrist": np.zeros((7, 12, 16), np.uint8)}, "wanted"),
        ({"wrist": np.zeros((7, *SHAPE), np.uint8), "b": np.zeros((7, 0, 1, 3), np.uint8)}, "'b'"),
    ],
)
def test_frames_the_job_cannot_read_are_rejected_by_their_camera(
    shown: dict[str, Any], words: str
) -> None:
    with pytest.raises(Reject, match=words) as caught:
        episode(images=shown).validate(images={"wrist": SHAPE})
    assert caught.value.code is RejectCode.SHAPE


def test_a_camera_the_job_does_not_name_is_let_in() -> None:
    shown = {name: np.zeros((7, *SHAPE), np.uint8) for name in ("wrist", "top")}
    episode(images=shown).validate(images={"wrist": SHAPE})
    episode(images=shown).validate()


@pytest.mark.parametrize("name", ["", "../top", "a b", ".hidden", "x" * 65])
def test_a_camera_has_a_name_that_files_and_weights_can_carry(name: str) -> None:
    with pytest.raises(ValueError, match="images"):
        Spaces(**SPACES.model_dump() | {"images": {name: SHAPE}})


def _remade(made: Episode, change: Callable[[dict[str, Any]], None], header: bytes = b"") -> bytes:
    """The bytes of an episode with its arrays changed, and a field put before its header's."""
    body = zstandard.decompress(codec.encode(made)[5:])
    (length,) = struct.unpack_from(">I", body)
    arrays = safetensors.numpy.load(body[4 + length :])
    change(arrays)
    told = body[4 : 4 + length].replace(b'"images":', header or b'"images":')
    packed = struct.pack(">I", len(told)) + told + safetensors.numpy.save(arrays)
    return codec.MAGIC + bytes([codec.VERSION]) + zstandard.compress(packed)


def _frame(at: int, data: bytes) -> Callable[[dict[str, Any]], None]:
    """Puts other bytes in place of one frame."""

    def change(arrays: dict[str, Any]) -> None:
        ends = [0, *arrays["image.wrist.ends"].tolist()]
        whole = arrays["image.wrist"].tobytes()
        frames = [whole[a:b] for a, b in itertools.pairwise(ends)]
        frames[at] = data
        arrays["image.wrist"] = np.frombuffer(b"".join(frames), np.uint8)
        arrays["image.wrist.ends"] = np.cumsum([len(frame) for frame in frames])

    return change


def _ends(*ends: int) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.update({"image.wrist.ends": np.array(ends, np.int64)})


def _declared(height: int, width: int, quality: str = "90") -> bytes:
    camera = f'{{"wrist":{{"height":{height},"width":{width},"quality":{quality}}}}}'
    return f'"images":{camera},"before":'.encode()


JPEG = simplejpeg.encode_jpeg(smooth(SHAPE), 90)
SOF = JPEG.index(b"\xff\xc0")
BOMB = zstandard.ZstdCompressor().compress(b"\0" * 2**26)
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], None], bytes, str]] = {
    "no frames": (lambda arrays: arrays.pop("image.wrist"), b"", "missing"),
    "no ends": (lambda arrays: arrays.pop("image.wrist.ends"), b"", "missing"),
    "ends of another type": (
        lambda arrays: arrays.update({"image.wrist.ends": np.zeros(7, np.float32)}),
        b"",
        "missing",
    ),
    "too few frames": (_ends(1, 2, 3), b"", "wanted"),
    "ends past the bytes": (_ends(1, 2, 3, 4, 5, 6, 10**9), b"", "do not fill"),
    "ends that run backwards": (_ends(9, 8, 7, 6, 5, 4, 3), b"", "do not fill"),
    "ends below zero": (_ends(-5, -4, -3, -2, -1, 0, 1), b"", "do not fill"),
    "an empty frame": (_frame(3, b""), b"", "do not fill"),
    "no JPEG": (_frame(3, b"GIF89a" * 9), b"", "frame 3: not a baseline JPEG"),
    "markers without end": (_frame(3, b"\xff\xd8" + b"\xff\xe0\0\2" * 99), b"", "frame 3"),
    "a marker that leads back": (_frame(3, b"\xff\xd8\xff\xe0\0\0\xff"), b"", "frame 3"),
    "nothing behind a marker": (_frame(3, b"\xff\xd8\xff"), b"", "frame 3: not a baseline JPEG"),
    "half a JPEG": (_frame(3, JPEG[: len(JPEG) // 2]), b"", "frame 3"),
    "a larger JPEG": (
        _frame(3, simplejpeg.encode_jpeg(smooth((64, 64, 3)))),
        b"",
        r"\(64, 64, 3\)",
    ),
    "a JPEG without colours": (
        _frame(3, simplejpeg.encode_jpeg(smooth((12, 16, 1)), 90, "GRAY", "Gray")),
        b"",
        r"\(12, 16, 1\)",
    ),
    "a progressive JPEG": (
        _frame(3, JPEG[: SOF + 1] + b"\xc2" + JPEG[SOF + 2 :]),
        b"",
        "not a baseline JPEG",
    ),
    "a JPEG that says it is huge": (
        _frame(3, JPEG[: SOF + 5] + b"\xff\xff\xff\xff" + JPEG[SOF + 9 :]),
        b"",
        r"\(65535, 65535, 3\)",
    ),
    "cameras that say they are huge": (lambda _: None, _declared(10**6, 10**6), "images.wrist"),
    "more than memory holds": (
        lambda arrays: arrays.update(_stretched(100_000)),
        _declared(4096, 4096),
        "at most",
    ),
    "frames of zstd that unpack to more": (_frame(0, BOMB), _declared(12, 16, "null"), "unpacks"),
}


def _stretched(steps: int) -> dict[str, Any]:
    """The arrays of a long episode, but for its frames."""
    long = episode(steps=steps)
    return {name: getattr(long, name) for name in ARRAYS}


@pytest.mark.parametrize(("change", "header", "words"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_frames_are_rejected_with_words(
    change: Callable[[dict[str, Any]], None], header: bytes, words: str
) -> None:
    with pytest.raises(Reject, match=words):
        codec.decode(_remade(filmed(), change, header))


@settings(max_examples=200)
@given(st.data())
def test_damaged_frames_are_rejected_or_frames(data: st.DataObject) -> None:
    damaged = bytearray(JPEG)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(JPEG) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = codec.decode(_remade(filmed(), _frame(3, bytes(damaged))))
    except Reject:
        return
    assert found.images["wrist"].shape == (7, *SHAPE)


def test_frames_are_bounded_in_all_their_cameras_together() -> None:
    made = filmed()
    cameras = images.described(made.images, 90)
    packed = images.pack(made.images, cameras)
    assert images.unpack(packed, cameras, 7, max_bytes=7 * 576)
    with pytest.raises(Reject, match="at most") as caught:
        images.unpack(packed, cameras, 7, max_bytes=7 * 576 - 1)
    assert caught.value.code is RejectCode.TOO_LARGE


def test_a_late_label_keeps_the_frames() -> None:
    made = filmed()
    assert made.relabel("failure", "label").images is made.images
    assert dataclasses.replace(made, images={}).nbytes == episode().nbytes
