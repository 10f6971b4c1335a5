"""Decoded steps in one block of memory, so a batch is a few vectorised gathers.

A ring: a loaded episode takes the next free stretch, and what lay there is forgotten (it can be
loaded again). First in, first out rather than least recently used: draws are uniform, so recency
of use tells nothing, and the memory is exactly what was asked for, never fragmented.

Every camera has a block of uint8 frames beside the rows. A frame lies there once: what is seen some
steps later is the frame of a later row, not a copy.

    arena = Arena(steps, observation_size, action_size, {"wrist": (96, 96, 3)})
    arena.put(number, episode)                                    # any number that names it
    found = arena.gather(episode, step, stop, chunk, later, load)    # a `Gathered`
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet_runtime.replay.buffers import Buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Episode, Float, Pixel


class Gathered(NamedTuple):
    """Rows copied out of the arena."""

    observation: Float  # (B, O)
    action: Float  # (B, H, A)
    later: Float  # (B, W, O)
    images: dict[str, Pixel]  # camera → (B, Y, X, 3)
    later_images: dict[str, Pixel]  # camera → (B, W, Y, X, 3)


def row_bytes(
    observation_size: int, action_size: int, images: Mapping[str, tuple[int, int, int]]
) -> int:
    """Bytes one step takes."""
    frames = sum(height * width * colours for height, width, colours in images.values())
    return 4 * (observation_size + action_size) + frames


class Arena:
    """Room for `steps` decoded steps of observations (O), actions (A) and frames (Y, X, 3).

    Pages are claimed as they are first written, so an arena that is never filled costs little.
    """

    def __init__(
        self,
        steps: int,
        observation_size: int,
        action_size: int,
        images: Mapping[str, tuple[int, int, int]] | None = None,
    ) -> None:
        self._observation = np.zeros((steps, observation_size), np.float32)
        self._action = np.zeros((steps, action_size), np.float32)
        self._images = {
            name: np.zeros((steps, *shape), np.uint8) for name, shape in (images or {}).items()
        }
        self._where: OrderedDict[int, tuple[int, int]] = OrderedDict()  # episode → first row, steps
        self._first = np.zeros(0, np.int64)  # episode → first row, -1 where not loaded
        self._free = 0
        self._buffers = Buffers()
        self.loads = 0

    def __len__(self) -> int:
        """Episodes held decoded."""
        return len(self._where)

    @property
    def nbytes(self) -> int:
        """Bytes it takes at most, full or empty."""
        frames = sum(block.nbytes for block in self._images.values())
        return self._observation.nbytes + self._action.nbytes + frames

    def put(self, number: int, episode: Episode) -> None:
        """Hold an episode decoded; ValueError when it alone exceeds the arena."""
        steps, room = len(episode), len(self._action)
        if steps > room:
            raise ValueError(f"an episode of {steps} steps exceeds the arena of {room}")
        self.forget(number)
        if self._free + steps > room:
            self._evict(self._free, room)
            self._free = 0
        first, stop = self._free, self._free + steps
        self._evict(first, stop)
        self._observation[first:stop] = episode.observation[:steps]
        self._action[first:stop] = episode.action
        for name, block in self._images.items():
            block[first:stop] = episode.images[name][:steps]
        self._room_for(number)
        self._where[number] = (first, steps)
        self._first[number] = first
        self._free = stop

    def forget(self, number: int) -> None:
        """Drop an episode, if it is held."""
        if self._where.pop(number, None) is not None:
            self._first[number] = -1

    def gather(
        self,
        episode: NDArray[np.int64],
        step: NDArray[np.int64],
        stop: NDArray[np.int64],
        chunk: int,
        later: NDArray[np.int64],
        load: Callable[[int], Episode],
    ) -> Gathered:
        """Rows (B,) of these episodes and steps, and what was seen at the steps `later` (B, W).

        What is not held is loaded. Actions at and past `stop` repeat the last one before it. Frames
        lie in memory that is used again once nobody refers to it.
        """
        rows, size = len(episode), self._observation.shape[1]
        ahead = np.minimum(step[:, None] + np.arange(chunk), stop[:, None] - 1)
        lent = self._buffers.take
        found = Gathered(
            observation=np.empty((rows, size), np.float32),
            action=np.empty((*ahead.shape, self._action.shape[1]), np.float32),
            later=np.empty((*later.shape, size), np.float32),
            images={n: lent((*step.shape, *b.shape[1:])) for n, b in self._images.items()},
            later_images={n: lent((*later.shape, *b.shape[1:])) for n, b in self._images.items()},
        )
        wanted: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]] = [
            (found.observation, self._observation, step),
            (found.action, self._action, ahead),
            (found.later, self._observation, later),
            *((out, self._images[n], step) for n, out in found.images.items()),
            *((out, self._images[n], later) for n, out in found.later_images.items()),
        ]
        self._room_for(int(episode.max(initial=0)))
        first = self._first[episode]

        missing = np.flatnonzero(first < 0)
        if not len(missing):
            for out, block, steps in wanted:
                # Clipping changes nothing, but with "raise" numpy gathers beside `out` first.
                np.take(block, (steps.T + first).T, axis=0, out=out, mode="clip")
            return found

        def copy(here: NDArray[np.int64]) -> None:
            base = self._first[episode[here]]
            for out, block, steps in wanted:
                out[here] = block[(steps[here].T + base).T]

        copy(np.flatnonzero(first >= 0))
        # Rows are copied out right after their load, so a later load may evict what they used.
        for number in np.unique(episode[missing]):
            self.put(int(number), load(int(number)))
            self.loads += 1
            copy(missing[episode[missing] == number])
        return found

    def _room_for(self, number: int) -> None:
        if number >= len(self._first):
            grown = np.full(max(64, 2 * number), -1, np.int64)
            grown[: len(self._first)] = self._first
            self._first = grown

    def _evict(self, first: int, stop: int) -> None:
        """Forget every episode with a row in [first, stop)."""
        # Insertion order is ring order, so what overlaps is always the oldest.
        while self._where:
            number, (at, steps) = next(iter(self._where.items()))
            if at >= stop or first >= at + steps:
                break
            self.forget(number)
