"""Where the control thread and the network thread meet: one slot, a few facts, one condition."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING

from fleet_contract.messages import RobotState, TaskTally, Uptake
from fleet_runtime.robot.shadow_slot import ALONE, ShadowSlot
from fleet_runtime.robot.swap import EMPTY, Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.robot.swap import Loaded


@dataclasses.dataclass
class Tally:
    """What the control thread tells; written there only, read anywhere."""

    state: RobotState = RobotState.STARTING
    task: str = ""
    episodes: int = 0
    successes: int = 0
    interventions: int = 0  # episodes with at least one human frame
    lost: int = 0  # episodes that could not be spooled
    spool_fault: str = ""  # why the last one could not
    control_hz: float = 0.0  # achieved in the last episode, steps per second of wall time
    tasks: dict[str, TaskTally] = dataclasses.field(default_factory=dict)  # replaced as a whole
    guard_trips: int = 0
    fallbacks: int = 0  # policies that the robot stopped by itself
    uptake: Uptake | None = None  # of the last newer version that the network brought
    policy_latency: float | None = None  # seconds from the making of a version to its first episode


class Desk:
    """Safe to use from both threads."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._changed = threading.Condition()
        self._slot = EMPTY
        self._shadow = ALONE
        self._closed = False
        self._deadline: float | None = None  # monotonic; set once, when the program is to end

    @property
    def slot(self) -> Slot:
        """As it is now."""
        return self._slot

    def change(self, move: Callable[[Slot], Slot]) -> Slot:
        """Apply a pure move and wake whoever waits; the slot after it."""
        with self._changed:
            self._slot = move(self._slot)
            self._changed.notify_all()
            return self._slot

    @property
    def shadow(self) -> ShadowSlot:
        """What computes beside the policy that drives, as it is now."""
        return self._shadow

    def accompany(self, move: Callable[[ShadowSlot], ShadowSlot]) -> ShadowSlot:
        """Apply a pure move to the shadow's slot; nobody waits for one."""
        with self._changed:
            self._shadow = move(self._shadow)
            return self._shadow

    def close(self, closed: bool) -> None:
        """Closed: no episode begins until it is opened again."""
        with self._changed:
            self._closed = closed
            self._changed.notify_all()

    def stop(self, grace: float) -> None:
        """End after the running episode, which is aborted `grace` seconds from now."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + grace
            self._changed.notify_all()

    @property
    def stopping(self) -> bool:
        """No further episode begins."""
        return self._deadline is not None

    @property
    def overdue(self) -> bool:
        """The running episode has to be aborted."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def begin(self, resting: Callable[[], None]) -> tuple[Loaded, bool] | None:
        """Begin an episode: its policy, and whether that is another than before.

        Waits while there is none, after calling `resting` once. None: the program is to end.
        """
        if not self._may_begin() and not self.stopping:
            resting()  # not under the lock: a real robot takes its time to come to rest
        with self._changed:
            while not self._may_begin() and not self.stopping:
                self.tally.state = (
                    RobotState.PAUSED if self._closed else RobotState.WAITING_FOR_POLICY
                )
                self._changed.wait()
            if self.stopping:
                return None
            before = self._slot.active
            self._slot = self._slot.begin()
            active = self._slot.active
            assert active is not None  # noqa: S101 - begin raises rather than give none
            return active, before is None or before.digest != active.digest

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the program is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopping, seconds)

    def _may_begin(self) -> bool:
        return not self._closed and self._slot.next is not None
