"""A learner in one process: the product's algorithm, replay and sampler, without network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_runtime.experience import codec
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.experience.batch import Side
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.replay.sampler import SamplerSettings


class Learner:
    """What is known, and the algorithm that learns from it."""

    def __init__(
        self, spaces: Spaces, algorithm: Algorithm, sampling: SamplerSettings, *, seed: int
    ) -> None:
        self._spaces, self._sampling, self._seed = spaces, sampling, seed
        self.known: dict[str, tuple[bytes, Side]] = {}  # the object store: episodes pass the codec
        self.begin(algorithm)

    def begin(self, algorithm: Algorithm) -> None:
        """Go on with another algorithm, on everything that is known."""
        self.algorithm = algorithm
        self.sampler = AdaptiveSampler(len(self._spaces.tasks), self._sampling, seed=self._seed)
        self._index = ReplayIndex(
            self._spaces, algorithm.sample_spec, lambda key: codec.decode(self.known[key][0])
        )
        for data, side in self.known.values():
            self._index.add(codec.decode(data), side)
        self._batches = Feed(self._index, self.sampler)

    def add(self, data: Iterable[Episode | bytes], side: Side) -> None:
        """Take in episodes, encoded or not."""
        for one in data:
            raw = one if isinstance(one, bytes) else codec.encode(one)
            episode = codec.decode(raw)
            self.known[episode.id] = raw, side
            self._index.add(episode, side)

    def update(self) -> None:
        """One update of the algorithm."""
        self.sampler.observe(self.algorithm.update(self._batches).losses)

    def policy(self, seed: int) -> Policy:
        """The policy as it is now, with noise of its own."""
        policy = self.algorithm.policy()
        policy.seed(seed % 2**31)
        return policy
