"""Memory for batches of frames, used again once nobody looks at it any more.

A batch of frames is tens of megabytes. Given back, such memory goes to the system, and asked for
anew every page faults in again: gathering into warm memory was measured twice as fast.
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Pixel


class Buffers:
    """Lends arrays; one that is gone, with all its views, was given back."""

    def __init__(self) -> None:
        self._lent: list[tuple[bytearray, weakref.ref[Pixel]]] = []

    def take(self, shape: tuple[int, ...]) -> Pixel:
        """An array of uint8 with whatever it held before. It is the caller's while referred to."""
        size = math.prod(shape)
        free = [memory for memory, user in self._lent if user() is None]
        fit = next((memory for memory in free if len(memory) == size), None)
        memory = bytearray(size) if fit is None else fit
        # Over foreign memory, because a view of an array that owns its own would keep alive that
        # owner only, not the array the weak reference watches.
        array: Pixel = np.ndarray(shape, np.uint8, buffer=memory)
        kept = [(held, user) for held, user in self._lent if held is not memory]
        if fit is None:  # sizes have changed: what is free will not be asked for again
            kept = [(held, user) for held, user in kept if user() is not None]
        self._lent = [*kept, (memory, weakref.ref(array))]
        return array
