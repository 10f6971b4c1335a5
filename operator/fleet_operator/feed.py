"""What one job's fleet and learner said: kept in memory, rebuilt from the streams at a restart."""

from collections import deque
from collections.abc import Collection, Iterator
from enum import IntEnum
from itertools import takewhile
from typing import NamedTuple

from fleet_contract.errors import FleetError, Untrusted
from fleet_contract.messages import (
    Announcement,
    Assignment,
    Event,
    EventKind,
    GateReport,
    Heartbeat,
    Kept,
    LearnerHeartbeat,
    Outcome,
    Verifier,
    digest_of,
)
from fleet_contract.names import robot_of
from fleet_operator.decide.bounded import bounded

KEPT_EVENTS = 20_000
MOST_DOUBTS, MOST_DISTRUSTED = 3, 64
RECENT = 20  # judged episodes behind a robot's own rates


class Heard(NamedTuple):
    """A robot's last heartbeat and when it came, in seconds of the loop's clock."""

    beat: Heartbeat
    at: float


class Episode(NamedTuple):
    """One ended episode of a robot."""

    id: str
    judged: bool | None
    assisted: bool


class News(IntEnum):
    """What a heartbeat tells beside that its sender is there."""

    NONE = 0
    FOLLOWED = 1
    """The robot follows what it is assigned, as the whole fleet does."""
    MEANING = 2
    """Something that nobody could foresee."""


