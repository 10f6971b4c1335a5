"""What the fleet says on NATS, for the demo's eyes only; subscribes, never publishes."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats

from fleet_contract import names
from fleet_contract.errors import Reject
from fleet_contract.messages import Announcement, Event, Heartbeat, LearnerHeartbeat
from fleet_contract.names import Channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg

    from fleet_cli.demo.story import Story

log = logging.getLogger(__name__)


@asynccontextmanager
async def listening(
    url: str, namespace: str, job: str, story: Story, clock: Callable[[], float]
) -> AsyncIterator[None]:
    """Fold everything the job's robots and learner publish into ``story``."""

    async def on_error(error: Exception) -> None:
        log.debug("nats: %s", error)

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

    connection = await nats.connect(
        url, name="fleet-demo", max_reconnect_attempts=-1, error_cb=on_error
    )
    try:
        for subject in (
            names.robot_subject(namespace, "*", job, Channel.HEARTBEAT),
            names.robot_subject(namespace, "*", job, Channel.EVENT),
            names.learner_heartbeat_subject(namespace, job),
            names.announce_subject(namespace, job),
        ):
            await connection.subscribe(subject, cb=fold)
        yield
    finally:
        await connection.close()
