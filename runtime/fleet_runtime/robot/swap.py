"""Which policy drives, which waits, which can be trusted again: pure, one value per moment.

    offer ──► pending ──begin──► active, on probation ──judged episodes──► active, good
                                   │                                          │
                              distrust (guard), or the program died      distrust (guard)
                                   ▼                                          ▼
                    last good policy, or none: safe stop                  safe stop

Only `begin`, between two episodes, changes what drives; an illegal move raises and changes nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet_contract.messages import PolicyRef
    from fleet_runtime.policies.base import Policy


PROBATION = 3
"""Judged episodes that a policy drives before it is the one to go back to."""


class IllegalMove(RuntimeError):
    """A change of policy at a moment that does not allow it: our own fault, not anybody else's."""


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A verified policy in memory."""

    ref: PolicyRef
    policy: Policy
    epoch: int  # of the assignment that gave it
    created_at: float = 0.0  # Unix seconds; latency figures only
    heard: float = 0.0  # monotonic seconds when an assignment first named it
    fetched: float = 0.0  # … and when it was here and checked

    @property
    def digest(self) -> str:
        """Two are the same policy when their manifests are."""
        return self.ref.digest


@dataclasses.dataclass(frozen=True)
class Slot:
    """The robot's policies at one moment."""

    active: Loaded | None = None
    pending: Loaded | None = None
    good: Loaded | None = None  # the last that passed its probation
    driving: bool = False  # an episode runs
    barred: tuple[tuple[str, int], ...] = ()  # (digest, epoch) of policies the guard stopped
    denied: frozenset[str] = frozenset()  # digests the fleet forbids
    passed: tuple[str, int] = ("", 0)  # (digest, judged episodes) of the probation under way
    probation: int = PROBATION

    @property
    def next(self) -> Loaded | None:
        """What the next episode would run under; None: the robot rests."""
        chosen = self.pending or self.active
        return None if chosen is None or chosen.digest in self.denied else chosen

    @property
    def on_probation(self) -> bool:
        """The active policy has yet to show that it can be gone back to."""
        active, good = self.active, self.good
        return active is not None and (good is None or good.digest != active.digest)

    def bars(self, digest: str, epoch: int) -> bool:
        """One that was stopped is taken only by an assignment newer than that."""
        return any(digest == barred and epoch <= since for barred, since in self.barred)

    def offer(self, loaded: Loaded) -> Slot:
        """A policy to take up at the next boundary; the newest offer wins, unless it is barred."""
        if self.bars(loaded.digest, loaded.epoch):
            return self
        return dataclasses.replace(self, pending=loaded)

    def begin(self) -> Slot:
        """An episode begins, under the pending policy if there is one."""
        if self.driving:
            raise IllegalMove("an episode begins while another one runs")
        active = self.next
        if active is None:
            raise IllegalMove("an episode begins without a policy")
        return dataclasses.replace(self, active=active, pending=None, driving=True)

    def end(self, *, clean: bool) -> Slot:
        """The episode is over; `clean`: it was judged, and not the guard that ended it."""
        if not self.driving or self.active is None:
            raise IllegalMove("an episode ends, but none runs")
        if not self.on_probation:
            return dataclasses.replace(self, driving=False, good=self.active)
        digest, before = self.passed
        passed = (before if digest == self.active.digest else 0) + clean
        good = self.active if passed >= self.probation else self.good
        return dataclasses.replace(
            self, driving=False, good=good, passed=(self.active.digest, passed)
        )

    def distrust(self) -> Slot:
        """The guard had enough of the active policy: back to the last good one, if another."""
        if self.driving or self.active is None:
            raise IllegalMove("a policy is taken back while an episode runs, or there is none")
        bad = self.active
        good = self.good if self.good is not None and self.good.digest != bad.digest else None
        pending = self.pending
        if pending is not None and pending.digest == bad.digest and pending.epoch <= bad.epoch:
            pending = None
        barred = (*self.barred, (bad.digest, bad.epoch))[-MOST_BARRED:]
        return dataclasses.replace(
            self, active=good, pending=pending, good=good, barred=barred, passed=("", 0)
        )

    def deny(self, digests: frozenset[str]) -> Slot:
        """The fleet forbids these: the running episode ends, no other begins under one of them."""
        pending = None if self.pending and self.pending.digest in digests else self.pending
        good = None if self.good and self.good.digest in digests else self.good
        return dataclasses.replace(self, pending=pending, good=good, denied=digests)

    def withdraw(self) -> Slot:
        """No pending policy any more: what was offered is no longer assigned."""
        return dataclasses.replace(self, pending=None)


MOST_BARRED = 64
"""How many stopped policies are remembered; their assignments age faster than that."""
EMPTY = Slot()
