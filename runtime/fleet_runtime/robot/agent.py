"""A robot agent: the control loop in its own thread, everything that needs a network in this one.

The control thread starts first and from the disk alone; the network side joins when there is a
broker. On SIGTERM the running episode is ended (aborted after the grace), spooled and sent as far
as that goes; what is not sent waits in the spool for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import random
import threading
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import FleetError, Retry, Untrusted
from fleet_contract.messages import TaskTally
from fleet_contract.names import Channel, Signatory, Traffic
from fleet_contract.resources.robot_actor import Link
from fleet_runtime import last_words, trust
from fleet_runtime.artifacts import Store
from fleet_runtime.robot.desk import Desk
from fleet_runtime.robot.fetch import Library, Memory
from fleet_runtime.robot.follower import Follower
from fleet_runtime.robot.granted import Clerk, Granted
from fleet_runtime.robot.guard import Guard, GuardSettings
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.loop import ControlLoop
from fleet_runtime.robot.outbox import Outbox
from fleet_runtime.robot.reports import Reporter, heartbeat
from fleet_runtime.robot.shadow import Shadow
from fleet_runtime.robot.spool import Spool
from fleet_runtime.robot.standing import Standing
from fleet_runtime.robot.tasks import Schedule
from fleet_runtime.robot.uploader import Uploader
from fleet_runtime.traffic import Moved
from fleet_runtime.waiting import event_within
from fleet_runtime.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import PolicyRef, Verifier
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.human import Human
    from fleet_runtime.robot.swap import Loaded
    from fleet_runtime.robot.thinking import Asks, Clock
    from fleet_runtime.settings import RobotSettings

log = logging.getLogger(__name__)

EPISODE_GRACE = 15.0
"""Seconds the running episode may still take after SIGTERM; the pod's grace is 30."""
FLUSH_GRACE = 5.0
"""Seconds to send what is spooled and told before leaving."""
HEARTBEAT = 1.0


