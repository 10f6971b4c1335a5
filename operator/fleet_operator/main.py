"""The operator's process: kopf watches, one queue works, the inbox listens."""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import kopf

from fleet_contract import logs, names
from fleet_contract.errors import FleetError, Retry
from fleet_contract.names import Kind, Label
from fleet_operator import metrics
from fleet_operator.bus import Bus
from fleet_operator.certificates import Broker, Certificates
from fleet_operator.cluster import Cluster
from fleet_operator.decide.deliveries import Deliveries
from fleet_operator.handlers import endings, robot_actor, telling, training_job
from fleet_operator.handlers.watch import Watch
from fleet_operator.identities import Identities
from fleet_operator.inbox import Inbox
from fleet_operator.keys import Keys
from fleet_operator.office import Office
from fleet_operator.settings import Settings, settings
from fleet_operator.told import Told, by_job
from fleet_operator.work import Key, WorkQueue

logger = logging.getLogger(__name__)
EXIT_WITHIN = 2.0  # seconds that our parts get to end
PATIENCE = 3  # resyncs without one reconcile
BEHIND = 0.25  # of a resync, that a watch may be behind a list: red within 90 s by default
Turn = Callable[[Office, str], Awaitable[float | None]]


async def _sweep(office: Office, _: str) -> float | None:
    """Orphans go, and what a watch has not told of is looked at, whether or not it still lives."""
    for kind, selectors in WATCHED.items():
        at, found = await office.cluster.versions(kind, **selectors)
        versions = {one["uid"]: int(one["resourceVersion"]) for one in found}
        behind = office.deliveries.listed(kind, at, versions, time.monotonic())
        for one in found if kind in TURNS and office.swept else ():
            if one["uid"] in behind or kind == Kind.TRAINING_JOB:
                office.wake(Key(kind, one["name"]))
    for part in (office.certificates, office.identities):
        try:
            if part is not None:
                await part.look()
        except Retry as fault:
            logger.warning("%s", fault)
    office.swept = True  # at our start the watches bring everything
    await telling.catch_up(office)
    await endings.sweep(office)
    metrics.DEAD_WATCHES.set(len(office.deliveries.dead(time.monotonic())))
    return office.settings.resync_seconds


CHILDREN = {"labelSelector": Label.JOB.value}
WATCHED: dict[str, dict[str, str]] = {kind: {} for kind in Kind} | {
    "Job": CHILDREN,
    "Pod": CHILDREN,
}
"""The kinds that ``Watch`` has kopf watch, and by which selectors."""
WHOSE: dict[str, str] = {Kind.TRAINING_JOB: "job", Kind.ROBOT_ACTOR: "robot"}
"""What a turn's log lines name by the key."""
TURNS: dict[str, Turn] = {
    Kind.TRAINING_JOB: training_job.reconcile,
    Kind.ROBOT_ACTOR: robot_actor.reconcile,
    endings.SWEEP.kind: _sweep,
}


class NoComparison(kopf.AnnotationsDiffBaseStorage):
    """What has changed is of no use to `on.event`: kopf need not copy each object to find it."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a watcher only: no finalizer, no annotation, no peering, no scanning."""
    made = kopf.OperatorSettings()
    made.scanning.disabled = True
    made.posting.enabled = False
    made.peering.standalone = True
    made.networking.request_timeout = 30
    made.watching.chunk_size = 200  # objects in memory at once while a watch begins
    for children in (("batch", "jobs"), ("", "pods")):
        made.watching.label_selectors[children] = Label.JOB.value
    # Its workers, one per object, only pass keys on: nothing is lost when they end at once. A limit
    # would hold events back, for each keeps its place for as long as it idles.
    made.queueing.idle_timeout = 1.0
    made.queueing.exit_timeout = 0.5
    # Never used by `on.event`; named, so that a slip would at least show whose it is.
    made.persistence.finalizer = f"{names.KOPF_PREFIX}/finalizer"
    made.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.KOPF_PREFIX)
    made.persistence.diffbase_storage = NoComparison(prefix=names.KOPF_PREFIX)
    return made


