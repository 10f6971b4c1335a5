"""The publisher: offers from the training thread become announced versions, one at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from fleet_contract import logs, names
from fleet_contract.errors import Reject, Retry, Untrusted
from fleet_contract.messages import Announcement, Assignment, Kept
from fleet_contract.names import Stream, Traffic
from fleet_runtime import tracing
from fleet_runtime.tracing import Stage
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from fleet_contract.messages import PolicyRef, Verifier
    from fleet_runtime.learner.collection import Collector
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.learner.publish import Snapshot, Version, Versions
    from fleet_runtime.wire import Wire

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pace:
    """When a version is due. Pure."""

    every_steps: int
    min_interval: float  # seconds

    def due(self, steps: int, elapsed: float, *, first: bool) -> bool:
        """`steps` updates and `elapsed` s after the last version; the first one is due at once."""
        return first or (steps >= self.every_steps and elapsed >= self.min_interval)


class Publisher:
    """Publishes in the background what the training thread offers, one version at a time."""

    def __init__(
        self,
        *,
        versions: Versions,
        pace: Pace,
        progress: Progress,
        namespace: str,
        job: str,
        job_uid: str,
        collector: Collector | None = None,
        verify: Verifier | None = None,
    ) -> None:
        """`collector` removes what no version needs that the operator keeps, as `verify` finds."""
        self._job_uid = job_uid
        self._collector = collector
        self._verify = verify
        self._kept = names.kept_subject(namespace, job)
        self._versions = versions
        self._pace = pace
        self._progress = progress
        self._subject = names.announce_subject(namespace, job)
        self._assigned = names.assign_subject(namespace, job)
        self._stream = names.stream(job_uid, Stream.CONTROL)
        self._loop = asyncio.get_running_loop()
        self._offered = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._parent: int | None = None
        self._last_step = 0
        self._last_time = self._before = 0.0  # monotonic, of the last two offers
        self._first = True
        self.busy = False

    def resume(self, last: Version | None, step: int) -> None:
        """Start counting at this step; the first version is due at once unless there is one."""
        self._first, self._last_step = last is None, step
        self._parent = last.ref.sequence if last else None

    def due(self, step: int, now: float) -> bool:
        """Whether to offer a snapshot now (monotonic seconds); cheap, from the training thread."""
        elapsed = now - self._last_time
        steps = step - self._last_step
        return not self.busy and self._pace.due(steps, elapsed, first=self._first)

    def offer(self, snapshot: Snapshot, now: float) -> None:
        """Hand over a snapshot; from the training thread, when `due`."""
        self.busy, self._first = True, False
        self._before = self._last_time or now
        self._last_step, self._last_time, self._snapshot = snapshot.step, now, snapshot
        self._loop.call_soon_threadsafe(self._offered.set)

    async def run(self, wire: Wire) -> None:
        """Until cancelled; start it once the versions were recovered.

        Raises `Fenced`, and FleetError for weights that are not finite.
        """
        await self._announce_unheard(wire)
        while True:
            await self._offered.wait()
            self._offered.clear()
            if (snapshot := self._snapshot) is None:
                continue
            version = await self._stored(snapshot, await self._at_work(wire))
            await self._announce(wire, version, snapshot.metrics, self._parent)
            if tracing.active():
                self._trace(version, snapshot)
            await self._collect(wire)
            if self._snapshot is snapshot:
                self._snapshot, self.busy = None, False

    def _trace(self, version: Version, snapshot: Snapshot) -> None:
        of, offered, now = tracing.of_version(version.ref.digest), self._last_time, time.time()
        made, began = tracing.at(offered), tracing.at(self._before)
        lived = [(tracing.of_episode(episode_id), since) for episode_id, since in snapshot.fresh]
        links = [episode for episode, _ in lived]
        about = {"version": version.ref.sequence, "step": snapshot.step}
        tracing.tell(Stage.VERSION, of, began, now, links=links, **about)
        tracing.tell(Stage.PUBLISH, of, made, now, bytes=version.manifest.size)
        for episode, since in lived:
            tracing.tell(Stage.TRAIN, episode, since, made, links=[of], **about)

    async def _at_work(self, wire: Wire) -> list[PolicyRef]:
        """What the fleet was last assigned, as far as that can be known: it only saves bytes."""
        try:
            data = await wire.last(self._stream, self._assigned)
            document = Assignment.open(data) if data is not None else None
        except (Retry, Untrusted) as fault:
            log.debug("deltas from the parent alone: %s", fault)
            return []
        if document is None:
            return []
        tried = [rule.manifest for rule in document.rules]
        return [*([document.default] if document.default else []), *reversed(tried)]

    async def _collect(self, wire: Wire) -> None:
        """Between two publications: of one that is under way no manifest tells yet."""
        now = time.monotonic()
        if self._collector is None or not self._collector.due(now):
            return
        try:
            data = await wire.last(self._stream, self._kept)
            if data is None:
                return
            kept = Kept.open(data, self._verify)
            if kept.job_uid == self._job_uid:
                await asyncio.to_thread(self._collector.collect, kept, now)
        except (Retry, Untrusted) as fault:
            log.warning("what no version needs stays in the store: %s", fault)

    async def _stored(self, snapshot: Snapshot, at_work: list[PolicyRef]) -> Version:
        pause = backoff()
        while True:
            try:
                return await asyncio.to_thread(self._versions.publish, snapshot, at_work)
            except Retry as fault:
                log.warning("version of step %d waits for the store: %s", snapshot.step, fault)
                await anext(pause)

    async def _announce_unheard(self, wire: Wire) -> None:
        """Announce the newest version if the control stream does not know it."""
        pause = backoff()
        while True:
            try:
                data = await wire.last(self._stream, self._subject)
                break
            except Retry as fault:
                log.warning("the last announcement cannot be read yet: %s", fault)
                await anext(pause)
        heard = 0
        if data is not None:
            try:
                heard = Announcement.decode(data).policy.sequence
            except Reject as fault:
                log.warning("the last announcement is unreadable: %s", fault)
        last = self._versions.last
        self._versions.floor = max(self._versions.floor, heard)
        if last is not None and heard < last.ref.sequence:
            await self._announce(wire, last, {}, None)

    async def _announce(
        self, wire: Wire, version: Version, metrics: dict[str, float], parent: int | None
    ) -> None:
        manifest = version.manifest
        size, small = manifest.size, version.delta_size
        announcement = Announcement(
            job_uid=manifest.job_uid,
            learner_epoch=manifest.learner_epoch,
            policy=version.ref,
            parent=parent,
            step=manifest.step,
            size=size,
            delta_size=small,
            metrics=metrics,
            lineage=manifest.lineage,
            published_at=time.time(),
        )
        pause = backoff()
        while True:
            try:
                if self._versions.sign is not None:
                    announcement = announcement.sealed(self._versions.sign)
                await wire.store(self._subject, announcement.encode(), stream=self._stream)
                break
            except Retry as fault:
                log.warning("version %d waits to be announced: %s", manifest.sequence, fault)
                await anext(pause)
        self._parent = manifest.sequence
        self._progress.published = manifest.sequence
        logs.bind(version=manifest.sequence)
        self._progress.moved.sent[Traffic.POLICY] += size
        self._progress.moved.sent[Traffic.DELTA] += sum(delta.size for delta in manifest.deltas)
        log.info(
            "version %d of step %d is out, %d bytes, %s as a delta",
            manifest.sequence,
            manifest.step,
            size,
            "none" if small is None else small,
        )
