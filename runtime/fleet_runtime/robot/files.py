"""Small files that a power cut leaves whole: the old content or the new, never half."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of a file that is being written; found at start, its writer died."""


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
