"""``python -m fleet_runtime.clerk``: lets a job's robots into its object store, one request at a
time, so that none of them holds a key of it.

It works whether or not a learner does: a robot that begins anew needs its policy also while the
job is suspended, or when its goal was reached. It keeps nothing, and two of them do no harm.

Exit codes: 78 for a configuration that another try will not cure, 143 when asked to stop, 1 when
the broker turned it away.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING

from fleet_contract import logs, names
from fleet_contract.agents import EXIT_REFUSED
from fleet_contract.errors import FleetError, Reject, Retry
from fleet_contract.messages import Ask, Grant
from fleet_contract.metrics import Letting
from fleet_contract.names import Channel, Identity
from fleet_runtime import last_words
from fleet_runtime.artifacts import Store
from fleet_runtime.clerk.desk import Desk
from fleet_runtime.clerk.pace import TooOften
from fleet_runtime.metrics import ClerkMetrics
from fleet_runtime.settings import clerk_settings
from fleet_runtime.wire import Wire

if TYPE_CHECKING:
    from fleet_runtime.settings import ClerkSettings

log = logging.getLogger(__name__)


def main() -> None:
    """Run until asked to stop."""
    logs.begin("clerk")
    settings = clerk_settings()
    logs.bind(namespace=settings.namespace, job=settings.job)
    try:
        settings.demand_credentials()
        store = Store(settings.storage_url)
    except ValueError as fault:
        log.error("configuration: %s", fault)  # noqa: TRY400
        last_words.say(str(fault))
        sys.exit(EXIT_REFUSED)
    sys.exit(asyncio.run(run(settings, store)))


async def run(settings: ClerkSettings, store: Store) -> int:
    """Answer until a signal ends it; the exit code."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    serving = asyncio.create_task(serve(settings, store))
    stop = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            return 128 + signal.SIGTERM
        fault = serving.exception()
        log.error("%s", fault)
        last_words.say(str(fault))
        return 1
    finally:
        for task in (serving, stop):
            task.cancel()
        await asyncio.gather(serving, stop, return_exceptions=True)


async def serve(settings: ClerkSettings, store: Store) -> None:
    """Answer until cancelled. Raises `Retry` when the broker turned us away for good."""
    desk = Desk(store, settings.job_uid)
    metrics = ClerkMetrics(settings.namespace, settings.job)
    wire = await Wire.connect(
        settings.nats_url,
        f"clerk {settings.namespace}/{settings.job}",
        inbox=names.inbox(Identity.CLERK, settings.job),
        credentials=settings.nats_credentials,
        authorities=settings.nats_ca,
    )

    async def answer(subject: str, data: bytes) -> None:
        robot = names.robot_of(subject)
        try:
            ask = Ask.decode(data)
        except Reject as fault:
            log.warning("robot %s: %s", robot, fault)
            return
        began = time.monotonic()
        try:
            grant, result = await asyncio.to_thread(desk.grant, robot, ask), Letting.GRANTED
        except (Reject, Retry) as fault:
            grant, result = Grant(id=ask.id, fault=str(fault)), _why(fault)
            if not isinstance(fault, TooOften) or fault.news:
                log.warning("robot %s is let into nothing: %s", robot, fault)
        metrics.seconds().observe(time.monotonic() - began)
        metrics.grants("create" if ask.digest else "get", result.value).inc()
        to = names.robot_subject(settings.namespace, robot, settings.job, Channel.GRANT)
        try:
            await wire.publish(to, grant.encode())
        except Retry as fault:
            log.info("robot %s has to ask again: %s", robot, fault)

    stop_metrics = metrics.serve(settings.bind_address, settings.metrics_port)
    try:
        every = names.robot_subject(settings.namespace, "*", settings.job, Channel.ASK)
        await wire.subscribe(every, answer)
        log.info("at work")
        await wire.closed.wait()
        raise Retry(f"the broker at {wire.url} turned us away; see its log")
    finally:
        stop_metrics()
        await wire.close()


def _why(fault: FleetError) -> Letting:
    if isinstance(fault, TooOften):
        return Letting.TOO_OFTEN
    return Letting.REFUSED if isinstance(fault, Reject) else Letting.UNAVAILABLE
