"""What is known of one job at its broker."""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.names import Stream
from fleet_operator.bus import Bus
from fleet_operator.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet_contract.resources import PolicyVersionSpec
    from fleet_operator.decide.beside import Account
    from fleet_operator.decide.evidence import Fold
    from fleet_operator.streams import Found


class Enrolled(NamedTuple):
    """A robot that exists."""

    uid: str
    last_seen: float | None
    """As its status says: Unix seconds."""
    suspended: bool = False
    """Out of work on purpose."""


class Subscription:
    """One job at its broker."""

    def __init__(self, job: str, bus: Bus, feed: Feed) -> None:
        self.job, self.bus, self.feed = job, bus, feed
        self.stale = True  # what happened before we listened, or while we could not, is unread
        self.streams: dict[Stream, Found] = {}
        self.checked_at = float("-inf")
        self.read = False  # since our start: all that is stored of it, and which robots there are
        self.listens_from: float | None = None
        """Seconds of our clock; heartbeats before were missed."""
        self.told_before: int | None = None  # the newest event there was when we first followed
        self.end: Callable[[], Awaitable[None]] | None = None
        self.lock = asyncio.Lock()
        self.present: set[str] = set()
        self.published: dict[int, PolicyVersionSpec] = {}
        self.robots: dict[str, Enrolled] = {}
        self.tasks: frozenset[str] = frozenset()
        self.versions: dict[str, int] = {}  # role → sequence
        self.announced_at: tuple[int, float] | None = None  # sequence, seconds of our clock
        self.fold: Fold | None = None  # of the trial under way
        self.beside: Account | None = None  # of the shadow gate under way
        self._learner_present = False

    @property
    def last_event(self) -> int:
        """The newest event there was when the streams were last looked at."""
        return self.streams[Stream.EVENTS].last if self.streams else 0

    def learner_lost(self, since: float) -> bool:
        """True once when the learner falls silent."""
        before, self._learner_present = self._learner_present, self.feed.learner_at >= since
        return before and not self._learner_present
