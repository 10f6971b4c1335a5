"""A policy computes what it would do beside the one that drives, and never touches the robot.

The acting policy answers first and alone. Then the control thread hands over what it saw and
answered and goes on at once; one worker thread asks the shadow the same, with the same noise, while
the robot executes. Whatever the shadow does, raise, hang or answer NaN, ends in a count: a chunk
for which it is not free is skipped, an answer that comes after the episode's end is not heard.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.messages import Shadowed
from fleet_runtime.robot.episode import answer
from fleet_runtime.robot.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_runtime.experience.types import Float
    from fleet_runtime.robot.env import Observation
    from fleet_runtime.robot.guard import GuardSettings
    from fleet_runtime.robot.swap import Loaded

log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds a last inference may take when the program ends; the thread dies with it anyway."""


class Bounds:
    """Of an action, (A,) each."""

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        half = (self.high - self.low) / 2
        self._half = np.where(half > 0, half, 1)  # what cannot move cannot differ

    def disagreement(self, one: Float, other: Float) -> float:
        """Of two plans (n A), over the steps both have: mean |difference| in halves of the range.

        What is out of bounds stands at its bound: that it would trip is counted elsewhere.
        """
        steps = min(len(one), len(other))
        first, second = (np.clip(plan[:steps], self.low, self.high) for plan in (one, other))
        return float(np.mean(np.abs(first - second) / self._half))


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What the shadow is asked, and what it is compared with."""

    seen: Observation
    did: Float | None  # (n, A) what the acting policy, or a person, wanted; None: nothing sound
    seed: int = 0
    human: bool = False


class Account:
    """What became of one episode's questions. The worker writes it, under the shadow's lock."""

    def __init__(
        self, loaded: Loaded, acting: Loaded, task: str, bounds: Bounds, guard: Guard
    ) -> None:
        self.loaded, self.acting = loaded, acting
        self._task, self._bounds, self._guard = task, bounds, guard
        self.skipped = 0
        self.slowest: float | None = None  # seconds
        self.watched = 0  # frames under a person's control
        self._chunks: list[float] = []
        self._human: list[float] = []

    @property
    def detail(self) -> str:
        """Why the guard tripped first."""
        return self._guard.reasons[0] if self._guard.reasons else ""

    def think(self, asked: Asked) -> tuple[Float | Exception, float]:
        """Its chunk (H, A), or its fault; and the seconds it took."""
        policy, began = self.loaded.policy, time.monotonic()
        try:
            policy.seed(asked.seed)
            ids = np.array([policy.spaces.task_id(self._task)])
            chunk = np.asarray(answer(policy, [asked.seen], ids)[0], np.float32)
        except Exception as fault:  # noqa: BLE001 - a policy's fault is never the robot's
            return fault, time.monotonic() - began
        return chunk, time.monotonic() - began

    def enter(self, asked: Asked, said: Float | Exception, took: float) -> None:
        """One answer, as the guard would have taken it."""
        self.slowest = max(self.slowest or 0.0, took)
        guard, trips = self._guard, self._guard.episode_trips
        if isinstance(said, Exception):
            guard.trip(f"the policy failed: {said!r}"[:200])
            return
        # Its first action may be far from the robot's last one, which is not its own: that is
        # disagreement, no jump.
        guard.rest()
        guard.chunk(said)
        plan = said[: self.loaded.policy.execute]
        if guard.episode_trips > trips or not len(plan):
            return  # what is held instead is no answer of its own
        for action in plan:
            guard.action(action, by_policy=True)
        if asked.did is not None:
            seen = self._human if asked.human else self._chunks
            seen.append(self._bounds.disagreement(plan, asked.did))

    def told(self) -> Shadowed:
        """In the contract's words."""
        return Shadowed(
            acted=self.acting.ref,
            chunks=len(self._chunks),
            skipped=self.skipped,
            disagreement=float(np.mean(self._chunks)) if self._chunks else None,
            most=max(self._chunks, default=None),
            trips={str(kind): count for kind, count in self._guard.kinds.items()},
            human_frames=len(self._human),
            human_disagreement=float(np.mean(self._human)) if self._human else None,
        )


class Shadow:
    """The control thread's end. No method of it waits for the shadow, none raises its faults."""

    def __init__(
        self, low: Sequence[float], high: Sequence[float], settings: GuardSettings | None = None
    ) -> None:
        """As the guard's own: a shadow is held to the same bounds, (A,) each."""
        self._bounds = Bounds(low, high)
        self._settings = settings
        self._changed = threading.Condition()
        self._account: Account | None = None
        self._asked: tuple[Account, Asked] | None = None  # while the worker is busy
        self._worker: threading.Thread | None = None
        self._closed = False

    def begin(self, loaded: Loaded | None, acting: Loaded, task: str) -> None:
        """An episode begins; `loaded` computes beside `acting`, None: nobody does."""
        if loaded is None:
            return
        bounds = self._bounds
        guard = Guard(bounds.low.tolist(), bounds.high.tolist(), self._settings)
        account = Account(loaded, acting, task, bounds, guard)
        with self._changed:
            try:
                if self._worker is None:
                    worker = threading.Thread(target=self._work, name="shadow", daemon=True)
                    worker.start()
                    self._worker = worker
            except RuntimeError as fault:  # no thread is to be had
                log.warning("version %d does not compute: %s", loaded.ref.sequence, fault)
                return
            self._account = account

    def seed(self) -> int | None:
        """The noise of the next chunk, for both policies; None where nobody computes beside."""
        return None if self._account is None else secrets.randbits(31)

    def ask(self, asked: Asked) -> None:
        """Hand over one chunk's question, or count it as skipped."""
        with self._changed:
            if self._account is None:
                return
            if self._asked is not None:
                self._account.skipped += not asked.human
                return
            self._asked = self._account, asked
            self._changed.notify()

    def person(self, seen: Observation, did: Float) -> None:
        """A person did this (A,), seeing that: now and then the shadow is asked for its own."""
        account = self._account
        if account is None:
            return
        account.watched += 1
        if account.watched % account.loaded.policy.execute == 1 % account.loaded.policy.execute:
            self.ask(Asked(seen, did[None], secrets.randbits(31), human=True))

    def end(self) -> Account | None:
        """The episode is over: its account, closed. Nothing that comes later is entered."""
        with self._changed:
            account, self._account = self._account, None
            if account is not None and self._asked is not None:
                late, asked = self._asked
                account.skipped += late is account and not asked.human
            return account

    def close(self) -> None:
        """The program ends."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._worker is not None:
            self._worker.join(GRACE)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked is not None or self._closed)
                if self._asked is None:
                    return
                account, asked = self._asked
            said, took = account.think(asked)
            with self._changed:
                self._asked = None
                if account is self._account:
                    account.enter(asked, said, took)
