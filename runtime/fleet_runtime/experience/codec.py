"""Episode ↔ bytes: what goes to a spool, over the wire and into the journal.

Layout: `FLEP`, one version byte, then one zstd frame (with checksum and content size) holding a
32-bit big-endian header length, the header as JSON, and the arrays as safetensors. No pickle.
Camera frames lie among the arrays, packed one by one (see `images`).
Whatever is wrong with bytes from elsewhere becomes a `Reject` that says what.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Annotated, Any

import numpy as np
import safetensors
import safetensors.numpy
import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience.images import QUALITY, Cameras, described, pack, unpack
from fleet_runtime.experience.types import ARRAYS, Episode, Mode, Outcome

MAGIC = b"FLEP"
VERSION = 1
MAX_BYTES = 256 * 2**20
"""Largest episode taken in, frames still packed; `images.MAX_BYTES` bounds them unpacked."""
MAX_HEADER = 64 * 2**10
LEVEL = 3
"""zstd level: a higher one saves a few per cent of floats and costs the robot's core."""

_LENGTH = struct.Struct(">I")
_Text = Annotated[str, Field(max_length=256)]


class Header(BaseModel):
    """Everything of an episode that is not an array. Fields it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    id: Annotated[str, Field(min_length=1, max_length=256)]
    robot: _Text
    task: _Text
    outcome: Outcome
    outcome_source: _Text
    mode: Mode
    policy_digest: _Text
    policy_sequence: int
    terminated: bool
    truncated: bool
    duration_s: float
    images: Annotated[Cameras, Field(exclude_if=lambda cameras: not cameras)] = {}


FACTS = tuple(name for name in Header.model_fields if name != "images")
"""Fields of an episode that the header holds as they are."""


def encode(episode: Episode, *, quality: int | None = QUALITY) -> bytes:
    """The bytes of a sound episode; an unsound one is refused here already, at its maker.

    `quality` is that of its frames as JPEG, 1 to 100; None keeps them lossless.
    """
    episode.validate()
    fields = {name: getattr(episode, name) for name in FACTS}
    cameras = described(episode.images, quality)
    header = Header.model_validate({**fields, "images": cameras}).model_dump_json().encode()
    arrays = {name: np.ascontiguousarray(getattr(episode, name)) for name in ARRAYS}
    arrays |= pack(episode.images, cameras)
    body = _LENGTH.pack(len(header)) + header + safetensors.numpy.save(arrays)
    if len(body) > MAX_BYTES:
        raise Reject(RejectCode.TOO_LARGE, f"{len(body)} bytes, at most {MAX_BYTES} are taken")
    packed: bytes = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(body)
    return MAGIC + bytes([VERSION]) + packed


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Episode:
    """The episode in `data`, validated.

    Never allocates more than about twice `max_bytes`, and `images.MAX_BYTES` for frames.
    """
    body = _decompress(data, max_bytes)
    if len(body) < _LENGTH.size:
        raise Reject(RejectCode.MALFORMED, "episode ends before its header")
    (length,) = _LENGTH.unpack_from(body)
    start = _LENGTH.size + length
    if length > MAX_HEADER or start > len(body):
        raise Reject(RejectCode.MALFORMED, f"header of {length} bytes does not fit")
    try:
        header = Header.model_validate_json(body[_LENGTH.size : start])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise Reject(RejectCode.MALFORMED, f"header: {where}: {first['msg']}") from None
    found = _arrays(body[start:])
    facts = {name: getattr(header, name) for name in FACTS}
    episode = Episode(**facts, **{name: found[name] for name in ARRAYS}).validate()
    if not header.images:
        return episode
    frames = unpack(found, header.images, len(episode) + 1)
    return dataclasses.replace(episode, images=frames)


def _decompress(data: bytes, max_bytes: int) -> bytes:
    prefix = len(MAGIC) + 1
    if data[: len(MAGIC)] != MAGIC:
        raise Reject(RejectCode.MALFORMED, "not an episode: the magic bytes are missing")
    if len(data) < prefix or data[len(MAGIC)] != VERSION:
        raise Reject(RejectCode.MALFORMED, f"episode format is not version {VERSION}")
    if len(data) > max_bytes:
        raise Reject(RejectCode.TOO_LARGE, f"{len(data)} bytes, at most {max_bytes} are taken")
    try:
        # The size a frame declares is what decompress allocates, so it is read and bounded first.
        size = zstandard.frame_content_size(data[prefix:])
        if size > max_bytes:
            message = f"unpacks to {size} bytes, at most {max_bytes} are taken"
            raise Reject(RejectCode.TOO_LARGE, message)
        if size < 0:
            raise Reject(RejectCode.MALFORMED, "the frame does not declare its size")
        unpacked: bytes = zstandard.ZstdDecompressor().decompress(
            data[prefix:], allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Reject(RejectCode.MALFORMED, f"zstd: {error}") from None
    if len(unpacked) != size:
        raise Reject(RejectCode.MALFORMED, "the frame is cut short")
    return unpacked


def _arrays(body: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = safetensors.numpy.load(body)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise Reject(RejectCode.MALFORMED, f"safetensors: {error}") from None
    missing = ARRAYS.keys() - found.keys()
    if missing:
        raise Reject(RejectCode.MALFORMED, f"arrays missing: {sorted(missing)}")
    return found
