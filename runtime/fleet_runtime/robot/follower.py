"""The fleet's will, from the broker to the desk: hear, admit, read, fetch, offer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import time
from typing import TYPE_CHECKING

from fleet_contract.errors import Retry, Untrusted
from fleet_contract.messages import Assignment, AssignmentRole, digest_of
from fleet_contract.names import Stream
from fleet_runtime import tracing
from fleet_runtime.robot.assignment import NEVER, Say, Will, admit, read
from fleet_runtime.robot.shadow_slot import ShadowSlot
from fleet_runtime.robot.swap import Slot
from fleet_runtime.tracing import Stage
from fleet_runtime.waiting import event_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import PolicyRef, Verifier
    from fleet_runtime.robot.desk import Desk
    from fleet_runtime.robot.fetch import Library, Memory
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.robot.swap import Loaded
    from fleet_runtime.wire import Wire

    Report = Callable[[PolicyRef | None, int, str, AssignmentRole], None]
    """(policy, assignment epoch, why it was refused, and for what it was meant)."""

log = logging.getLogger(__name__)

_FIRST_PAUSE, _MOST_PAUSE = 0.2, 10.0  # seconds between attempts to fetch a policy


class Follower:
    """Follows the job's assignment document, over losses of broker, store and itself."""

    def __init__(
        self,
        who: Identity,
        wire: Wire,
        library: Library,
        memory: Memory,
        desk: Desk,
        report: Report,
        *,
        poll: float,
        verify: Verifier | None = None,
    ) -> None:
        """`poll`: seconds between two looks at the document, jittered by half."""
        self._who = who
        self._wire = wire
        self._library = library
        self._memory = memory
        self._desk = desk
        self._report = report
        self._poll = poll
        self._verify = verify
        self._wake = asyncio.Event()
        self._look_at = 0.0  # monotonic
        self._heard: bytes | None = None  # newest document not yet followed
        self._heard_at = 0.0  # monotonic
        self._issued_at = 0.0  # Unix seconds, by the operator's clock; for traces only
        self._followed: bytes | None = None
        self._reported: dict[AssignmentRole, str] = {}
        self._pause = _FIRST_PAUSE
        self.fault = ""
        """Why the assigned policy cannot be had yet."""
        self.disbelieved = ""
        """Why the last document was not believed; empty after one that was."""

    async def run(self) -> None:
        """Until cancelled; whatever fails, what drives goes on driving."""
        await self._wire.subscribe(self._who.assignments, self._hear)
        self._wire.on_reconnect(self._look_now)
        while True:
            self._wake.clear()
            wait = 0.0
            try:
                if time.monotonic() >= self._look_at:
                    await self._look()
                if (data := self._heard) is not None:
                    await self._follow(data)
                    if self._heard is data:
                        self._heard = None
                self._pause, self.fault = _FIRST_PAUSE, ""
                wait = max(0.0, self._look_at - time.monotonic())
            except Retry as fault:
                log.info("assignment waits: %s", fault)
                self.fault = str(fault)
                wait = self._pause * random.uniform(0.5, 1.5)  # noqa: S311
                self._pause = min(_MOST_PAUSE, 2 * self._pause)
            await event_within(self._wake, wait)

    def again(self) -> None:
        """The guard took a policy back: see whether the document offers another one."""
        self._heard, self._heard_at = self._heard or self._followed, time.monotonic()
        self._followed = None
        self._wake.set()

    def _look_now(self) -> None:
        self._look_at = 0.0
        self._wake.set()

    async def _look(self) -> None:
        stream = self._who.stream(Stream.CONTROL)
        data = await self._wire.last(stream, self._who.assignments)
        self._look_at = time.monotonic() + self._poll * random.uniform(0.5, 1.5)  # noqa: S311
        if data is not None:
            await self._hear(self._who.assignments, data)

    async def _hear(self, _subject: str, data: bytes) -> None:
        if data == self._followed:
            self.disbelieved = ""
        else:
            if data != self._heard:
                self._heard, self._heard_at = data, time.monotonic()
            self._wake.set()

    async def _follow(self, data: bytes) -> None:
        """Do as a document says. Raises `Retry` where store or disk do not let us yet."""
        try:
            document = Assignment.open(data, self._verify)
            held = self._memory.order or NEVER
            now_ms = time.time_ns() // 1_000_000
            admit(document, job_uid=self._who.job_uid, held=held, now_ms=now_ms)
        except Untrusted as fault:
            self.disbelieved = str(fault)
            self._refuse(None, 0, digest_of(data), str(fault))
            return
        self.disbelieved, self._issued_at = "", document.issued_at_ms / 1000
        await asyncio.to_thread(self._memory.hold, document.order)
        will = read(document, self._who.robot)
        active = self._memory.active
        if active is not None and active.digest in will.denied:
            await asyncio.to_thread(self._memory.drive, None)
        self._desk.change(lambda slot: slot.deny(will.denied))
        self._desk.accompany(lambda slot: slot.deny(will.denied))
        self._desk.close(will.say is Say.STOP)
        if will.say is Say.ADOPT:
            await self._adopt(will, document.epoch)
            await self._accompany(will.shadow, document.epoch)
        else:
            self._desk.change(Slot.withdraw)
            if will.say is Say.STOP:
                self._desk.accompany(ShadowSlot.withdraw)
        self._followed = data

    async def _adopt(self, will: Will, epoch: int) -> None:
        for ref in (will.policy, will.fallback):
            if ref is None:
                continue
            loaded = await self._load(ref, epoch)
            if loaded is not None and self._offer(loaded).next is not None:
                break  # what waits is newer than any fallback
            if self._desk.slot.next is not None:
                break  # something drives: better that than the fallback
        slot, shadow = self._desk.slot, self._desk.shadow
        held = (slot.active, slot.pending, slot.good, shadow.wanted)
        kept = [item.ref for item in held if item is not None]
        await asyncio.to_thread(self._library.keep, kept)

    async def _accompany(self, ref: PolicyRef | None, epoch: int) -> None:
        """The policy to compute beside what drives: fetched alike, and never the same object."""
        wanted = self._desk.shadow.wanted
        if ref is None:
            self._desk.accompany(ShadowSlot.withdraw)
        elif wanted is None or wanted.digest != ref.digest:
            # Also while the new one cannot be had: the fleet no longer asks for the old one.
            self._desk.accompany(ShadowSlot.withdraw)
            loaded = await self._fetch(ref, epoch, AssignmentRole.SHADOW)
            if loaded is not None:
                self._desk.accompany(lambda slot: slot.offer(loaded))

    def _offer(self, loaded: Loaded) -> Slot:
        return self._desk.change(lambda slot: slot.offer(loaded))

    async def _load(self, ref: PolicyRef, epoch: int) -> Loaded | None:
        """The policy, from memory or the store; None where it is refused."""
        slot = self._desk.slot
        for known in (slot.active, slot.pending, slot.good):
            if known is not None and known.digest == ref.digest:
                return dataclasses.replace(known, epoch=epoch)
        return await self._fetch(ref, epoch)

    async def _fetch(
        self, ref: PolicyRef, epoch: int, role: AssignmentRole = AssignmentRole.LIVE
    ) -> Loaded | None:
        if self._desk.slot.bars(ref.digest, epoch):
            return None
        heard = self._heard_at
        try:
            loaded = await asyncio.to_thread(self._library.load, ref, epoch)
            loaded = dataclasses.replace(loaded, heard=heard, fetched=time.monotonic())
        except Untrusted as fault:
            self._refuse(ref, epoch, f"{ref.digest} {epoch}", str(fault), role)
            return None
        of, robot = tracing.of_version(ref.digest), self._who.robot
        for stage, began, ended in (
            (Stage.ASSIGN, loaded.created_at, self._issued_at),
            (Stage.FETCH, tracing.at(heard), time.time()),
        ):
            tracing.tell(stage, of, began, ended, robot=robot, role=role.value, epoch=epoch)
        return loaded

    def _refuse(
        self,
        ref: PolicyRef | None,
        epoch: int,
        once: str,
        reason: str,
        role: AssignmentRole = AssignmentRole.LIVE,
    ) -> None:
        """Tell of a refusal, once: the same document is seen at every poll."""
        if once == self._reported.get(role):
            return
        self._reported[role] = once
        log.warning("refused: %s", reason)
        self._report(ref, epoch, reason, role)
