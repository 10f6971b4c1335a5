"""What is known of a version under trial, folded from robots' events. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from fleet_contract.messages import Event, EventKind
from fleet_operator.decide.sequential import Compared, Tally

KEPT = 20_000
"""Episodes of which a later word still counts, in each cohort."""


class Task(NamedTuple):
    """One task's episodes since the trial began."""

    name: str
    seen: Compared
    alone: Compared = Compared(Tally())
    """The same episodes, but what counts as success is that the policy needed nobody."""


class Evidence(NamedTuple):
    """What a cohort lived through: in its stage, and by task in the whole trial."""

    episodes: int = 0  # judged ones of this stage; neutral episodes say nothing
    successes: int = 0
    interventions: int = 0  # episodes of this stage with a takeover, also one that was due
    guard_trips: int = 0
    refusal: str = ""  # of the first robot that would not take it
    tasks: tuple[Task, ...] = ()
    needed: int = 0  # judged episodes of the trial in which the policy needed a person
    latencies: tuple[float, ...] = ()  # seconds: the slowest inference of each episode that tells
    cycles: tuple[float, ...] = ()  # seconds of each autonomous success
    silence: float = 0.0  # seconds since an episode of the cohort last ended

    @property
    def rate(self) -> float:
        """Autonomous success in the stage, 0 to 1; 0 without episodes."""
        return self.successes / self.episodes if self.episodes else 0.0

    @property
    def by_task(self) -> tuple[Task, ...]:
        """Never empty: figures without tasks are one task that stands for all."""
        return self.tasks or (Task("", Compared(Tally(self.episodes, self.successes))),)


class Scope(NamedTuple):
    """Whose events count."""

    digest: str  # the version judged
    robots: frozenset[str]  # its cohort
    start: int  # events stream sequence at which the stage began
    trial: int  # … at which the trial began
    stable: str = ""  # the version it is compared with, by digest; "": none


class _Seen(NamedTuple):
    first: int  # stream sequence of the first word on the episode; it settles where it counts
    event: Event  # the last word


class Fold:
    """Takes (stream sequence, event) pairs in order, each once; cheap however many were before.

    Events come at least once and labels may come late, so episodes count by id, a later word on
    one replacing the earlier, and guard trips by robot, episode and time.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.through = 0  # newest sequence taken
        self._own: dict[str, _Seen] = {}
        self._others: dict[str, _Seen] = {}
        self._counts: Counter[tuple[bool, str, bool]] = Counter()  # (before, task, success)
        self._helped: Counter[str] = Counter()  # by task, of the stable version's since the trial
        self._trips: set[tuple[str, str, float]] = set()
        self._refusal = ""

    def extend(self, events: Iterable[tuple[int, Event]]) -> "Fold":
        """Itself, with these taken as well."""
        for sequence, event in events:
            self.through = sequence
            if event.policy is None:
                continue
            if event.policy.digest == self.scope.digest:
                if sequence >= self.scope.trial and event.robot in self.scope.robots:
                    self._candidate(sequence, event)
            elif event.policy.digest == self.scope.stable and event.kind is EventKind.OUTCOME:
                self._stable(sequence, event)
        return self

    def _candidate(self, sequence: int, event: Event) -> None:
        if event.kind is EventKind.GUARD:
            self._trips.add((event.robot, event.episode_id, event.at))
        elif event.kind is EventKind.REFUSAL:
            why = f"robot {event.robot} would not take it: {event.detail}"
            self._refusal = self._refusal or why
        elif event.kind is EventKind.OUTCOME:
            known = self._own.get(event.episode_id)
            self._own[event.episode_id] = _Seen(known.first if known else sequence, event)
            _forget(self._own)

    def _stable(self, sequence: int, event: Event) -> None:
        known = self._others.get(event.episode_id)
        seen = _Seen(known.first if known else sequence, event)
        for word, sign in ((known, -1), (seen, 1)):
            if word is not None and word.event.judged is not None:
                before = word.first < self.scope.trial
                self._counts[before, word.event.task, word.event.judged] += sign
                self._helped[word.event.task] += sign * (_needed(word.event) and not before)
        self._others[event.episode_id] = seen
        _forget(self._others)

    def evidence(self) -> Evidence:
        """What was taken, added up."""
        trial = [seen.event for seen in self._own.values()]
        stage = [seen.event for seen in self._own.values() if seen.first >= self.scope.start]
        judged = [event for event in trial if event.judged is not None]
        won = [event for event in judged if event.judged]
        mine = Counter((event.task, bool(event.judged)) for event in judged)
        helped = Counter(event.task for event in judged if _needed(event))
        tasks = {task for _, task, _ in self._counts} | {task for task, _ in mine}
        here = [event.judged for event in stage if event.judged is not None]
        return Evidence(
            episodes=len(here),
            successes=sum(here),
            interventions=sum(event.human_frames > 0 for event in stage),
            guard_trips=len(self._trips),
            refusal=self._refusal,
            tasks=tuple(self._task(task, mine, helped[task]) for task in sorted(tasks)),
            needed=helped.total(),
            latencies=tuple(event.latency for event in trial if event.latency is not None),
            cycles=tuple(event.duration for event in won),
        )

    def _task(self, name: str, mine: Counter[tuple[str, bool]], helped: int) -> Task:
        seen = self._compared(name, mine)
        own, others = seen.candidate.episodes, seen.stable.episodes
        alone = Compared(Tally(own, own - helped), Tally(others, others - self._helped[name]))
        return Task(name, seen, alone)

    def _compared(self, task: str, mine: Counter[tuple[str, bool]]) -> Compared:
        def tally(before: bool) -> Tally:
            won, lost = self._counts[before, task, True], self._counts[before, task, False]
            return Tally(won + lost, won)

        won = mine[task, True]
        return Compared(Tally(won + mine[task, False], won), tally(False), tally(True))


def _needed(event: Event) -> bool:
    """Whether the policy needed a person; a takeover that was due is judged otherwise."""
    return event.judged is False and event.human_frames > 0


def _forget(episodes: dict[str, _Seen]) -> None:
    """The oldest beyond ``KEPT``; a stable episode's count stays, its label is settled."""
    if len(episodes) > KEPT:
        del episodes[next(iter(episodes))]


def gather(events: Iterable[tuple[int, Event]], scope: Scope) -> Evidence:
    """Fold (stream sequence, event) pairs at once."""
    return Fold(scope).extend(events).evidence()
