"""What the fleet says on NATS, for the demo's eyes only; subscribes, never publishes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import Client

from fleet_contract import names, tls
from fleet_contract.errors import Reject
from fleet_contract.messages import Announcement, Event, Heartbeat, LearnerHeartbeat
from fleet_contract.names import Channel, StreamMeta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg

    from fleet_cli.demo.story import Story
    from fleet_contract.identity import Passport

log = logging.getLogger(__name__)
GOODBYE = 2.0  # seconds
LOOK = 0.5  # seconds between two looks at a thing that tells only administrators


class _Client(tls.Verifying, Client):
    known = f"ConfigMap {names.NATS_CA} of the namespace, else this machine, says whose is taken"


@asynccontextmanager
async def _connected(url: str, authorities: str, **options: Any) -> AsyncIterator[Client]:
    client = _Client()
    client.authorities = lambda: authorities
    try:
        await client.connect(url, name="fleet-demo", **options)
        yield client
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), GOODBYE)


@asynccontextmanager
async def listening(
    url: str,
    namespace: str,
    job: str,
    story: Story,
    clock: Callable[[], float],
    who: Passport | None = None,
    authorities: str = "",
) -> AsyncIterator[None]:
    """Fold everything the job's robots and learner publish into ``story``; ``who`` we are there.

    ``authorities`` (PEM) may sign the server's certificate; empty: whom this machine knows.
    """
    said = ""

    async def on_error(error: Exception) -> None:
        nonlocal said
        level = logging.DEBUG if said == (said := str(error)) else logging.WARNING
        log.log(level, "NATS at %s: %s", url, error)

    async def fold(message: Msg) -> None:
        try:
            match message.subject.rsplit(".", 1)[-1]:
                case Channel.HEARTBEAT if message.subject.startswith("fleet."):
                    story.on_heartbeat(clock(), Heartbeat.decode(message.data))
                case Channel.HEARTBEAT:
                    story.on_learner(LearnerHeartbeat.decode(message.data))
                case Channel.EVENT:
                    story.on_event(clock(), Event.decode(message.data))
                case _:
                    story.on_announcement(Announcement.decode(message.data))
        except Reject as fault:
            log.warning("%s: %s", message.subject, fault)

    shown = (
        {"user_jwt_cb": lambda: bytearray(who.token.encode()), "signature_cb": who.prove}
        if (who)
        else {}
    )
    options = {"max_reconnect_attempts": -1, "error_cb": on_error, **shown}
    async with _connected(url, authorities, **options) as connection:
        for subject in (
            names.robot_subject(namespace, "*", job, Channel.HEARTBEAT),
            names.robot_subject(namespace, "*", job, Channel.EVENT),
            names.learner_heartbeat_subject(namespace, job),
            names.announce_subject(namespace, job),
        ):
            await connection.subscribe(subject, cb=fold)
        yield


async def swept(url: str, namespace: str, job: str, within: float, authorities: str = "") -> bool:
    """Whether the streams of a deleted job were removed in so many seconds, by its operator."""
    ours = {StreamMeta.NAMESPACE: namespace, StreamMeta.JOB: job}.items()
    with contextlib.suppress(TimeoutError, nats.errors.Error):
        async with asyncio.timeout(within), _connected(url, authorities) as client:
            while True:
                found = await client.jetstream().streams_info()
                if not any(ours <= (one.config.metadata or {}).items() for one in found):
                    return True
                await asyncio.sleep(LOOK)
    return False
