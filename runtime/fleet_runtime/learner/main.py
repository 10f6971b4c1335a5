"""The learner program: binds the rooms, runs them, and says by its exit code how it ended.

Exit codes: 0 never (the operator judges the goal and ends the run), 1 a fault that a restart may
heal, 3 a newer learner took over, 78 a fault that only another spec heals, 143 asked to stop
(SIGTERM, SIGINT) and a checkpoint is saved, or left alone by another rank. Of all but 0 and a stop
the log's last line and the container's termination log say why. A store that is away is waited for,
and the heartbeat says so.

Of several ranks the first is all this; the others only compute (see `follower`).

Threads: the event loop (network) in the main one, training in one of its own, and short-lived ones
for whatever blocks on the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from fleet_contract import logs, names
from fleet_contract.errors import Misconfigured, Retry
from fleet_contract.messages import LearnerStage
from fleet_contract.names import Signatory
from fleet_contract.resources.base import seconds
from fleet_runtime import tracing, trust
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import epoch as office
from fleet_runtime.learner.admission import Rules
from fleet_runtime.learner.announce import Pace, Publisher
from fleet_runtime.learner.cancellation import cancel
from fleet_runtime.learner.checkpoint import Checkpointer, Checkpoints
from fleet_runtime.learner.collection import Collector
from fleet_runtime.learner.crew import Meeting
from fleet_runtime.learner.endings import EXIT_STOPPED, ended
from fleet_runtime.learner.follower import follow
from fleet_runtime.learner.handoff import Handoff
from fleet_runtime.learner.loop import train
from fleet_runtime.learner.network import Network
from fleet_runtime.learner.prepare import Parts, prepare
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.publish import Versions
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.settings import LearnerSettings, learner_settings
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleet_runtime.learner.recall import Experience

log = logging.getLogger(__name__)

FENCE_WATCH = 2.0
"""Seconds between two looks for a newer epoch: how long two learners may live without data."""
GRACE = 20.0
"""Seconds that the last update and the last checkpoint may take; a pod has 30."""
SWITCH_INTERVAL = 0.0005
"""Seconds until a busy thread yields. Python's own 5 ms would hold up each of an update's many
small operations while an episode is being judged."""


class Learner:
    """One run of the program."""

    def __init__(self, settings: LearnerSettings) -> None:
        self._settings = settings
        self._uid = settings.job_uid
        self._stop = threading.Event()
        self._asked = asyncio.Event()
        self._handoff = Handoff()
        self._progress = Progress()
        self._metrics = LearnerMetrics(settings.namespace, settings.job)
        self._meeting: Meeting | None = None
        self._rules = Rules(self._uid, frozenset(task.name for task in settings.spec.tasks))

    async def run(self) -> int:
        """Until it is asked to stop or cannot go on; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked.set)
        at = self._settings.bind_address, self._settings.metrics_port
        try:
            stop_metrics = self._metrics.serve(*at)
            try:
                return await self._work(loop)
            finally:
                stop_metrics()
        except Exception as fault:  # noqa: BLE001 - told, with its traceback where it is none of ours
            return ended(fault)
        finally:
            self._stop.set()
            self._handoff.wake()

    async def _work(self, loop: asyncio.AbstractEventLoop) -> int:
        self._settings.demand_credentials()
        try:
            store = Store(self._settings.storage_url)
        except ValueError as fault:
            raise Misconfigured(f"spec.transport.storage.url: {fault}") from fault
        if (ranks := self._settings.spec.replicas) > 1:  # before the claim, which tells where
            self._meeting = Meeting(self._settings.bind_address, ranks)
        epoch = await self._claimed(store)
        if epoch is None:
            return EXIT_STOPPED
        parts = self._parts(store, epoch)
        self._checkpointer = parts.checkpointer
        replayed: asyncio.Future[Experience] = loop.create_future()

        def on_replayed(found: Experience) -> None:
            loop.call_soon_threadsafe(_settle, replayed, found)

        threads = ThreadPoolExecutor(1, thread_name_prefix="train")
        training = loop.run_in_executor(threads, self._train, parts, on_replayed)
        works: list[Coroutine[None, None, None]] = [
            self._network(store).run(parts.publisher, replayed),
            self._checkpointer.run(),
            self._watch(store),
        ]
        tasks: list[asyncio.Future[None]] = [training, *map(asyncio.ensure_future, works)]
        tasks.append(asyncio.ensure_future(self._until_asked()))
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            return await self._leave(training)
        finally:
            self._stop.set()
            self._handoff.wake()
            # Seldom enough for the network's own cancelling to end in between.
            await cancel(tasks[1:], every=GRACE / 4, within=GRACE)
            await asyncio.wait([training], timeout=GRACE)
            threads.shutdown(wait=False, cancel_futures=True)

    async def _until_asked(self) -> None:
        await self._asked.wait()

    async def _leave(self, training: asyncio.Future[None]) -> int:
        log.info("asked to stop; saving a last checkpoint")
        self._progress.stage = LearnerStage.STOPPING
        self._stop.set()
        self._handoff.wake()
        try:
            async with asyncio.timeout(GRACE):
                await training
                await self._checkpointer.flush()
        except TimeoutError:
            log.warning("no last checkpoint within %.0f s; the one before it serves", GRACE)
        return EXIT_STOPPED

    async def _claimed(self, store: Store) -> int | None:
        """Our epoch in a store that lets one claim win; None when asked to stop before it answered.

        Raises:
            ValueError: two learners could both win there; the message says what to do.
        """
        pause = backoff()
        complaint: asyncio.Future[None] | None = None
        try:
            while not self._asked.is_set():
                try:
                    await asyncio.to_thread(store.probe, names.probe_key(self._uid))
                    address = self._meeting.address if self._meeting else ""
                    return await asyncio.to_thread(
                        office.claim, store, self._uid, platform.node(), address
                    )
                except Retry as fault:
                    log.warning("waiting for the store: %s", fault)
                    complaint = complaint or asyncio.ensure_future(self._network(store).complain())
                    await anext(pause)
        finally:
            if complaint is not None:
                await cancel([complaint], every=0.2, within=GRACE / 4)
        return None

    def _train(self, parts: Parts, on_replayed: Callable[[Experience], None]) -> None:
        """The training thread, from the first look at the store to the last update."""
        run = prepare(parts, on_replayed)
        if run is None:
            return
        if self._meeting is not None:
            crew = self._meeting.crew(self._stop)
            if crew is None:
                return
            run.lead(crew, self._stop)
        train(run, self._stop)

    def _parts(self, store: Store, epoch: int) -> Parts:
        settings, config = self._settings, self._settings.spec
        self._progress.epoch = epoch
        checkpoints = Checkpoints(store, self._uid, epoch, config.checkpoint.keep)
        versions = Versions(
            store,
            self._uid,
            epoch,
            config.control_hz,
            config.publish.precision,
            sign=trust.signer(settings.key_file),
            verify=trust.verifier(settings.trust_dir, Signatory.LEARNER),
        )
        return Parts(
            config=config,
            store=store,
            rules=self._rules,
            epoch=epoch,
            checkpoints=checkpoints,
            versions=versions,
            handoff=self._handoff,
            publisher=Publisher(
                versions=versions,
                pace=Pace(config.publish.every_steps, seconds(config.publish.min_interval)),
                progress=self._progress,
                namespace=settings.namespace,
                job=settings.job,
                job_uid=self._uid,
                collector=Collector(store, self._uid, epoch, self._metrics),
                verify=trust.verifier(settings.trust_dir, Signatory.OPERATOR),
            ),
            checkpointer=Checkpointer(checkpoints, seconds(config.checkpoint.interval)),
            progress=self._progress,
            metrics=self._metrics,
            stop=self._stop,
        )

    def _network(self, store: Store) -> Network:
        return Network(
            self._settings, store, self._rules, self._handoff, self._progress, self._metrics
        )

    async def _watch(self, store: Store) -> None:
        while True:
            await asyncio.sleep(FENCE_WATCH)
            with contextlib.suppress(Retry):
                await asyncio.to_thread(office.guard, store, self._uid, self._progress.epoch)


def _settle(replayed: asyncio.Future[Experience], found: Experience) -> None:
    if not replayed.done():
        replayed.set_result(found)


def main() -> int:
    """Run a learner from the environment; the exit code, as told at the top."""
    logs.begin("learner")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # pods share machines: more only where somebody said so
    sys.setswitchinterval(SWITCH_INTERVAL)
    settings = learner_settings()
    whose = {"namespace": settings.namespace, "job": settings.job}
    logs.bind(**whose, rank=settings.rank)
    log.info("learner of %s/%s (%s)", settings.namespace, settings.job, settings.job_uid)
    if settings.rank:
        return _follow(settings)
    tracing.begin("learner", **whose)
    code = asyncio.run(_run(settings))
    tracing.end()
    return code


async def _run(settings: LearnerSettings) -> int:
    return await Learner(settings).run()


def _follow(settings: LearnerSettings) -> int:
    """Until the first rank ends, or this one is asked to."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics = LearnerMetrics(settings.namespace, settings.job)
    stop_metrics = metrics.serve(settings.bind_address, settings.metrics_port)
    try:
        follow(settings, stop)
    except Exception as fault:  # noqa: BLE001 - as above
        return ended(fault)
    finally:
        stop_metrics()
    return EXIT_STOPPED
