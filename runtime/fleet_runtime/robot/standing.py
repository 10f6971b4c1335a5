"""Which policies this robot can trust, on its disk: what may end the program is counted before.

A death that leaves no trace (kill -9, out of memory, a crash in native code, a power cut) leaves
its count here. What has died `DEATHS` times in a row is barred at the next start, like one that the
guard stopped: only an assignment newer than that brings it back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from fleet_contract.errors import Retry
from fleet_contract.messages import Digest, Fallback, PolicyRef, Wire
from fleet_runtime.robot.files import write_whole
from fleet_runtime.robot.swap import MOST_BARRED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet_runtime.robot.swap import Slot

log = logging.getLogger(__name__)

DEATHS = 2
"""Deaths of the program in a row, while it loaded a policy or drove one on probation."""


class Named(Wire):
    """A policy, and the epoch of the assignment that gave it."""

    policy: PolicyRef
    epoch: int


class Risked(Named):
    """One that may end the program, or has."""

    count: int


class Known(Wire):
    """All that is remembered, at one moment."""

    good: Named | None = None
    passed: tuple[str, int] = ("", 0)
    barred: tuple[tuple[Digest, int], ...] = ()
    risked: tuple[Risked, ...] = ()
    fallback: Fallback | None = None

    def risk(self, policy: PolicyRef, epoch: int) -> Known:
        """One more death of the program is this policy's, unless `survive` says otherwise."""
        before = next((one.count for one in self.risked if one.policy == policy), 0)
        now = Risked(policy=policy, epoch=epoch, count=before + 1)
        return self.model_copy(update={"risked": (*self.survive(policy).risked, now)})

    def survive(self, policy: PolicyRef) -> Known:
        """The program lives."""
        left = tuple(one for one in self.risked if one.policy != policy)
        return self.model_copy(update={"risked": left})

    def loaded(self, policy: PolicyRef) -> Known:
        """It was loaded without harm, which says nothing of how it drives."""
        left = tuple(
            one.model_copy(update={"count": one.count - (one.policy == policy)})
            for one in self.risked
        )
        return self.model_copy(update={"risked": tuple(one for one in left if one.count)})

    def slot(self, slot: Slot) -> Known:
        """As the robot's slot is now."""
        good = slot.good and Named(policy=slot.good.ref, epoch=slot.good.epoch)
        found = {"good": good, "passed": slot.passed, "barred": slot.barred}
        return self.model_copy(update=found)

    def bar(self, policy: PolicyRef, epoch: int, why: str) -> Known:
        """Not this one again; it is no last-known-good either."""
        barred = (*self.barred, (policy.digest, epoch))[-MOST_BARRED:]
        return self.survive(policy).model_copy(
            update={
                "barred": barred,
                "good": None if self.good and self.good.policy == policy else self.good,
                "fallback": Fallback(policy=policy, why=why),
            }
        )


class Started(NamedTuple):
    """What a start finds."""

    known: Known
    dead: tuple[Risked, ...] = ()  # barred now


def start(known: Known) -> Started:
    """A program begins, and some that were before it may have died. Pure."""
    dead = tuple(one for one in known.risked if one.count >= DEATHS)
    if known.risked:
        known = known.model_copy(update={"passed": ("", 0)})
    for one in dead:
        known = known.bar(one.policy, one.epoch, f"the program died {one.count} times in a row")
    return Started(known, dead)


class Standing:
    """The file. Both threads write."""

    def __init__(self, path: Path) -> None:
        """Read the file, where there is one; a garbled one counts as none."""
        self._path = path
        self._guard = threading.Lock()
        self._behind = False  # the disk did not take the last change
        self.known = Known()
        try:
            self.known = Known.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            pass
        except ValidationError as fault:
            log.error("%s is unreadable (%s); no policy is known to be good", path, fault)  # noqa: TRY400

    def start(self) -> tuple[Risked, ...]:
        """Call it once, before anything is loaded: the policies that are barred from now on."""
        found = start(self.known)
        self._change(lambda _: found.known)
        return found.dead

    @contextlib.contextmanager
    def driving(self, policy: PolicyRef, epoch: int) -> Iterator[None]:
        """One on probation drives. Raises `Retry`, before it does, when that cannot be written."""
        if not self._change(lambda known: known.risk(policy, epoch)):
            self._change(lambda known: known.survive(policy))
            raise Retry(f"{self._path} cannot be written: no policy on probation drives; free it")
        try:
            yield
        finally:
            self._change(lambda known: known.survive(policy))

    @contextlib.contextmanager
    def loading(self, policy: PolicyRef, epoch: int) -> Iterator[None]:
        """A policy is built; a full disk is in nobody's way."""
        self._change(lambda known: known.risk(policy, epoch))
        try:
            yield
        finally:
            self._change(lambda known: known.loaded(policy))

    def keep(self, slot: Slot) -> None:
        """Remember what the slot says."""
        self._change(lambda known: known.slot(slot))

    def bar(self, policy: PolicyRef, epoch: int, why: str) -> None:
        """Not this one again."""
        self._change(lambda known: known.bar(policy, epoch, why))

    def _change(self, move: Callable[[Known], Known]) -> bool:
        """Whether it is on the disk now; what is not goes there with the next change."""
        with self._guard:
            known = move(self.known)
            if known == self.known and not self._behind:
                return True
            self.known, self._behind = known, True
            try:
                write_whole(self._path, known.model_dump_json(by_alias=True).encode())
            except OSError as fault:
                log.warning("%s: %s; only a restart would miss it", self._path, fault)
            else:
                self._behind = False
            return not self._behind