async def run(our: Settings, stop: asyncio.Event) -> None:
    """Operate until ``stop`` is set or a part of us ends, which is an error."""
    async with Cluster(our.namespace) as cluster:

        async def turn(key: Key) -> float | None:
            started = time.monotonic()
            result = "error"
            try:
                with logs.about(**{WHOSE[key.kind]: key.name} if key.kind in WHOSE else {}):
                    again = await TURNS[key.kind](office, key.name)
                result = "ok"
            finally:
                metrics.RECONCILES.labels(key.kind, result).inc()
                metrics.SECONDS.labels(key.kind).observe(time.monotonic() - started)
                office.last_turn = time.monotonic()
            return again

        queue = WorkQueue(turn, workers=our.workers, first=frozenset({Kind.TRAINING_JOB}))
        broker = Broker(our.nats_url, our.nats_names) if our.nats_tls else None
        certificates = Certificates(cluster, broker)
        believed = certificates.authorities
        identities = Identities(cluster, our.nats_url, certificates) if our.nats_accounts else None

        def bus(url: str) -> Bus:
            if url != our.nats_url:  # a server of a job's choice is shown nothing of ours
                return Bus(url, authorities=believed)
            return Bus(url, identities, our.nats_credentials, believed)

        inbox = Inbox(our.namespace, queue.add, queue.add, lost_after=our.lost_after, bus=bus)
        keys = Keys(cluster, our.resync_seconds)
        deliveries = Deliveries(BEHIND * our.resync_seconds)
        office = Office(
            *(our, cluster, inbox, keys, certificates, deliveries, queue.add, queue.add),
            identities=identities,
        )
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(functools.partial(_login, cluster))
        Watch(office).register(registry)
        metrics.QUEUE_DEPTH.set_function(lambda: queue.depth)
        metrics.serve(our.bind_address, our.metrics_port, lambda: told_by(inbox))
        queue.add(endings.SWEEP)
        probe = f"http://{our.bind_address}:{our.probe_port}/healthz" if our.probe_port else None
        # Ours run beside kopf's, not under it: it would wait for them when it ends.
        watchers = await kopf.spawn_tasks(
            registry=registry,
            settings=kopf_settings(),
            namespaces=[our.namespace],
            standalone=True,
            # Else kopf asks for the user's name, and the number that a pod runs as has none.
            identity=names.FIELD_MANAGER,  # type: ignore[arg-type] # its type is not exported
            liveness_endpoint=probe,
            stop_flag=stop,
        )
        ours = [
            asyncio.create_task(queue.run(), name="queue"),
            asyncio.create_task(inbox.watch(), name="inbox"),
            asyncio.create_task(_watchdog(office), name="watchdog"),
        ]
        parts = [*watchers, *ours]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
            ended = {part.get_name() for part in done}
            # kopf takes SIGTERM and SIGINT for itself; this task of its ends by them.
            if not stop.is_set() and "stop-flag checker" not in ended:
                raise RuntimeError(f"{', '.join(ended)} ended by itself; start the operator again")
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts, timeout=EXIT_WITHIN)
            await inbox.shut()


def told_by(inbox: Inbox) -> Iterator[Told]:
    """What the fleet told until now; from any thread."""
    now = time.monotonic()  # as the loop's clock
    for line in inbox.jobs():
        yield from by_job(
            inbox.namespace, line, heard_since=now - inbox.lost_after, epoch=time.time() - now
        )


async def _login(cluster: Cluster, **_: Any) -> kopf.ConnectionInfo:
    """Whoever ``Cluster`` is; kopf's own reader of kubeconfigs knows no token files."""
    who = cluster.identity
    header = str(await who.get_api_key_with_prefix("BearerToken") or "")
    scheme, token = header.split(" ", 1) if " " in header else ("", header)
    return kopf.ConnectionInfo(
        server=who.host,
        ca_path=who.ssl_ca_cert,
        insecure=not who.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=who.cert_file,
        private_key_path=who.key_file,
    )


async def _watchdog(office: Office) -> None:
    """Ends the process when no key had its turn for long: something in it is stuck."""
    patience = PATIENCE * office.settings.resync_seconds
    idle = 0.0
    while idle < patience:
        await asyncio.sleep(patience - idle + 0.1)
        idle = time.monotonic() - office.last_turn
    raise RuntimeError(f"no reconcile ended in {idle:.0f} s: the operator must start anew")


async def _main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    try:
        await run(settings(), stop)
    except FleetError:
        raise
    except Exception:
        # Tasks of kopf's that do not heed their end must not keep an operator that is over alive:
        # a watch refused with 410 leaves such, and nobody would start it anew.
        logger.exception("the operator ends")
        logging.shutdown()
        os._exit(1)


def main() -> None:
    """``python -m fleet_operator``."""
    logs.begin("operator", namespace=settings().namespace)
    for chatty in ("kopf", "nats.aio.client", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(_main())
    except FleetError as fault:
        logger.error("%s", fault)  # noqa: TRY400 - a sentence for people
        sys.exit(1)
