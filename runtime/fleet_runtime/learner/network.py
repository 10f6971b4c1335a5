"""The learner's side towards the broker: experience in, versions and heartbeats out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.names import Identity
from fleet_runtime import trust
from fleet_runtime.learner.cancellation import cancel, demand_wanted
from fleet_runtime.learner.ingest import Ingest
from fleet_runtime.learner.progress import Reporter
from fleet_runtime.wire import Wire

if TYPE_CHECKING:
    from fleet_runtime.artifacts import Store
    from fleet_runtime.learner.admission import Rules
    from fleet_runtime.learner.announce import Publisher
    from fleet_runtime.learner.handoff import Handoff
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.learner.recall import Experience
    from fleet_runtime.metrics import LearnerMetrics
    from fleet_runtime.settings import LearnerSettings

HEARTBEAT = 1.0
"""Seconds between heartbeats."""
PATIENCE = 5.0
"""Seconds that its tasks may take to end."""


@dataclasses.dataclass(frozen=True)
class Network:
    """Everything that needs the broker; training on what there is goes on without it."""

    settings: LearnerSettings
    store: Store
    rules: Rules
    handoff: Handoff
    progress: Progress
    metrics: LearnerMetrics

    async def run(self, publisher: Publisher, replayed: asyncio.Future[Experience]) -> None:
        """Until cancelled; takes experience in once the journal was replayed.

        Raises `Fenced`, and `Retry` where the broker turned us away for good.
        """
        wire = await self._connect()
        tasks = [asyncio.ensure_future(work) for work in (self._beat(wire), self._left(wire))]
        try:
            demand_wanted()
            journal, ledger, library = await replayed
            ingest = Ingest(
                wire=wire,
                store=self.store,
                journal=journal,
                ledger=ledger,
                library=library,
                rules=self.rules,
                handoff=self.handoff,
                progress=self.progress,
                metrics=self.metrics,
                namespace=self.settings.namespace,
                job=self.settings.job,
                epoch=self.progress.epoch,
                sign=trust.signer(self.settings.key_file),
            )
            tasks += map(asyncio.ensure_future, (publisher.run(wire), ingest.run()))
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            await cancel(tasks, every=0.2, within=PATIENCE)
            await wire.close()

    async def complain(self) -> None:
        """Only heartbeats, until cancelled: they tell of a store that is away."""
        wire = await self._connect()
        try:
            await self._beat(wire)
        finally:
            await wire.close()

    async def _connect(self) -> Wire:
        name = f"learner {self.settings.namespace}/{self.settings.job}"
        return await Wire.connect(
            self.settings.nats_url,
            name,
            inbox=names.inbox(Identity.LEARNER, self.settings.job),
            credentials=self.settings.nats_credentials,
            authorities=self.settings.nats_ca,
            moved=self.progress.moved,
        )

    async def _left(self, wire: Wire) -> None:
        await wire.closed.wait()
        raise Retry(f"the broker at {wire.url} turned us away; see its log")

    async def _beat(self, wire: Wire) -> None:
        subject = names.learner_heartbeat_subject(self.settings.namespace, self.settings.job)
        reporter = Reporter(
            self.progress, self.metrics, self.rules.job_uid, lambda: self.store.trouble
        )
        while True:
            await asyncio.sleep(HEARTBEAT)
            with contextlib.suppress(Retry):  # the next one tells the same
                await wire.publish(subject, reporter.beat(time.monotonic()).encode())
