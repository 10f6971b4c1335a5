"""Every episode the learner may draw from: facts in memory, steps loaded when drawn.

SOP (arXiv 2601.03044) keeps frame metadata in RAM and fetches payloads lazily; here an episode
costs a few hundred bytes, its steps come through `load` into a bounded arena, and a batch is drawn
by (task, side) pool. Adding, relabelling and dropping are idempotent by episode id, because
delivery is at least once.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience.batch import SOURCES, Batch, SampleSpec, Side, source_of
from fleet_runtime.replay.arena import Arena, row_bytes
from fleet_runtime.replay.memory import share
from fleet_runtime.replay.selectors import UniformRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Bool, Episode, Outcome


@dataclasses.dataclass
class Entry:
    """What is remembered of an episode."""

    id: str
    task: int
    side: Side
    steps: int
    outcome: Outcome
    eligible: int  # steps that can be drawn


class ReplayIndex:
    """Episodes by id, their drawable steps by task and side."""

    def __init__(
        self,
        spaces: Spaces,
        spec: SampleSpec,
        load: Callable[[str], Episode],
        *,
        cache_steps: int = 200_000,
        cache_bytes: int | None = None,
        max_steps: int = 10_000_000,
    ) -> None:
        """`load` fetches an episode by id, as first added; what it raises reaches the caller.

        `cache_steps` and `cache_bytes` (None: a share of the machine's) both bound the decoded
        steps in memory: 200,000 of Meta-World's size are 34 MB, 4 GiB hold 150,000 with a camera
        of 96 × 96. What is beyond is decoded again when drawn, a whole episode for a step: far
        slower than training.
        Beyond `max_steps` in all, the oldest online episodes are dropped.
        """
        self.spaces = spaces
        self.spec = spec
        self._load = load
        self._max_steps = max_steps
        sizes = spaces.observation_size, spaces.action_size, spaces.images
        room = share() if cache_bytes is None else cache_bytes
        self._cache_steps = min(cache_steps, room // row_bytes(*sizes))
        self._arena = Arena(self._cache_steps, *sizes)
        self._runs = UniformRuns(len(spaces.tasks) * len(Side), facts=3)
        self._numbers: dict[str, int] = {}  # id → number, oldest first
        self._entries: dict[int, Entry] = {}
        self._next = 0
        self.steps = 0
        self.dropped = 0
        """Episodes dropped to make room."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, episode_id: object) -> bool:
        return episode_id in self._numbers

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def loads(self) -> int:
        """Episodes fetched because a drawn step was not in memory."""
        return self._arena.loads

    def eligible(self) -> NDArray[np.int64]:
        """Drawable steps (tasks, sides)."""
        return self._runs.sizes.reshape(-1, len(Side)).copy()

    def add(self, episode: Episode, side: Side) -> tuple[str, ...]:
        """Take an episode in, once; returns the ids dropped to make room. Validates first."""
        if episode.id in self._numbers:
            return ()
        episode.validate(
            observation_size=self.spaces.observation_size,
            action_size=self.spaces.action_size,
            tasks=self.spaces.tasks,
            images=self.spaces.images,
        )
        if len(episode) > self._cache_steps:
            message = f"{len(episode)} steps, the cache holds {self._cache_steps}"
            raise Reject(RejectCode.TOO_LARGE, message)
        number = self._next
        self._next += 1
        entry = Entry(
            id=episode.id,
            task=self.spaces.task_id(episode.task),
            side=side,
            steps=len(episode),
            outcome=episode.outcome,
            eligible=0,
        )
        self._numbers[episode.id] = number
        self._entries[number] = entry
        self.steps += entry.steps
        self._index(number, entry, episode)
        if entry.eligible:
            self._arena.put(number, episode)
        return self._shrink()

    def oldest(self, side: Side) -> str | None:
        """The id of the episode that came first, None where there is none."""
        return next((entry.id for entry in self._entries.values() if entry.side is side), None)

    def relabel(self, episode_id: str, outcome: Outcome) -> bool:
        """Index an episode again under a late label; False when it is not (or no longer) here."""
        number = self._numbers.get(episode_id)
        if number is None:
            return False
        entry = self._entries[number]
        if entry.outcome != outcome:
            self._runs.remove(number)
            entry.outcome = outcome
            self._index(number, entry, self._load(episode_id).relabel(outcome, "label"))
        return True

    def drop(self, episode_id: str) -> bool:
        """Forget an episode; False when it was not here."""
        number = self._numbers.pop(episode_id, None)
        if number is None:
            return False
        entry = self._entries.pop(number)
        self._runs.remove(number)
        self._arena.forget(number)
        self.steps -= entry.steps
        return True

    def sample(self, counts: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """A batch with `counts[task, side]` uniform draws from each pool."""
        drawn = self._runs.draw(counts.ravel(), rng)
        episode, step, stop = drawn.episode, drawn.step, drawn.stop
        source, steps, success = drawn.facts.T
        task, side = np.divmod(drawn.pool, len(Side))
        if self.spec.through_takeovers:
            stop = steps
        windows = np.array(self.spec.windows, np.int64)
        ahead = np.minimum(windows, (stop - step)[:, None])
        found = self._arena.gather(
            episode,
            step,
            stop,
            self.spec.chunk,
            np.minimum(step[:, None] + ahead, steps[:, None] - 1),
            lambda n: self._load(self._entries[n].id),
        )
        valid: Bool = step[:, None] + np.arange(self.spec.chunk) < stop[:, None]
        return Batch(
            observation=found.observation,
            action=found.action,
            valid=valid,
            task=task,
            side=side,
            source=source,
            success=success > 0,
            remaining=steps - step,
            ahead=ahead,
            later=found.later,
            images=found.images,
            later_images=found.later_images,
        )

    def _index(self, number: int, entry: Entry, episode: Episode) -> None:
        entry.eligible = 0
        pool = entry.task * len(Side) + entry.side
        wanted = self.spec.sources(entry.side)
        for start, stop, human in segments(episode.intervention):
            source = source_of(episode, human=human)
            if source in wanted:
                facts = SOURCES.index(source), entry.steps, int(episode.success)
                self._runs.add(pool, number, start, stop, *facts)
                entry.eligible += stop - start

    def _shrink(self) -> tuple[str, ...]:
        if self.steps <= self._max_steps:
            return ()
        dropped, excess = [], self.steps - self._max_steps
        for number, entry in self._entries.items():
            if excess <= 0:
                break
            if entry.side is Side.ONLINE and number != self._next - 1:
                dropped.append(entry.id)
                excess -= entry.steps
        for episode_id in dropped:
            self.drop(episode_id)
        self.dropped += len(dropped)
        return tuple(dropped)


def segments(intervention: Bool) -> Iterator[tuple[int, int, bool]]:
    """Maximal runs [start, stop) of one kind of control, and whether it was a human's."""
    edges = np.flatnonzero(np.diff(intervention)) + 1
    bounds = [0, *edges.tolist(), len(intervention)]
    for start, stop in itertools.pairwise(bounds):
        yield start, stop, bool(intervention[start])
