"""A robot's control loop with nobody to talk to: its real parts, and what it would have told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from fleet_contract.messages import Event, EventKind, PolicyRef, digest_of
from fleet_runtime.robot.desk import Desk
from fleet_runtime.robot.fetch import Memory
from fleet_runtime.robot.guard import Guard, GuardSettings
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.loop import ControlLoop
from fleet_runtime.robot.reports import Reporter
from fleet_runtime.robot.shadow import Shadow
from fleet_runtime.robot.spool import Spool
from fleet_runtime.robot.standing import Standing
from fleet_runtime.robot.swap import Loaded
from fleet_runtime.robot.tasks import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet_contract.resources.experience import Experience
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.human import Human
    from fleet_runtime.robot.thinking import Asks, Clock

PATIENCE = 60.0  # seconds


def loaded(sequence: int, policy: Policy, epoch: int = 1) -> Loaded:
    """A version as if it had been fetched."""
    digest = digest_of(str(sequence).encode())
    ref = PolicyRef(sequence=sequence, digest=digest, uri=f"v{sequence}")
    return Loaded(ref, policy, epoch)


class Alone:
    """Runs in a thread from `with` on; `until` waits for episodes that ended."""

    def __init__(
        self,
        folder: Path,
        robot: Robot,
        *,
        hz: float,
        human: Human | None = None,
        guard: GuardSettings | None = None,
        patience: float = PATIENCE,
        clock: Clock | None = None,
        thinker: Asks | None = None,
        hear: Callable[[Event], None] | None = None,
        until: Callable[[], bool] = lambda: False,
        experience: Experience | None = None,
    ) -> None:
        """`hear` is told each event in the control thread, in place of `events`; `until` is asked
        after each, and ends the loop."""
        self._hear, self._until = hear, until
        self._patience = patience
        who = Identity("default", "r0", "robot-uid", "job", "uid-1")
        self.events: list[Event] = []
        self.hz: list[float] = []
        self._news = threading.Condition()
        self.spool = Spool(folder, job_uid="uid-1")
        self.desk = Desk()
        low, high = robot.spec.action_low, robot.spec.action_high
        loop = ControlLoop(
            robot,
            human=human,
            guard=Guard(low, high, guard),
            shadow=Shadow(low, high, guard),
            schedule=Schedule(dict.fromkeys(robot.spec.tasks, 1.0)),
            desk=self.desk,
            spool=self.spool,
            memory=Memory(folder / "memory.json"),
            standing=Standing(folder / "standing.json"),
            report=Reporter(who, put=self._put, spooled=lambda: None, distrusted=lambda: None),
            period=1 / hz,
            experience=experience,
            clock=clock,
            thinker=thinker,
        )
        self._thread = threading.Thread(target=loop.run, name="control")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.desk.stop(0)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self.spool.close()

    def of(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]

    def until(self, episodes: int, kind: EventKind = EventKind.OUTCOME) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.of(kind)) >= episodes, self._patience)

    def first(self, kind: EventKind, like: Callable[[Event], object]) -> Event:
        """The first such event that is like this, once it was told."""

        def found() -> Event | None:
            return next((event for event in self.of(kind) if like(event)), None)

        with self._news:
            event = self._news.wait_for(found, self._patience)
        assert event is not None, f"no such {kind} among {self.of(kind)}"
        return event

    def ended(self, seconds: float) -> None:
        """The loop has ended by itself."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()

    def _put(self, event: Event) -> None:
        if self._hear is not None:
            self._hear(event)
            if self._until():
                self.desk.stop(0)
            return
        with self._news:
            self.events.append(event)
            if event.kind is EventKind.OUTCOME:
                self.hz.append(self.desk.tally.control_hz)
            self._news.notify_all()
