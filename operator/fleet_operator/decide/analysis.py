"""Is a candidate good enough? Pure figures from robots' events."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from fleet_contract.messages import Digest, Event, EventKind
from fleet_contract.resources import Analysis, Step, seconds


class Evidence(NamedTuple):
    """What a cohort lived through in its stage."""

    episodes: int = 0  # judged ones; neutral episodes say nothing
    successes: int = 0
    interventions: int = 0
    guard_trips: int = 0
    refusal: str = ""  # of the first robot that would not take it

    @property
    def rate(self) -> float:
        """Autonomous success, 0 to 1; 0 without episodes."""
        return self.successes / self.episodes if self.episodes else 0.0


class Verdict(StrEnum):
    """What the evidence says of a stage."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 - no password
    BELOW_THRESHOLD = "below-threshold"
    GUARD_TRIPPED = "guard-tripped"
    REFUSED = "refused"


def gather(
    events: Iterable[tuple[int, Event]], *, start: int, digest: Digest, robots: frozenset[str]
) -> Evidence:
    """Fold (stream sequence, event) pairs from ``start`` on, of these robots under this policy.

    Events come at least once, so episodes count by id, a later word on one replacing the
    earlier, and guard trips by robot, episode and time.
    """
    judged: dict[str, bool] = {}
    assisted: dict[str, bool] = {}
    trips: set[tuple[str, str, float]] = set()
    refusal = ""
    for sequence, event in events:
        ours = event.policy is not None and event.policy.digest == digest
        if sequence < start or not ours or event.robot not in robots:
            continue
        if event.kind is EventKind.GUARD:
            trips.add((event.robot, event.episode_id, event.at))
        elif event.kind is EventKind.REFUSAL:
            refusal = refusal or f"robot {event.robot} would not take it: {event.detail}"
        elif event.kind is EventKind.OUTCOME:
            assisted[event.episode_id] = event.human_frames > 0
            if event.judged is None:
                judged.pop(event.episode_id, None)
            else:
                judged[event.episode_id] = event.judged
    successes, interventions = sum(judged.values()), sum(assisted.values())
    return Evidence(len(judged), successes, interventions, len(trips), refusal)


def judge(step: Step, analysis: Analysis, evidence: Evidence, elapsed: float) -> Verdict:
    """The stage's verdict after ``elapsed`` seconds.

    A stage that has its episodes must hold the threshold at all times, through the soak too; one
    that has not fails as soon as even successes alone could no longer lift it there.
    """
    if evidence.refusal:
        return Verdict.REFUSED  # who does not run it never ends an episode under it
    if evidence.guard_trips > analysis.max_guard_trips:
        return Verdict.GUARD_TRIPPED
    total = max(step.min_episodes, evidence.episodes)
    best = evidence.successes + total - evidence.episodes
    if best < analysis.min_success_rate * total - 1e-9:
        return Verdict.BELOW_THRESHOLD
    if evidence.episodes < step.min_episodes or elapsed < seconds(step.soak):
        return Verdict.WAIT
    return Verdict.PASS
