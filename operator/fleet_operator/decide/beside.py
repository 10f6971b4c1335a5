"""What is known of a version that robots compute beside what they run, from their events. Pure."""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

from fleet_contract.messages import Event, EventKind, Shadowed

KEPT = 20_000
"""Episodes of which a later word still counts."""


class Beside(NamedTuple):
    """What its shadows told, added up over episodes."""

    episodes: int = 0  # in which it was compared with the stable version
    disagreement: float = 0.0  # mean over them of their means
    most: float = 0.0  # the greatest of their means
    tripped: int = 0  # episodes in which the guard would not have let it pass
    trips: str = ""  # by kind, with the first one's words
    latencies: tuple[float, ...] = ()  # seconds: the slowest inference of each episode
    skipped: float = 0.0  # share of the chunks that it was not asked for
    human: float | None = None  # mean disagreement with people, where they drove
    refusal: str = ""  # of the first robot that would not compute it


class Scope(NamedTuple):
    """Whose events count."""

    digest: str  # the version that computes
    stable: str  # the version that acts
    start: int  # events stream sequence at which the gate began


class Account:
    """Takes (stream sequence, event) pairs in order; an episode counts once, its last word."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.through = 0  # newest sequence taken
        self._told: dict[str, Event] = {}
        self._refusal = ""

    def extend(self, events: Iterable[tuple[int, Event]]) -> "Account":
        """Itself, with these taken as well."""
        for sequence, event in events:
            self.through = sequence
            if event.policy is None or event.policy.digest != self.scope.digest:
                continue
            if sequence < self.scope.start:
                continue
            if event.kind is EventKind.REFUSAL:
                why = f"robot {event.robot} would not take it: {event.detail}"
                self._refusal = self._refusal or why
            elif event.kind is EventKind.SHADOW and event.shadow is not None:
                self._take(event, event.shadow)
        return self

    def _take(self, event: Event, told: Shadowed) -> None:
        if told.acted.digest != self.scope.stable:
            return  # a robot that has not yet taken the stable version up compares with another
        self._told[event.episode_id] = event
        if len(self._told) > KEPT:
            del self._told[next(iter(self._told))]

    def added_up(self) -> Beside:
        """What was taken."""
        told = [(event, event.shadow) for event in self._told.values() if event.shadow]
        means = [one.disagreement for _, one in told if one.chunks and one.disagreement is not None]
        people = [one for _, one in told if one.human_disagreement is not None]
        frames = sum(one.human_frames for one in people)
        asked = sum(one.chunks + one.skipped for _, one in told)
        tripped = [event for event, one in told if any(one.trips.values())]
        return Beside(
            episodes=len(means),
            disagreement=fmean(means) if means else 0.0,
            most=max(means, default=0.0),
            tripped=len(tripped),
            trips=_words(tripped),
            latencies=tuple(event.latency for event, _ in told if event.latency is not None),
            skipped=sum(one.skipped for _, one in told) / asked if asked else 0.0,
            human=sum((one.human_disagreement or 0) * one.human_frames for one in people) / frames
            if frames
            else None,
            refusal=self._refusal,
        )


def _words(tripped: list[Event]) -> str:
    kinds: Counter[str] = Counter()
    for event in tripped:
        kinds.update(event.shadow.trips if event.shadow else {})
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{counts}; {tripped[0].robot}: {tripped[0].detail}" if tripped else ""