class Feed:
    """Pure bookkeeping; each method says whether something changed in meaning."""

    def __init__(self, job_uid: str) -> None:
        self.job_uid = job_uid
        self.announcement: Announcement | None = None
        self.assignment: Assignment | None = None
        self.assignment_sequence = 0
        self.kept: Kept | None = None
        self.kept_sequence = 0
        self.events: deque[tuple[int, Event]] = deque(maxlen=KEPT_EVENTS)
        self.last_event = 0
        self.last_outcome_at = float("-inf")
        self.ended: dict[str, float] = {}
        """By robot: when its last episode was heard to have ended, in seconds of our clock."""
        self.heard: dict[str, Heard] = {}
        self.learner: LearnerHeartbeat | None = None
        self.learner_at = float("-inf")
        self.gate: GateReport | None = None
        """The last that a run of the simulation gate told: how far it is, for people."""
        self._learner_fault = ("", float("-inf"))
        self.refused: dict[str, tuple[str, str]] = {}
        """By robot: (digest, why) of the last policy it would not take."""
        self._episodes: dict[str, deque[Episode]] = {}
        self.doubts: tuple[str, ...] = ()
        """What was not believed and has not been told yet."""
        self._distrusted: deque[str] = deque(maxlen=MOST_DISTRUSTED)

    def distrust(self, data: bytes, why: str) -> None:
        """A document is not believed; told once, though it is read at every look."""
        if (digest := digest_of(data)) not in self._distrusted:
            self._distrusted.append(digest)
            self.doubts = (*self.doubts, why)[-MOST_DOUBTS:]

    def forget_events(self) -> None:
        """The stream lost its end, or was lost and made anew: they are read again."""
        self.events.clear()
        self._episodes.clear()
        self.last_event = 0

    def announced(self, data: bytes, verify: Verifier | None = None) -> bool:
        """An announcement came; a newer one than known changes what we know."""
        try:
            found = Announcement.decode(data)
        except FleetError:
            return False
        known = self.announcement.policy.sequence if self.announcement else 0
        if found.job_uid != self.job_uid or found.policy.sequence <= known:
            return False
        if found.learner_epoch < 1 or min(found.step, found.size) < 0:
            return False  # no PolicyVersion could be made of it
        try:
            if verify is not None:
                found.check(verify)
        except Untrusted as fault:
            self.distrust(
                data,
                f"Version {found.policy.sequence} was announced, but not by the learner: {fault}. "
                "It is not tried",
            )
            return False
        self.announcement = found
        return True

    def event(
        self, sequence: int, subject: str, data: bytes, now: float, *, fresh: bool = True
    ) -> bool:
        """One message of the events stream; in order, possibly again after a reconnect.

        One that is not ``fresh`` was stored before we listened, nobody knows how long ago.
        """
        if sequence <= self.last_event:
            return False
        self.last_event = sequence
        try:
            event = bounded(Event.decode(data))
        except FleetError:
            return False
        # The subject is what the broker let its sender use; the body could name anybody.
        if event.job_uid != self.job_uid or event.robot != robot_of(subject):
            return False
        if event.kind is EventKind.SWAP or (event.kind is EventKind.REFUSAL and not event.policy):
            return False
        self.events.append((sequence, event))
        if event.kind is EventKind.REFUSAL and event.policy is not None:
            self.refused[event.robot] = (event.policy.digest, event.detail)
        if event.kind is EventKind.OUTCOME and event.outcome is not Outcome.DISCARDED:
            self.ended[event.robot] = now
            if fresh:
                self.last_outcome_at = now
            mine = self._episodes.setdefault(event.robot, deque(maxlen=RECENT))
            episode = Episode(event.episode_id, event.judged, event.human_frames > 0)
            for index, known in enumerate(mine):
                if known.id == episode.id:
                    mine[index] = episode
                    break
            else:
                mine.append(episode)
        return True

    def since(self, sequence: int) -> list[tuple[int, Event]]:
        """The events kept that came after that one, in order."""
        newest = list(takewhile(lambda one: one[0] > sequence, reversed(self.events)))
        return newest[::-1]

    def only(self, robots: Collection[str]) -> None:
        """Of others than these, which exist, nothing is known: what went holds no version."""
        for told in (self.heard, self.ended, self.refused, self._episodes):
            for robot in told.keys() - robots:
                del told[robot]

    def heartbeat(self, subject: str, data: bytes, now: float, uid: str = "") -> News:
        """A robot's heartbeat. ``uid``: of the one that exists; empty: none is known.

        An agent that goes on though its robot was enrolled anew does not speak for it.
        """
        try:
            beat = bounded(Heartbeat.decode(data))
        except FleetError:
            return News.NONE
        if beat.job_uid != self.job_uid or beat.robot != robot_of(subject):
            return News.NONE
        before = self.heard.get(beat.robot)
        if before is not None and before.beat.robot_uid == uid != beat.robot_uid:
            return News.NONE
        self.heard[beat.robot] = Heard(beat, now)
        fault = beat.document_fault
        if fault and (before is None or before.beat.document_fault != fault):
            self.distrust(
                fault.encode(),
                f"Robot {beat.robot} did not believe an assignment document: {fault}. It keeps "
                "what it has",
            )
        if before is None or meaning(before.beat) != meaning(beat):
            return News.MEANING
        return News.NONE if followed(before.beat) == followed(beat) else News.FOLLOWED

    def learner_beat(self, data: bytes, now: float) -> bool:
        """The learner's heartbeat; an older epoch's is a zombie's and is not heard.

        One without an epoch is of a learner that cannot reach its store to claim it: it has
        nothing to tell but that.
        """
        try:
            beat = bounded(LearnerHeartbeat.decode(data))
        except FleetError:
            return False
        before, (fault, _) = self.learner, self._learner_fault
        if beat.job_uid != self.job_uid:
            return False
        if beat.epoch == 0:
            self._learner_fault = (beat.fault, now)
            return beat.fault != fault
        if before and beat.epoch < before.epoch:
            return False
        self._learner_fault = (beat.fault, now)
        self.learner, self.learner_at = beat, now
        changed = before is None or where(before) != where(beat)
        return changed or beat.fault != fault

    @property
    def learner_told(self) -> bool:
        """Whether it was ever heard of."""
        return max(self.learner_at, self._learner_fault[1]) > float("-inf")

    def learner_fault(self, since: float) -> str:
        """What the learner said it waits for, if it was heard after ``since``."""
        fault, at = self._learner_fault
        return fault if at >= since else ""

    def gate_beat(self, data: bytes) -> bool:
        """How far the run of a gate is; one that hangs on after its successor is not heard."""
        try:
            beat = bounded(GateReport.decode(data))
        except FleetError:
            return False
        before = self.gate
        if beat.job_uid != self.job_uid or (before and beat.run < before.run):
            return False
        self.gate = beat
        return before is None or (beat.run, beat.waits) != (before.run, before.waits)

    def connected(self, robot: str, robot_uid: str, since: float) -> bool:
        """Whether this very robot was heard of after ``since``."""
        heard = self.heard.get(robot)
        return heard is not None and heard.at >= since and heard.beat.robot_uid == robot_uid

    def rates(self, robot: str) -> tuple[float | None, float | None]:
        """(success, intervention) over the robot's recent episodes; None where there are none."""
        episodes = self._episodes.get(robot, ())
        judged = [one.judged for one in episodes if one.judged is not None]
        success = sum(judged) / len(judged) if judged else None
        assisted = sum(one.assisted for one in episodes) / len(episodes) if episodes else None
        return success, assisted

    def windows(self, tasks: set[str], length: int) -> dict[str, tuple[int, int]]:
        """Per task: (episodes, successes) of its latest ``length`` judged ones."""
        seen: dict[str, dict[str, bool]] = {task: {} for task in tasks}
        neutral: set[str] = set()
        missing = set(tasks)
        for event in self._newest_first():
            if not missing:
                break
            if event.task not in missing or event.episode_id in neutral:
                continue
            if event.judged is None:
                neutral.add(event.episode_id)  # a later word took the judgement back
                continue
            # The first word met is the latest on that episode.
            mine = seen[event.task]
            mine.setdefault(event.episode_id, event.judged)
            if len(mine) >= length:
                missing.discard(event.task)
        return {task: (len(mine), sum(mine.values())) for task, mine in seen.items()}

    def _newest_first(self) -> Iterator[Event]:
        return (event for _, event in reversed(self.events) if event.kind is EventKind.OUTCOME)


def meaning(beat: Heartbeat) -> tuple[object, ...]:
    """The part of a heartbeat whose change is worth a write at once."""
    faults = (beat.spool_fault, _fault(beat), beat.fallback)
    return (beat.robot_uid, beat.job_uid, beat.active is None, *faults)


def where(beat: LearnerHeartbeat) -> tuple[object, ...]:
    """Where a learner stands: a change is worth a look."""
    return beat.stage, beat.epoch, beat.undemonstrated


def _fault(beat: Heartbeat) -> str:
    return beat.document_fault or beat.policy_fault


def followed(beat: Heartbeat) -> tuple[object, ...]:
    """The part that changes with every document and version."""
    return (
        beat.active.digest if beat.active else None,
        beat.pending.digest if beat.pending else None,
        beat.assignment_epoch,
    )
