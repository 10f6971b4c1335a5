"""Frames of cameras ↔ images and videos; the only room that knows av (FFmpeg)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError

from fleet_runtime.datasets.items import Faulty

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Pixel

CODECS = {b"\x89PNG": "png", b"\xff\xd8\xff": "mjpeg"}
"""First bytes of an image → FFmpeg's name for its codec."""


def png(frame: Pixel) -> bytes:
    """One frame (Y, X, 3) as PNG, which loses nothing."""
    codec: Any = av.CodecContext.create("png", "w")
    codec.height, codec.width = frame.shape[:2]
    codec.pix_fmt, codec.time_base = "rgb24", 1
    whole = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return b"".join(bytes(packet) for packet in (*codec.encode(whole), *codec.encode(None)))


def image(data: Any, where: str) -> Pixel:
    """A PNG or JPEG as a frame (Y, X, 3). Raises Faulty."""
    start = data if isinstance(data, bytes) else b""
    name = next((name for magic, name in CODECS.items() if start.startswith(magic)), None)
    if name is None:
        raise Faulty(f"{where} is neither PNG nor JPEG in the file itself")
    try:
        codec: Any = av.CodecContext.create(name, "r")
        frames = [*codec.decode(av.Packet(start)), *codec.decode(None)]
        return _rgb(frames[0])
    except (FFmpegError, LookupError, ValueError) as fault:
        raise Faulty(f"{where} is no whole {name} image: {fault}") from fault


def video(data: bytes, start: float, count: int, fps: float, where: str) -> Pixel:
    """`count` frames (count, Y, X, 3) of a video from `start` seconds on.

    Raises:
        Faulty: it is no whole video, or a frame is not where `fps` puts it.
    """
    found: list[Pixel] = []
    slack = 0.5 / fps
    try:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            container.seek(int(max(0.0, start - slack) * av.time_base), backward=True)
            for frame in container.decode(stream):
                at = float(frame.time or 0.0) - start
                if at < -slack:
                    continue
                if abs(at - len(found) / fps) > slack:
                    break
                found.append(_rgb(frame))
                if len(found) == count:
                    return np.stack(found)
    except (FFmpegError, LookupError, ValueError) as fault:
        raise Faulty(f"{where} is no whole video ({fault}): copy it again") from fault
    raise Faulty(
        f"{where} has {len(found)} frames at {fps:g} a second from second {start:g} on, wanted "
        f"{count}: copy it again"
    )


def _rgb(frame: Any) -> Pixel:
    found: Pixel = frame.to_ndarray(format="rgb24")
    return found
