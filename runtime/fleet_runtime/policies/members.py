"""Some of many places: how many of them stand before a place, and which is the n-th. Pure.

Sixty-four places are one number, so that counting them costs less than listing them would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

_WORD = 64
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_NTH = np.argsort(_BITS == 0, axis=1, kind="stable").astype(np.uint8)
"""Where the n-th bit that is set stands in each byte."""


class Members:
    """Those places at which `mask` is true."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        packed = np.packbits(mask, bitorder="little")
        self._bytes = np.zeros((-(-len(packed) // 8), 8), np.uint8)
        self._bytes.reshape(-1)[: len(packed)] = packed
        self._words: NDArray[np.uint64] = self._bytes.view("<u8").reshape(-1)
        self._ends = np.cumsum(np.bitwise_count(self._words), dtype=np.int64)

    def ranks(self, places: Places) -> Places:
        """How many of them stand before each of these places, which are some of them."""
        word, bit = np.divmod(places, _WORD)
        after = np.bitwise_count(self._words[word] >> bit.astype(np.uint64))
        found: Places = self._ends[word] - after
        return found

    def nth(self, ranks: Places) -> Places:
        """The places of those that have these ranks."""
        word = np.searchsorted(self._ends, ranks, side="right")
        theirs = self._bytes[word]
        counts = np.bitwise_count(theirs)
        before = np.cumsum(counts, axis=1, dtype=np.int64) - counts
        left = ranks - self._ends[word] + before[:, -1] + counts[:, -1]  # … in the word before it
        byte = (before <= left[:, None]).sum(axis=1) - 1
        row = np.arange(len(word))
        bit = _NTH[theirs[row, byte], left - before[row, byte]]
        found: Places = word * _WORD + byte * 8 + bit
        return found
