"""Every episode the learner may draw from: facts in memory, steps loaded when drawn.

SOP (arXiv 2601.03044) keeps frame metadata in RAM and fetches payloads lazily; here an episode
costs a few hundred bytes, its steps come through `load` into a bounded arena, and a batch is drawn
by (task, side) pool. Adding, relabelling and dropping are idempotent by episode id, because
delivery is at least once.

A part of an episode that still runs is an entry by itself: chunks and windows stay inside it. When
the episode is whole it takes the place of its parts, so no step can be drawn twice.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import Reject, RejectCode
from fleet_runtime.experience.batch import SOURCES, Batch, SampleSpec, Side, Source, source_of
from fleet_runtime.replay.arena import Arena, row_bytes
from fleet_runtime.replay.memory import share
from fleet_runtime.replay.selectors import UniformRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Bool, Episode, Outcome


WHOLE = -1
"""In the place of a part's number."""


@dataclasses.dataclass(slots=True)
class Entry:
    """What is remembered of an episode, or of a part of one."""

    id: str
    task: int
    side: Side
    steps: int
    outcome: Outcome
    eligible: int  # steps that can be drawn
    part: int = WHOLE


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
        load_part: Callable[[str, int], Episode] | None = None,
    ) -> None:
        """`load` fetches an episode by id, as first added; what it raises reaches the caller.
        `load_part` fetches a part of one; without it none are taken in.

        `cache_steps` and `cache_bytes` (None: a share of the machine's) both bound the decoded
        steps in memory: 200,000 of Meta-World's size are 34 MB, 4 GiB hold 150,000 with a camera
        of 96 × 96. What is beyond is decoded again when drawn, a whole episode for a step: far
        slower than training.
        Beyond `max_steps` in all, the oldest online episodes are dropped.
        """
        self.spaces = spaces
        self.spec = spec
        self._load = load
        self._load_part = load_part
        self._max_steps = max_steps
        sizes = spaces.observation_size, spaces.action_size, spaces.images
        room = share() if cache_bytes is None else cache_bytes
        self._cache_steps = min(cache_steps, room // row_bytes(*sizes))
        self._arena = Arena(self._cache_steps, *sizes)
        self._runs = UniformRuns(len(spaces.tasks) * len(Side), facts=3)
        self._eligible = self._runs.sizes.reshape(-1, len(Side))
        self._numbers: dict[str, int] = {}  # id → number, oldest first
        self._parts: dict[str, dict[int, int]] = {}  # id → part → number, of episodes not whole
        self._torn: set[str] = set()  # episodes not whole of which a part was dropped
        self._entries: dict[int, Entry] = {}  # oldest first; an episode is as old as its first part
        self._next = 0
        self.steps = 0
        self.dropped = 0
        """Episodes dropped to make room."""

    def __len__(self) -> int:
        """Whole episodes."""
        return len(self._numbers)

    def __contains__(self, episode_id: object) -> bool:
        """Whether this episode is here as a whole."""
        return episode_id in self._numbers

    @property
    def unfinished(self) -> int:
        """Episodes of which there are parts alone."""
        return len(self._parts)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def loads(self) -> int:
        """Episodes fetched because a drawn step was not in memory."""
        return self._arena.loads

    def eligible(self) -> NDArray[np.int64]:
        """Drawable steps (tasks, sides): to look at, it goes on with what is added and dropped."""
        return self._eligible

    def add(self, episode: Episode, side: Side) -> tuple[str, ...]:
        """Take an episode in, once; returns the ids dropped to make room. Validates first.

        It takes the place of its parts. One of which a part was dropped to make room already is not
        taken in: it is as old as its oldest part.
        """
        if episode.id in self._torn:
            self._torn.discard(episode.id)
            return ()
        if episode.id in self._numbers:
            return ()
        self._demand(episode)
        number = self._place(self._parts.pop(episode.id, {}).values())
        self._numbers[episode.id] = number
        self._enter(number, episode, side)
        return self._shrink()

    def add_part(self, part: Episode, number: int, side: Side) -> tuple[str, ...]:
        """Take a part of an episode that is not whole, once; as `add`."""
        if part.id in self._numbers or part.id in self._torn:
            return ()
        if number in self._parts.get(part.id, {}):
            return ()
        if self._load_part is None:
            raise ValueError(f"part {number} of episode {part.id}: this index takes whole ones")
        self._demand(part)
        place = self._place(())
        self._parts.setdefault(part.id, {})[number] = place
        self._enter(place, part, side, number)
        return self._shrink()

    def end(self, episode_id: str, *, keep: bool) -> None:
        """This episode will never be whole; `keep`: what there is of it goes on being drawn."""
        self._torn.discard(episode_id)
        parts = self._parts.get(episode_id, {})
        if not keep:
            self._parts.pop(episode_id, None)
            for number in parts.values():
                self._remove(number)

    def _demand(self, episode: Episode) -> None:
        episode.validate(
            observation_size=self.spaces.observation_size,
            action_size=self.spaces.action_size,
            tasks=self.spaces.tasks,
            images=self.spaces.images,
        )
        if len(episode) > self._cache_steps:
            message = f"{len(episode)} steps, the cache holds {self._cache_steps}"
            raise Reject(RejectCode.TOO_LARGE, message)

    def _place(self, parts: Iterable[int]) -> int:
        """The oldest of these places, all of which are made free; a new one where there is none."""
        taken = sorted(parts)
        if not taken:
            self._next += 1
            return self._next - 1
        for number in taken[1:]:
            self._remove(number)
        self._runs.remove(taken[0])
        self._arena.forget(taken[0])
        self.steps -= self._entries[taken[0]].steps
        return taken[0]

    def _enter(self, number: int, episode: Episode, side: Side, part: int = WHOLE) -> None:
        entry = self._entries[number] = Entry(
            id=episode.id,
            task=self.spaces.task_id(episode.task),
            side=side,
            steps=len(episode),
            outcome=episode.outcome,
            eligible=0,
            part=part,
        )
        self.steps += entry.steps
        self._index(number, entry, episode)
        if entry.eligible:
            self._arena.put(number, episode)

    def oldest(self, side: Side) -> str | None:
        """The id of the episode that came first, parts counted; None where there is none."""
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
        """Forget an episode and what there is of it in parts; False when it was not here."""
        parts = self._parts.pop(episode_id, {})
        if parts:
            self._torn.add(episode_id)
        number = self._numbers.pop(episode_id, None)
        numbers = [*parts.values(), *([] if number is None else [number])]
        for gone in numbers:
            self._remove(gone)
        return bool(numbers)

    def _remove(self, number: int) -> None:
        self.steps -= self._entries.pop(number).steps
        self._runs.remove(number)
        self._arena.forget(number)

    def _fetch(self, number: int) -> Episode:
        entry = self._entries[number]
        if entry.part == WHOLE or self._load_part is None:
            return self._load(entry.id)
        return self._load_part(entry.id, entry.part)

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
            self._fetch,
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
            if entry.part == WHOLE:
                source = source_of(episode, human=human)
            else:
                source = self._unfinished(episode, human=human)
            if source in wanted:
                facts = SOURCES.index(source), entry.steps, int(episode.success)
                self._runs.add(pool, number, start, stop, *facts)
                entry.eligible += stop - start

    def _unfinished(self, part: Episode, *, human: bool) -> Source | None:
        """As `source_of`, of what does not depend on how the episode ends."""
        shown = self.spec.unfinished and human and part.mode == "live"
        return Source.HUMAN if shown else None

    def _shrink(self) -> tuple[str, ...]:
        dropped: list[str] = []
        while self.steps > self._max_steps:
            online = ((n, e.id) for n, e in self._entries.items() if e.side is Side.ONLINE)
            number, oldest = next(online, (self._next - 1, ""))
            if number == self._next - 1:
                break
            self.drop(oldest)
            dropped.append(oldest)
        self.dropped += len(dropped)
        return tuple(dropped)


def segments(intervention: Bool) -> Iterator[tuple[int, int, bool]]:
    """Maximal runs [start, stop) of one kind of control, and whether it was a human's."""
    edges = np.flatnonzero(np.diff(intervention)) + 1
    bounds = [0, *edges.tolist(), len(intervention)]
    for start, stop in itertools.pairwise(bounds):
        yield start, stop, bool(intervention[start])
