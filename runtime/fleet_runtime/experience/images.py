"""Camera frames ↔ bytes: each frame on its own, so that any one can be had without the others.

JPEG by default, at a quality the header declares; lossless (zstd per frame) where none is declared.
simplejpeg does the JPEG part: libjpeg-turbo in a wheel of 0.6 MB (MIT) that needs numpy only,
decodes straight into a given buffer in half of Pillow's time, and refuses what other readers mend.
Only baseline JPEG is taken: a progressive one may cost a thousand times its size in work.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Annotated

import numpy as np
import simplejpeg
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience.spaces import CameraName, Pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Images, Pixel

QUALITY = 90
"""JPEG quality unless a robot declares another: about 6 kB for 128 × 128, 80 kB for 640 × 480."""
MAX_BYTES = 2**30
"""Decoded frames of one episode: 3,500 of 640 × 480 / 3, or two minutes of 224 × 224 at 60 Hz."""
LEVEL = 3
"""zstd level of a lossless frame."""

Quality = Annotated[int, Field(ge=1, le=100)]
_FRAMES, _ENDS = "image.{}", "image.{}.ends"
_COLOURS = 3
_BASELINE = 0xC0


class Camera(BaseModel):
    """What the header says of one camera's frames."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    height: Pixels
    width: Pixels
    quality: Quality | None
    """Of JPEG; None: lossless."""


Cameras = Annotated[dict[CameraName, Camera], Field(max_length=16)]
"""By name."""


def described(images: Images, quality: int | None) -> dict[str, Camera]:
    """What a header says of these frames."""
    return {
        name: Camera(height=frames.shape[1], width=frames.shape[2], quality=quality)
        for name, frames in images.items()
    }


def pack(images: Images, cameras: Mapping[str, Camera]) -> dict[str, NDArray[np.generic]]:
    """Arrays to store: each camera's frames end to end, and where each of them ends (T+1,)."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, camera in cameras.items():
        packed = [_encode(frame, camera.quality) for frame in images[name]]
        arrays[_FRAMES.format(name)] = np.frombuffer(b"".join(packed), np.uint8)
        arrays[_ENDS.format(name)] = np.cumsum([len(frame) for frame in packed], dtype=np.int64)
    return arrays


def unpack(
    arrays: Mapping[str, NDArray[np.generic]],
    cameras: Mapping[str, Camera],
    count: int,
    *,
    max_bytes: int = MAX_BYTES,
) -> dict[str, Pixel]:
    """The inverse: `count` frames (T+1, Y, X, 3) of each camera.

    Raises `Reject`, naming camera and frame; before any room is made where the frames declare more
    than `max_bytes` in all.
    """
    size = sum(count * camera.height * camera.width * _COLOURS for camera in cameras.values())
    if size > max_bytes:
        message = f"{count} frames of {len(cameras)} cameras unpack to {size} bytes"
        raise Reject(RejectCode.TOO_LARGE, f"{message}, at most {max_bytes} are taken")
    return {name: _frames(name, camera, arrays, count) for name, camera in cameras.items()}


def _frames(
    name: str, camera: Camera, arrays: Mapping[str, NDArray[np.generic]], count: int
) -> Pixel:
    data, ends = arrays.get(_FRAMES.format(name)), arrays.get(_ENDS.format(name))
    if data is None or ends is None or data.dtype != np.uint8 or ends.dtype != np.int64:
        raise Reject(RejectCode.MALFORMED, f"camera {name!r}: its frames are missing")
    if data.ndim != 1 or ends.shape != (count,):
        raise Reject(RejectCode.SHAPE, f"camera {name!r}: {ends.shape} frames, wanted ({count},)")
    bounds = [0, *ends.tolist()]
    if bounds[-1] != len(data) or any(a >= b for a, b in itertools.pairwise(bounds)):
        raise Reject(RejectCode.MALFORMED, f"camera {name!r}: its frames do not fill its bytes")
    whole = memoryview(data)  # type: ignore[arg-type]
    frames = np.empty((count, camera.height, camera.width, _COLOURS), np.uint8)
    for at, (start, stop) in enumerate(itertools.pairwise(bounds)):
        try:
            _decode(whole[start:stop], camera, frames[at])
        except (ValueError, zstandard.ZstdError) as fault:
            message = f"camera {name!r}, frame {at}: {fault}"
            raise Reject(RejectCode.MALFORMED, message) from None
    return frames


def _encode(frame: Pixel, quality: int | None) -> bytes:
    frame = np.ascontiguousarray(frame)
    if quality is None:
        return zstandard.ZstdCompressor(level=LEVEL).compress(frame.tobytes())
    packed: bytes = simplejpeg.encode_jpeg(frame, quality, "RGB", "420", fastdct=False)
    return packed


def _decode(data: memoryview, camera: Camera, frame: Pixel) -> None:
    """Fill one frame (Y, X, 3); the size is what the bytes say before anything is unpacked."""
    if camera.quality is None:
        size = zstandard.frame_content_size(data)
        if size != frame.nbytes:
            raise ValueError(f"unpacks to {size} bytes, wanted {frame.nbytes}")
        unpacked = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        frame[:] = np.frombuffer(unpacked, np.uint8).reshape(frame.shape)
        return
    if (shape := _jpeg_shape(data)) != frame.shape:
        raise ValueError(f"JPEG of {shape}, wanted {frame.shape}")
    simplejpeg.decode_jpeg(data, "RGB", buffer=frame)


def _jpeg_shape(data: memoryview) -> tuple[int, int, int]:
    """(Y, X, colours) as the frame header (ITU T.81, B.2) says.

    Raises ValueError for anything but a baseline JPEG.
    """
    at = 2  # past the first marker, start of image
    while len(data) > at + 3 and data[at] == 0xFF:  # noqa: PLR2004
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _BASELINE and len(data) > at + 9:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width, data[at + 9]
        at += 2 + length
    raise ValueError("not a baseline JPEG")
