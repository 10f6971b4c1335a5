"""Small files that a power cut leaves whole: the old content or the new, never half."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of a file that is being written; found at start, its writer died."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def full(fault: OSError) -> bool:
    """Whether more room would help."""
    return fault.errno in _FULL


def remedy(fault: OSError) -> str:
    """What its owner can do about a robot's disk that does not do its work."""
    if full(fault):
        return "free the robot's disk"
    if fault.errno in {errno.EACCES, errno.EPERM}:
        return "let the robot's program write there"
    if fault.errno in {errno.EROFS, errno.EIO}:
        return "the disk has failed or was mounted read-only: check it"
    return "put it right there"


def write_whole(path: Path, data: bytes) -> None:
    """Make or replace a file; when this returns it is on the disk. Raises OSError."""
    temporary = path.with_name(TEMPORARY + path.name)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the folder's entries (names made, names gone) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove what a writer that died has left."""
    for path in folder.glob(TEMPORARY + "*"):
        path.unlink(missing_ok=True)
