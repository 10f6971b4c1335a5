"""The message plane as the runtime sees it; the only room that knows NATS.

What the client library does by itself and must not reach anybody else:
  - it gives up after 60 reconnects, and an exception in its callbacks ends reconnecting;
  - while disconnected it buffers what is published, so a retried message would land many times:
    here nothing is sent without a connection, the caller gets `Retry` and keeps its data;
  - a publish that timed out may have landed all the same: receivers deduplicate;
  - it asks a silent connection only every two minutes whether it lives;
  - refused permissions are told to a callback only: here they are logged and counted;
  - it leaves for good where the server ends an identity: here it comes back with whatever lies in
    the credentials file by then, for a newer one may.
Each of these costs lines here so that it costs none elsewhere, hence the length.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
from typing import TYPE_CHECKING, Self

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from fleet_contract import names, tls
from fleet_contract.errors import Reject, RejectCode, Retry
from fleet_contract.names import Env, StreamMeta, traffic
from fleet_runtime.traffic import Moved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    Handler = Callable[[str, bytes], Awaitable[None]]
    """(subject, data), awaited in order; what it raises is logged and loses only that message."""

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 5.0
"""Seconds a request to the broker may take."""
_RECONNECT_WAIT = 500
"""Least milliseconds between two attempts; as much again is jitter, so a fleet spreads out."""
_PING = 10
"""Seconds between pings. Of three without an answer the connection is dead: a router that forgot it
tells nobody, and the library's own two minutes would keep a robot away for six."""


_LOOK = 30.0
"""Seconds between two looks whether another identity lies in the credentials file."""
_ENDED = "user authentication"  # … expired, … revoked
_REFUSED = "permissions violation"


class _Client(tls.Verifying, Client):
    async def _process_err(self, said: str) -> None:
        if _ENDED in said.lower() and self.is_connected:
            fault = nats.errors.Error(f"{said.strip(chr(39))}: it tries again with what it has")
            await self._error_cb(fault)
            await self._process_op_err(fault)
        else:
            await super()._process_err(said)


@dataclasses.dataclass(frozen=True)
class StreamState:
    """A stream at one moment."""

    id: str  # random, made with the stream: another id means the old stream and its data are gone
    first: int  # sequence of the oldest message kept
    last: int  # sequence of the newest message ever stored
    messages: int