class Agent:
    """One robot in one job, from the opening of its spool to its end."""

    def __init__(
        self,
        settings: RobotSettings,
        robot: Robot,
        human: Human | None = None,
        *,
        guard: GuardSettings | None = None,
        start: int = 0,
        clock: Clock | None = None,
        thinker: Asks | None = None,
    ) -> None:
        """`guard` replaces what the spec says; `start` rotates the order of the tasks.

        Raises `Fenced` when the spool is in use.
        """
        spec = settings.spec
        guard = guard or GuardSettings.of(spec.guard)
        self._settings = settings
        self._who = Identity(
            settings.namespace,
            settings.robot,
            settings.robot_uid,
            settings.job,
            settings.job_uid,
        )
        self.desk = Desk()
        self.desk.tally.tasks = {task.name: TaskTally() for task in spec.tasks}
        self._spool = Spool(settings.spool_dir, job_uid=settings.job_uid)
        folder = self._spool.folder
        self._memory = Memory(folder / "memory.json")
        self._standing = Standing(folder / "standing.json")
        self._outbox = Outbox(self._who, folder / "events")
        self._moved = Moved()
        self._granted = (
            Granted(settings.storage_url, settings.robot) if settings.storage_grants else None
        )
        self._store = self._granted or Store(settings.storage_url)
        self._library = Library(
            self._store,
            folder / "policies",
            job_uid=settings.job_uid,
            spec=robot.spec,
            tasks=[task.name for task in spec.tasks if task.weight > 0],
            verify=self._verifier(Signatory.LEARNER),
            metered=spec.link is Link.METERED,
            risk=self._standing.loading,
            received=self._received,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._uploader: Uploader | None = None
        self._follower: Follower | None = None
        self._stop = asyncio.Event()
        self._reporter = Reporter(
            self._who,
            put=self._outbox.put,
            spooled=lambda: self._call(self._spooled),
            distrusted=lambda: self._call(self._distrusted),
        )
        self._control = ControlLoop(
            robot,
            human=human,
            guard=Guard(robot.spec.action_low, robot.spec.action_high, guard),
            shadow=Shadow(robot.spec.action_low, robot.spec.action_high, guard),
            schedule=Schedule({task.name: task.weight for task in spec.tasks}, start=start),
            desk=self.desk,
            spool=self._spool,
            memory=self._memory,
            standing=self._standing,
            report=self._reporter,
            period=1.0 / (spec.control_hz * spec.time_scale),
            experience=spec.experience,
            clock=clock,
            thinker=thinker,
        )

    def stop(self) -> None:
        """End in good order; call it in the event loop's thread."""
        self._stop.set()

    async def run(self) -> bool:
        """Until `stop`; True when everything came to its end in good order, else see the log."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._remember)
        ended = asyncio.Event()
        control = threading.Thread(target=self._drive, args=(ended,), name="control", daemon=True)
        control.start()
        network = asyncio.create_task(self._network())
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, ended)]
        try:
            await asyncio.wait([*waits, network], return_when=asyncio.FIRST_COMPLETED)
            orderly = self._stop.is_set() and not ended.is_set() and not network.done()
            self.desk.stop(EPISODE_GRACE)
            await event_within(ended, EPISODE_GRACE + 3)
            if not network.done() and self._uploader is not None:
                await asyncio.gather(
                    self._uploader.flushed(FLUSH_GRACE), self._outbox.flushed(FLUSH_GRACE)
                )
        finally:
            for task in (*waits, network):
                task.cancel()
            _, fault, *_ = await asyncio.gather(
                asyncio.sleep(0), network, *waits, return_exceptions=True
            )
            self._spool.close()
        if isinstance(fault, Exception):
            log.error("the network side failed", exc_info=fault)
            first = fault.exceptions[0] if isinstance(fault, ExceptionGroup) else fault
            last_words.say(f"the network side failed: {first}")
        if ended.is_set():
            control.join(1.0)  # it said so with its last breath
        return orderly and not control.is_alive()

    def _drive(self, ended: asyncio.Event) -> None:
        try:
            self._control.run()
        except Exception as fault:
            log.exception("the control loop failed")
            last_words.say(f"the control loop failed: {fault!r}")
        finally:
            self._call(ended.set)

    def _remember(self) -> None:
        """Offer what drove before the restart: a robot needs no network to go on.

        Where that ended the program before, or cannot be loaded, the last-known-good one drives.
        """
        active, epoch = self._memory.active, self._memory.epoch
        for dead in self._standing.start():
            self._fell_back(
                dead.policy, dead.epoch, f"the program died {dead.count} times in a row"
            )
        known = self._standing.known
        good = self._recall(known.good.policy, known.good.epoch) if known.good else None
        if active is not None and any(active.digest == digest for digest, _ in known.barred):
            active = None
        if active is None or (good is not None and good.ref == active):
            offered = good and dataclasses.replace(good, epoch=max(good.epoch, epoch))
        else:
            offered = self._recall(active, epoch) or good
        barred = self._standing.known.barred
        self.desk.change(
            lambda slot: dataclasses.replace(
                slot, pending=offered, good=good, passed=known.passed, barred=barred
            )
        )

    def _recall(self, ref: PolicyRef, epoch: int) -> Loaded | None:
        try:
            return self._library.load(ref, epoch)
        except Untrusted as fault:
            self._standing.bar(ref, epoch, str(fault))
            self._fell_back(ref, epoch, str(fault))
        except FleetError as fault:
            log.warning("version %d does not come back: %s", ref.sequence, fault)
        return None

    def _fell_back(self, ref: PolicyRef, epoch: int, why: str) -> None:
        self.desk.tally.fallbacks += 1
        self._reporter.refusal(ref, epoch, why)

    async def _network(self) -> None:
        """Connect, then run the network side until cancelled or the broker turns us away."""
        wire = await Wire.connect(
            self._settings.nats_url,
            f"robot {self._settings.robot}",
            inbox=names.inbox(names.Identity.ROBOT, self._settings.robot),
            credentials=self._settings.nats_credentials,
            authorities=self._settings.nats_ca,
            moved=self._moved,
        )
        poll = self._settings.resync_seconds
        self._uploader = Uploader(
            self._who,
            self._spool,
            wire,
            self._store,
            credit=self._settings.spec.credit,
            poll=poll,
            verify=self._verifier(Signatory.LEARNER),
        )
        self._follower = Follower(
            self._who,
            wire,
            self._library,
            self._memory,
            self.desk,
            self._reporter.refusal,
            poll=poll,
            verify=self._verifier(Signatory.OPERATOR),
        )
        try:
            if self._granted is not None:
                clerk = Clerk(self._who, wire)
                await clerk.listen()
                self._granted.connect(clerk)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._uploader.run())
                group.create_task(self._follower.run())
                group.create_task(self._outbox.run(wire))
                group.create_task(self._beat(wire, self._uploader, self._follower))
                await wire.closed.wait()
                raise Retry(f"the broker at {wire.url} turned us away; see its log")
        finally:
            await wire.close()

    async def _beat(self, wire: Wire, uploader: Uploader, follower: Follower) -> None:
        subject = self._who.subject(Channel.HEARTBEAT)
        while True:
            message = heartbeat(
                self._who,
                self.desk,
                self._moved,
                assignment_epoch=self._memory.order[1] if self._memory.order else 0,
                spool_depth=self._spool.depth,
                spool_free=self._spool.free,
                unreceipted=uploader.unreceipted,
                refusals=self._reporter.refusals,
                records={
                    **uploader.records,
                    "evicted": self._spool.evicted,
                    "lost": self.desk.tally.lost,
                },
                policy_fault=follower.fault,
                document_fault=follower.disbelieved,
                fallback=self._standing.known.fallback,
            )
            with contextlib.suppress(Retry):  # the next one says it all again
                await wire.publish(subject, message.encode())
            await asyncio.sleep(HEARTBEAT * random.uniform(0.5, 1.5))  # noqa: S311

    def _verifier(self, role: Signatory) -> Verifier | None:
        return trust.verifier(self._settings.trust_dir, role)

    def _spooled(self) -> None:
        if self._uploader is not None:
            self._uploader.wake()

    def _distrusted(self) -> None:
        if self._follower is not None:
            self._follower.again()

    def _received(self, kind: Traffic, count: int) -> None:
        self._moved.received[kind] += count

    def _call(self, function: Callable[[], object]) -> None:
        """Run something in the event loop, from the control thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested
                self._loop.call_soon_threadsafe(functools.partial(function))
