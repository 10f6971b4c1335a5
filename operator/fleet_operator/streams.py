"""A job's streams and consumer on the server: made, mended, found and deleted.

Raises nats-py's errors as they are; ``Bus`` turns them into ``Retry``.
"""

import contextlib
import secrets
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo

from fleet_contract import names
from fleet_contract.names import Stream, StreamMeta
from fleet_operator.desired import streams as desired

REPLICAS = 3
"""Servers that hold each message, where NATS is a cluster of as many: it may lose any of them."""
_ALONE = frozenset({10005, 10074})  # no suitable peers, no cluster at all
_LIVE = ("subjects", "max_bytes", "max_age", "max_msgs_per_subject", "duplicate_window")


class Found(NamedTuple):
    """One stream as it is on the server."""

    name: str
    metadata: dict[str, str]
    first: int
    last: int

    @property
    def generation(self) -> str:
        return self.metadata.get(StreamMeta.GENERATION, "")


async def ensure(
    js: JetStreamContext, namespace: str, job: str, job_uid: str, installation: str
) -> dict[Stream, Found]:
    """Create what is missing of a job's streams and its learner's consumer; update what drifted.

    A stream gets a random id when it is made, so that robots notice one that was lost and made
    anew.
    """
    found = {}
    wanted_streams = desired.streams(namespace, job, job_uid, installation)
    for kind, config in zip(Stream, wanted_streams, strict=True):
        found[kind] = await _ensure_stream(js, config)
    experience = names.stream(job_uid, Stream.EXPERIENCE)
    wanted = desired.learner_consumer()
    try:
        info = await js.consumer_info(experience, names.LEARNER_CONSUMER)
        drifted = any(
            getattr(info.config, key) != wanted[key] for key in ("ack_wait", "max_ack_pending")
        )
        if await _ahead(js, info, found[Stream.EXPERIENCE].last):
            await js.delete_consumer(experience, names.LEARNER_CONSUMER)
            drifted = True
    except nats.js.errors.NotFoundError:
        drifted = True
    if drifted:
        await js.add_consumer(experience, ConsumerConfig(**wanted))
    return found


async def _ahead(js: JetStreamContext, consumer: ConsumerInfo, last: int) -> bool:
    """Whether it has brought more than its stream, which ended at `last` a moment ago, ever had.

    A power cut may take the end of a stream and leave what its consumer had written down. It would
    bring nothing until as much has come again, which robots that wait for receipts never send.
    """
    brought = consumer.delivered.stream_seq if consumer.delivered else 0
    if brought <= last:
        return False
    return brought > (await js.stream_info(str(consumer.stream_name))).state.last_seq


async def _ensure_stream(js: JetStreamContext, config: dict[str, Any]) -> Found:
    try:
        info = await js.stream_info(config["name"])
    except nats.js.errors.NotFoundError:
        metadata = config["metadata"] | {StreamMeta.GENERATION.value: secrets.token_hex(8)}
        # Numbers go on from the lost one's: what counts "from event n on" counts all of the new.
        fresh = {"metadata": metadata, "first_seq": int(time.time() * 1000)}
        info = await _add(js, StreamConfig(**(config | fresh)))
    else:
        # The server's own keys and our stream id stay in the metadata, and nobody's copy goes.
        metadata = (info.config.metadata or {}) | config["metadata"]
        config = config | {"num_replicas": info.config.num_replicas}
        drifted = any(getattr(info.config, key) != config[key] for key in _LIVE)
        if drifted or metadata != (info.config.metadata or {}):
            info = await js.update_stream(StreamConfig(**(config | {"metadata": metadata})))
    return _found(await _spread(js, info))


async def _add(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    try:
        return await js.add_stream(config.evolve(num_replicas=REPLICAS))
    except nats.js.errors.APIError as fault:
        if fault.err_code not in _ALONE:
            raise
        return await js.add_stream(config)


async def _spread(js: JetStreamContext, info: StreamInfo) -> StreamInfo:
    """To three servers of a cluster that has become so large; tried again at each look."""
    clustered = info.cluster is not None and info.cluster.name
    if not clustered or (info.config.num_replicas or 1) >= REPLICAS:
        return info
    try:
        return await js.update_stream(info.config.evolve(num_replicas=REPLICAS))
    except nats.js.errors.APIError as fault:
        if fault.err_code not in _ALONE:
            raise
        return info


def _found(info: StreamInfo) -> Found:
    return Found(
        str(info.config.name), info.config.metadata or {}, info.state.first_seq, info.state.last_seq
    )


async def find(js: JetStreamContext, namespace: str, installation: str) -> list[Found]:
    """Our streams of one namespace, known by their metadata.

    ``installation`` tells them from those of a namesake in another cluster.
    """
    found: list[Found] = []
    offset = 0
    while page := await js.streams_info(offset=offset):
        offset += len(page)
        found += [_found(info) for info in page]
    return [
        one
        for one in found
        if one.name.startswith(names.STREAM_PREFIX)
        and one.metadata.get(StreamMeta.NAMESPACE) == namespace
        and one.metadata.get(StreamMeta.INSTALLATION) == installation
    ]


async def delete(js: JetStreamContext, gone: Iterable[str]) -> None:
    """Delete streams by name; one that is gone already is fine."""
    for name in gone:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await js.delete_stream(name)