class Delivery:
    """One message of a work queue, held until it is acked, refused or its ack wait is over."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject = message.subject
        self.data = message.data
        self.sequence: int = message.metadata.sequence.stream
        self.attempt: int = message.metadata.num_delivered

    async def ack(self) -> None:
        """Done with it. Unconfirmed: a lost ack means one redelivery."""
        with _translated(f"ack of message {self.sequence}"):
            await self._message.ack()

    async def ack_sync(self, timeout: float = REQUEST_TIMEOUT) -> None:  # noqa: ASYNC109
        """Done with it, and the broker said so; raises `Retry` when it did not in `timeout` s."""
        with _translated(f"ack of message {self.sequence}"):
            await self._message.ack_sync(timeout)

    async def nak(self, delay: float = 0.0) -> None:
        """Deliver it again, `delay` seconds from now."""
        with _translated(f"nak of message {self.sequence}"):
            await self._message.nak(delay)

    async def term(self) -> None:
        """Never deliver it again."""
        with _translated(f"term of message {self.sequence}"):
            await self._message.term()


class Wire:
    """One connection to the broker, for as long as the program lives."""

    def __init__(self, client: _Client, url: str, moved: Moved | None = None) -> None:
        self.moved = moved or Moved()
        self._client = client
        self.url = names.shown(url)
        """For people."""
        self._js: JetStreamContext = client.jetstream(timeout=REQUEST_TIMEOUT)
        self._pulls: dict[tuple[str, str], JetStreamContext.PullSubscription] = {}
        self._on_reconnect: list[Callable[[], None]] = []
        self._up = asyncio.Event()
        self._said = ""  # the last fault that was logged
        self._renewal: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()
        """Set when the connection ended for good, by `close` or by the broker's refusal."""

    @classmethod
    async def connect(
        cls,
        url: str,
        name: str,
        *,
        inbox: str = "_INBOX",
        credentials: Path | None = None,
        authorities: Path | None = None,
        moved: Moved | None = None,
    ) -> Self:
        """A connection under `name`; waits for as long as the broker is not there.

        Args:
            url: `nats://host:port`, or `tls://` to go on with TLS only; several with commas.
            name: what the broker's operators see.
            inbox: below which answers come to us; an identity may listen below its own only.
            credentials: a NATS credentials file, where the broker wants one; read at each connect.
            authorities: who may sign the broker's certificate, a file of PEM read at each connect;
                where there is none, those that the machine knows.
            moved: where the bytes of its messages are counted.
        """
        client = _Client()
        client.authorities = lambda: tls.in_file(authorities)
        if authorities is not None:
            client.known = f"{Env.NATS_CA} names {authorities}"
        wire = cls(client, url, moved)
        shown = _read(credentials)
        cancels = _cancels()
        try:
            await client.connect(
                servers=url.split(","),
                name=name,
                user_credentials=credentials and str(credentials),
                inbox_prefix=inbox,
                max_reconnect_attempts=-1,
                ping_interval=_PING,
                reconnect_time_wait=(_RECONNECT_WAIT + secrets.randbelow(_RECONNECT_WAIT)) / 1000,  # type: ignore[arg-type]
                error_cb=wire._error,
                disconnected_cb=wire._disconnected,
                reconnected_cb=wire._reconnected,
                closed_cb=wire._closed,
            )
            if _cancels() > cancels:  # the library swallowed it: see `_translated`
                raise asyncio.CancelledError  # noqa: TRY301 - as the library should have
        except BaseException:
            # Given up half-way, it would keep its socket until the program ends.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), REQUEST_TIMEOUT)
            raise
        wire._up.set()
        if credentials is not None:
            wire._renewal = asyncio.create_task(wire._renew(credentials, shown))
        return wire

    async def _renew(self, credentials: Path, shown: bytes) -> None:
        """Come anew whenever another identity lies there: before the one that we have ends."""
        while True:
            await asyncio.sleep(_LOOK)
            if (found := _read(credentials)) and found != shown:
                shown = found
                log.info("another identity lies in %s: connecting anew", credentials)
                with contextlib.suppress(nats.errors.Error, OSError):
                    await self._client.force_reconnect()

    async def close(self) -> None:
        """Send what is buffered and leave; a second time does nothing."""
        if self._renewal is not None:
            self._renewal.cancel()
        if not self._client.is_closed:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    await self._client.flush()
            except (TimeoutError, nats.errors.Error, OSError) as fault:
                log.debug("closing without a last flush: %r", fault)
            await self._client.close()
        self.closed.set()

    @property
    def connected(self) -> bool:
        """Whether something sent now would go out."""
        return self._client.is_connected

    async def ready(self) -> None:
        """Returns as soon as there is a connection; never once the wire is `closed`."""
        while not self._client.is_connected:
            self._up.clear()  # the library tells of a loss a little after it knows
            await self._up.wait()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after each reconnect: what core NATS carried meanwhile is lost."""
        self._on_reconnect.append(callback)

    async def publish(self, subject: str, data: bytes) -> None:
        """Core publish, stored nowhere. Raises `Retry` while there is no connection."""
        self._demand_connection(subject)
        with _translated(f"publish to {subject}"):
            await self._client.publish(subject, data)
        self.moved.sent[traffic(subject)] += len(data)

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str | None = None,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109
    ) -> int:
        """Publish into a stream and wait for its ack; the message's sequence there.

        Args:
            subject: where to; some stream must listen to it.
            data: at most the broker's payload limit (1 MiB by default).
            stream: refuse to land in any other stream, say that of a job made anew.
            timeout: seconds to wait.

        Raises:
            Retry: no connection, no stream, a full stream, no answer; it may have landed.
            Reject: larger than the broker takes.
        """
        self._demand_connection(subject)
        with _translated(f"store on {subject}"):
            ack = await self._js.publish(subject, data, timeout=timeout, stream=stream)
        self.moved.sent[traffic(subject)] += len(data)
        return int(ack.seq)

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Core subscription, renewed by itself at each reconnect."""

        async def deliver(message: Msg) -> None:
            self._arrived(message)
            try:
                await handler(message.subject, message.data)
            except Exception:
                log.exception("the handler of %s failed; its message is dropped", message.subject)

        with _translated(f"subscription to {subject}"):
            await self._client.subscribe(subject, cb=deliver)

    async def last(self, stream: str, subject: str) -> bytes | None:
        """The newest message of a subject (Direct Get), None where there is none.

        Raises `Retry` when broker or stream are not there.
        """
        self._demand_connection(subject)
        with _translated(f"last message of {subject} in {stream}"):
            try:
                message = await self._js.get_last_msg(stream, subject, direct=True)
            except nats.js.errors.NotFoundError:
                return None
        data = message.data or b""
        self.moved.received[traffic(subject)] += len(data)
        return data

    async def fetch(
        self,
        stream: str,
        durable: str,
        *,
        batch: int,
        timeout: float,  # noqa: ASYNC109
    ) -> list[Delivery]:
        """Up to `batch` messages of a durable consumer; empty when none came in `timeout` s.

        Raises `Retry` when broker, stream or consumer are not there.
        """
        self._demand_connection(stream)
        with _translated(f"fetch from {durable} of {stream}"):
            pull = self._pulls.get((stream, durable))
            if pull is None:
                pull = await self._js.pull_subscribe_bind(durable, stream)
                self._pulls[stream, durable] = pull
            try:
                found = await pull.fetch(batch, timeout)
            except TimeoutError:
                return []
            except asyncio.CancelledError:
                # A closing client cancels its fetches; only our own caller may cancel us.
                task = asyncio.current_task()
                if self._client.is_closed and task is not None and not task.cancelling():
                    raise Retry(f"connection to {self.url} closed during a fetch") from None
                raise
        for message in found:
            self._arrived(message)
        return [Delivery(message) for message in found]

    async def streams(self) -> set[str]:
        """Names of all streams that we may know of; raises `Retry` as above."""
        self._demand_connection("the streams")
        found: set[str] = set()
        with _translated("list of the streams"):
            while page := await self._js.streams_info(len(found)):
                found |= {str(info.config.name) for info in page}
        return found

    async def stream_state(self, stream: str) -> StreamState | None:
        """The stream at this moment, None where it does not exist; raises `Retry` as above."""
        self._demand_connection(stream)
        with _translated(f"state of {stream}"):
            try:
                info = await self._js.stream_info(stream)
            except nats.js.errors.NotFoundError:
                return None
        return StreamState(
            id=(info.config.metadata or {}).get(StreamMeta.GENERATION, ""),
            first=int(info.state.first_seq),
            last=int(info.state.last_seq),
            messages=int(info.state.messages),
        )

    def _arrived(self, message: Msg) -> None:
        self.moved.received[traffic(message.subject)] += len(message.data)

    def _demand_connection(self, what: str) -> None:
        if not self._client.is_connected:
            raise Retry(f"{what}: no connection to {self.url}; it reconnects by itself")

    async def _error(self, fault: Exception) -> None:
        said = str(fault) or repr(fault)
        if _REFUSED in said:
            self.moved.refused += 1
            if said != self._said:
                log.error("broker %s refuses what this program needs: %s", self.url, said)
            self._said = said
            return
        # Each attempt to reconnect fails alike: once per outage is enough to know.
        level = logging.DEBUG if said == self._said else logging.WARNING
        self._said = said
        log.log(level, "broker %s: %s", self.url, said)

    async def _disconnected(self) -> None:
        self._up.clear()
        if not self._client.is_closed:
            log.warning("broker %s: connection lost", self.url)

    async def _reconnected(self) -> None:
        log.info("broker %s: connected again", self.url)
        self._said = ""
        self._up.set()
        for callback in self._on_reconnect:
            try:
                callback()
            except Exception:
                log.exception("a reconnect callback failed")

    async def _closed(self) -> None:
        self.closed.set()


def _read(credentials: Path | None) -> bytes:
    try:
        return credentials.read_bytes() if credentials else b""
    except OSError:
        return b""  # while it is replaced; the next look finds it


class _translated:  # noqa: N801 - a context manager, read as a word
    """The library's faults become ours, with what was being done.

    It waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes
    together with the answer; whoever cancelled would wait for ever. So it is raised again here.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._cancels = _cancels()

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: object) -> None:
        if _cancels() > self._cancels and not isinstance(fault, asyncio.CancelledError):
            raise asyncio.CancelledError
        if isinstance(fault, nats.errors.MaxPayloadError):
            raise Reject(RejectCode.TOO_LARGE, f"{self._what}: {fault}") from fault
        if isinstance(fault, (nats.errors.Error, TimeoutError, OSError)):
            raise Retry(f"{self._what}: {fault or repr(fault)}") from fault


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def backoff(first: float = 0.1, most: float = 10.0) -> AsyncIterator[float]:
    """Wait between attempts, doubling from `first` to `most` seconds with jitter; never ends."""
    pause = first
    while True:
        await asyncio.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        yield pause
        pause = min(most, pause * 2)
