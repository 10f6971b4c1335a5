"""The stream of batches an algorithm draws from: sampler and index put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.replay.index import ReplayIndex
    from fleet_runtime.replay.sampler import AdaptiveSampler


class Feed:
    """An endless iterator of batches, as large as the index's `SampleSpec` asks.

    All randomness is the sampler's, so its state is all a checkpoint needs.
    """

    def __init__(self, index: ReplayIndex, sampler: AdaptiveSampler) -> None:
        self._index = index
        self._sampler = sampler

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        counts = self._sampler.draw(self._index.spec.rows, self._index.eligible())
        return self._index.sample(counts, self._sampler.rng)
