"""Everything that comes in over NATS, sorted by job; wakes the queue when its meaning changed."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import Fenced, Retry, Untrusted
from fleet_contract.messages import Assignment, Document, Kept, Verifier
from fleet_contract.names import Channel, Kind, Signatory, Stream
from fleet_operator.bus import DELETED, Bus, deleted
from fleet_operator.decide import pace
from fleet_operator.feed import KEPT_EVENTS, Feed, News
from fleet_operator.stages import Stages
from fleet_operator.subscription import Subscription
from fleet_operator.work import Key

if TYPE_CHECKING:
    from fleet_operator.decide.keys import Keyring

WATCH_EVERY = 5.0  # seconds between two looks for heartbeats that stopped

logger = logging.getLogger(__name__)
Wake = Callable[[Key], None]
WakeIn = Callable[[Key, float], None]


class Listening:
    """What is heard of a broker beside streams; of several jobs that begin at once one sees to it.

    Else each would subscribe, and all that comes be read as often.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.client: object = None
        self.heard: set[str] = set()


class Inbox:
    """The jobs' feeds. Robots and learners are heard from the first reconcile of their job on."""

    def __init__(
        self,
        namespace: str,
        wake: Wake,
        wake_in: WakeIn,
        *,
        lost_after: float,
        bus: Callable[[str], Bus] = Bus,
    ) -> None:
        """``bus`` makes the connection to a server, by its URL."""
        self.namespace, self.lost_after = namespace, lost_after
        self._wake, self._wake_in, self._make_bus = wake, wake_in, bus
        self._buses: dict[str, Bus] = {}
        self._jobs: dict[str, Subscription] = {}
        self._woken: dict[Key, float] = {}
        self._listening: dict[str, Listening] = {}
        self._awaits: dict[str, set[Key]] = {}
        """By job: whose last turn could not know yet what is stored of it."""
        self.keys: Keyring | None = None
        """Set before the first job is opened: without keys nothing is believed or said."""
        self.stages = Stages(namespace)
        self.started_at = asyncio.get_running_loop().time()

    @property
    def now(self) -> float:
        """Seconds of the loop's clock; never compared with another machine's."""
        return asyncio.get_running_loop().time()

    @property
    def heard_since(self) -> float:
        """Who was last heard of before this is not connected."""
        return self.now - self.lost_after

    def settling(self, job: str) -> bool:
        """We listen to that job for too short a time to call anybody lost.

        Where its broker cannot be reached, we do since our start.
        """
        known = self._jobs.get(job)
        since = known.listens_from if known else None
        return (self.started_at if since is None else since) > self.heard_since

    def jobs(self) -> list[Subscription]:
        """All that are known now; from any thread."""
        return list(self._jobs.values())

    def buses(self) -> list[Bus]:
        return list(self._buses.values())

    def bus(self, url: str) -> Bus:
        """The one connection to a server."""
        if url not in self._buses:
            bus = self._buses[url] = self._make_bus(url)
            bus.on_connect(lambda: self._reconnected(bus))
        return self._buses[url]

    def get(self, job: str) -> Subscription | None:
        """What is known of a job, None before its first reconcile."""
        return self._jobs.get(job)

    def feed(self, job: str, uid: str) -> Feed | None:
        """The feed of this very job."""
        found = self._jobs.get(job)
        return found.feed if found and found.feed.job_uid == uid else None

    def read(self, job: str, uid: str, robot: str) -> Subscription | None:
        """The job once all of it is known; None before, and the robot is woken then."""
        found = self._jobs.get(job)
        if found is not None and found.feed.job_uid == uid and found.read:
            return found
        self._awaits.setdefault(job, set()).add(Key(Kind.ROBOT_ACTOR, robot))
        return None

    async def open(
        self,
        job: str,
        uid: str,
        url: str,
        *,
        installation: str,
        events_from: int,
        check_every: float,
    ) -> Subscription:
        """Streams made or checked, everything unread read, and listening. Raises ``Retry``."""
        known = self._jobs.get(job)
        if known is None or known.feed.job_uid != uid or known.bus.url != url:
            if known is not None:
                await self.close(job)
            known = self._jobs[job] = Subscription(job, self.bus(url), Feed(uid))
        async with known.lock:
            await known.bus.client()
            await self._listen(known.bus)
            if known.listens_from is None:
                known.listens_from = self.now
            if known.stale or self.now - known.checked_at >= check_every:
                await self._read(known, installation, events_from)
        return known

    async def close(self, job: str) -> None:
        """Forget a job."""
        known = self._jobs.pop(job, None)
        if known is not None and known.end is not None:
            await known.end()
        self._wake_awaiting(job)

    async def shut(self) -> None:
        """Leave every broker."""
        for bus in self._buses.values():
            await bus.close()

    async def watch(self) -> None:
        """Wakes who fell silent: nothing arrives when a heartbeat stops. Never returns."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY, self.lost_after / 2))
            for known in self._jobs.values():
                present = {
                    robot
                    for robot, heard in known.feed.heard.items()
                    if heard.at >= self.heard_since
                }
                for robot in known.present - present:
                    self._wake(Key(Kind.ROBOT_ACTOR, robot))
                if known.present - present or known.learner_lost(self.heard_since):
                    self._wake(Key(Kind.TRAINING_JOB, known.job))
                known.present = present

    async def _read(self, known: Subscription, installation: str, events_from: int) -> None:
        """What is stored: streams, announcement, assignment; then the events from there on."""
        feed, bus, job = known.feed, known.bus, known.job
        # Set first: a reconnect while we read makes it stale again.
        known.stale, was_stale = False, known.stale
        try:
            streams = await bus.ensure(self.namespace, job, feed.job_uid, installation)
            before, after = known.streams.get(Stream.EVENTS), streams[Stream.EVENTS]
            lost = before is not None and before.generation != after.generation
            # A power cut may take a stream's end alone: what comes then has numbers that we had.
            if lost or after.last < feed.last_event:
                feed.forget_events()
                known.told_before = min(known.told_before or after.last, after.last)
                was_stale = True
            known.streams = streams
            if stored := await bus.last(feed.job_uid, names.announce_subject(self.namespace, job)):
                feed.announced(stored.data, self._verify(Signatory.LEARNER))
            await self.read_assignment(known)
            await self._read_kept(known)
            if was_stale or known.end is None:
                if known.end is not None:
                    await known.end()
                start = feed.last_event + 1
                if not feed.last_event:
                    start = max(after.last - KEPT_EVENTS + 1, 1)
                    start = min(start, events_from) if events_from else start
                if known.told_before is None:
                    known.told_before = after.last
                known.end = await bus.follow(
                    names.stream(feed.job_uid, Stream.EVENTS), start, self._event_of(known)
                )
        except BaseException:
            known.stale = True
            raise
        known.checked_at = self.now

    def has_read(self, known: Subscription) -> None:
        """Its robots are known, too: whoever waited for that has its turn."""
        known.read = True
        self._wake_awaiting(known.job)

    def _wake_awaiting(self, job: str) -> None:
        for key in self._awaits.pop(job, ()):
            self._wake(key)

    async def read_assignment(self, known: Subscription) -> None:
        """The last document on the stream, by whomever. Raises ``Retry``."""
        subject = names.assign_subject(self.namespace, known.job)
        stored = await known.bus.last(known.feed.job_uid, subject)
        known.feed.assignment, known.feed.assignment_sequence = None, 0
        if stored is not None:
            known.feed.assignment_sequence = stored.sequence
            try:
                known.feed.assignment = Assignment.open(
                    stored.data, self._verify(Signatory.OPERATOR)
                )
            except Untrusted as fault:
                known.feed.distrust(
                    stored.data,
                    f"The assignment document on {subject} is none of ours: {fault}. Robots refuse "
                    "it too; ours is sent again. Find out who may publish there",
                )

    async def _read_kept(self, known: Subscription) -> None:
        """What the learner was last told. One that is none of ours is replaced: it reads so too."""
        feed = known.feed
        subject = names.kept_subject(self.namespace, known.job)
        stored = await known.bus.last(feed.job_uid, subject)
        feed.kept, feed.kept_sequence = None, stored.sequence if stored else 0
        if stored is not None:
            with contextlib.suppress(Untrusted):
                feed.kept = Kept.open(stored.data, self._verify(Signatory.OPERATOR))

    def _verify(self, role: Signatory) -> Verifier:
        def verify(key: str, data: bytes, signature: str) -> None:
            if self.keys is None:
                raise Untrusted("the namespace's keys are not known yet")
            self.keys.trusted.verifier(role)(key, data, signature)

        return verify

    async def _listen(self, bus: Bus) -> None:
        """The core subscriptions of a broker, each once; nats-py renews them at a reconnect."""
        known = self._listening.setdefault(bus.url, Listening())
        async with known.lock:
            if known.client is not (client := await bus.client()):
                known.client, known.heard = client, set()
            for subject, receive in (
                (names.robot_subject(self.namespace, "*", "*", Channel.HEARTBEAT), self._heartbeat),
                (names.learner_heartbeat_subject(self.namespace, "*"), self._learner),
                (names.gate_heartbeat_subject(self.namespace, "*"), self._gate),
                (names.announce_subject(self.namespace, "*"), self._announcement),
                *((subject, self._deletion) for subject in DELETED),
            ):
                if subject not in known.heard:
                    await bus.subscribe(subject, receive)
                    known.heard.add(subject)

    def _reconnected(self, bus: Bus) -> None:
        for known in self._jobs.values():
            if known.bus is bus:
                known.stale = True
                self._wake(Key(Kind.TRAINING_JOB, known.job))

    # --- arrivals; none of these may block or raise ---------------------------------------

    def _heartbeat(self, subject: str, data: bytes) -> None:
        robot, job = names.robot_of(subject), names.job_of_robot(subject)
        known = self._jobs.get(job)
        if known is None:
            return
        key = Key(Kind.ROBOT_ACTOR, robot)
        lost = not self._heard_lately(known.feed, robot)
        before = known.feed.heard.get(robot)
        enrolled = known.robots.get(robot)
        uid = enrolled.uid if enrolled else ""
        news = known.feed.heartbeat(subject, data, self.now, uid)
        self.stages.taken_up(known, robot, before)
        robots = len(known.robots)
        if news is News.MEANING or (lost and self._heard_lately(known.feed, robot)):
            self._wake(key)
            self._wake(Key(Kind.TRAINING_JOB, job))
        elif news is News.FOLLOWED:
            # A whole fleet follows at once; its job counts them, their own statuses have time.
            self._wake_in(key, random.uniform(0, pace.following(robots)))  # noqa: S311 - no secret
            self._wake(Key(Kind.TRAINING_JOB, job))
        else:
            self._wake_at_times(key, pace.counting(robots))

    def _heard_lately(self, feed: Feed, robot: str) -> bool:
        heard = feed.heard.get(robot)
        return heard is not None and heard.at >= self.heard_since

    def _learner(self, subject: str, data: bytes) -> None:
        self._beat(subject, lambda feed: feed.learner_beat(data, self.now))

    def _gate(self, subject: str, data: bytes) -> None:
        self._beat(subject, lambda feed: feed.gate_beat(data))

    def _beat(self, subject: str, hear: Callable[[Feed], bool]) -> None:
        """A job's; ``hear`` tells whether it means something new."""
        job = names.job_of(subject)
        known = self._jobs.get(job)
        if known is None:
            return
        key = Key(Kind.TRAINING_JOB, job)
        if hear(known.feed):
            self._wake(key)
        else:
            self._wake_at_times(key, pace.LEAST)

    def _announcement(self, subject: str, data: bytes) -> None:
        job = names.job_of(subject)
        known = self._jobs.get(job)
        if known is None:
            return
        doubts = known.feed.doubts
        if known.feed.announced(data, self._verify(Signatory.LEARNER)):
            self.stages.announced(known, self.now)
            self._wake(Key(Kind.TRAINING_JOB, job))
        elif known.feed.doubts != doubts:
            self._wake(Key(Kind.TRAINING_JOB, job))

    def _deletion(self, subject: str, _: bytes) -> None:
        """By hand, where the job is still open: it is made again."""
        stream = deleted(subject)
        for known in self._jobs.values():
            # Also while they are looked at for the first time: what was seen may be gone again.
            if stream in {names.stream(known.feed.job_uid, kind) for kind in Stream}:
                known.stale = True
                self._wake(Key(Kind.TRAINING_JOB, known.job))

    def _event_of(self, known: Subscription) -> Callable[[int, str, bytes], None]:
        def receive(sequence: int, subject: str, data: bytes) -> None:
            robot = names.robot_of(subject)
            before = known.feed.refused.get(robot)
            fresh = sequence > (known.told_before or 0)
            if known.feed.event(sequence, subject, data, self.now, fresh=fresh):
                self._wake(Key(Kind.TRAINING_JOB, known.job))
            if known.feed.refused.get(robot) != before:
                self._wake(Key(Kind.ROBOT_ACTOR, robot))

        return receive

    def _wake_at_times(self, key: Key, every: float) -> None:
        """Of one that only counted on."""
        if self.now - self._woken.get(key, float("-inf")) >= every:
            self._woken[key] = self.now
            self._wake(key)


async def publish_assignment(inbox: Inbox, known: Subscription, document: Assignment) -> None:
    """The job's new document, after the one we know. Raises ``Fenced`` or ``Retry``."""
    feed, subject = known.feed, names.assign_subject(inbox.namespace, known.job)
    sequence = await _put(inbox, known, subject, document, feed.assignment_sequence)
    feed.assignment, feed.assignment_sequence = document, sequence
    inbox.stages.assigned(known, document, inbox.now)


async def publish_kept(inbox: Inbox, known: Subscription, document: Kept) -> None:
    """What the learner must keep from now on. Raises ``Fenced`` or ``Retry``."""
    feed, subject = known.feed, names.kept_subject(inbox.namespace, known.job)
    feed.kept_sequence = await _put(inbox, known, subject, document, feed.kept_sequence)
    feed.kept = document


async def _put(
    inbox: Inbox, known: Subscription, subject: str, document: Document, after: int
) -> int:
    if inbox.keys is None:
        raise Retry("the namespace's keys are not known yet: nothing can be signed")
    try:
        return await known.bus.put(
            known.feed.job_uid, subject, document.seal(inbox.keys.own.sign), after
        )
    except (Fenced, Retry):
        known.stale = True  # it may have landed all the same
        raise
