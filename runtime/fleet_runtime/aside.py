"""Large copies that hold up no other thread.

Python copies bytes under its global lock: fifty megabytes are two control periods of a robot. The
kernel copies them without. Linux only.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def in_memory(data: bytes | memoryview) -> Iterator[str]:
    """The path of a file that holds this, in memory; what maps it may outlive it.

    Raises OSError, also where the process may not make a file as large.
    """
    descriptor = os.memfd_create("fleetloop")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def frozen(data: memoryview) -> bytes:
    """Its bytes."""
    try:
        with in_memory(data) as path, open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return bytes(data)
