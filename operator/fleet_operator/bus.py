"""NATS, and nothing else: streams, the assignment, announcements, events, heartbeats.

Every call is bounded in time and ends in a value or in ``Retry``: a broker that is away is a
state of the world, told in the job's status.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from fleet_contract import names, tls
from fleet_contract.errors import Fenced, Retry
from fleet_contract.identity import passport_of
from fleet_contract.names import Env, Identity, Stream
from fleet_operator import metrics, streams
from fleet_operator.decide.identities import INSIDE
from fleet_operator.streams import Found

if TYPE_CHECKING:
    from fleet_operator.identities import Identities

CONNECT_TIMEOUT = 2.0  # seconds; a reconcile waits for it
TIMEOUT = 5.0  # seconds for one request; loopback answers in one millisecond
PING = 10  # seconds; three without answer: the connection is dead, though nobody ended it
RENEWED = INSIDE / 2  # seconds: as for everybody, half of what an identity is good for
_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
DELETED = (
    "$JS.EVENT.ADVISORY.STREAM.DELETED.*",
    f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.*.{names.LEARNER_CONSUMER}",
)
"""Subjects that tell of a stream that was deleted, or lost its learner's consumer."""
_OVERLAP = 10065  # subjects overlap with an existing stream's

logger = logging.getLogger(__name__)
T = TypeVar("T")
Receive = Callable[[str, bytes], None]
"""(subject, data) → nothing; must not block."""
ReceiveNumbered = Callable[[int, str, bytes], None]
"""(stream sequence, subject, data) → nothing; must not block."""


def deleted(subject: str) -> str:
    """Of which stream one of ``DELETED`` tells."""
    return subject.split(".")[5]


class Stored(NamedTuple):
    """One message of a stream."""

    sequence: int
    data: bytes


@contextlib.contextmanager
def _heeding() -> Iterator[None]:
    """Raises the cancellation that the library swallowed.

    It waits with ``asyncio.wait_for``, which before Python 3.12 loses one that comes together with
    the answer; whoever cancelled would wait for ever.
    """
    before = _cancels()
    try:
        yield
    finally:
        if _cancels() > before:
            raise asyncio.CancelledError


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


class _Client(tls.Verifying, Client):
    known = f"ConfigMap {names.NATS_CA} says whose signature is taken, else the machine does"


async def _machines() -> str:
    return ""


class Bus:
    """One NATS server, connected for good: reconnects for ever, tells of every (re)connect."""

    def __init__(
        self,
        url: str,
        identities: "Identities | None" = None,
        credentials: Path | None = None,
        authorities: Callable[[], Awaitable[str]] = _machines,
    ) -> None:
        """With ``identities`` we mint our own, else show the file ``credentials``, if any.

        ``authorities`` (PEM) may sign the server's certificate; where it is empty, the machine's.
        """
        self.url, self._shown = url, names.shown(url)
        self._authorities, self._pem = authorities, ""
        self._identities, self._credentials = identities, credentials
        self._minted_at = 0.0
        self._client: Client | None = None
        self._on_connect: list[Callable[[], None]] = []
        self._connecting = asyncio.Lock()

    def on_connect(self, callback: Callable[[], None]) -> None:
        """Call back at each connect and reconnect: what was missed must be read again."""
        self._on_connect.append(callback)

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def close(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._client.close()
            self._client = None

    async def client(self) -> Client:
        """The connection. Raises ``Retry`` while the server cannot be reached."""
        async with self._connecting:
            if self._identities is not None:
                await self._identified(self._identities)
            if not self.connected:  # it comes back by itself, with whom it then believes
                self._pem = await self._authorities()
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
                self._connected()
        if not self._client.is_connected:
            raise Retry(self._unreachable("connection lost"))
        return self._client

    async def _identified(self, identities: "Identities") -> None:
        """The server will know us, also one that lost its disk; nobody is kept until it ends us."""
        if not self.connected:
            await identities.tell()
        elif time.monotonic() - self._minted_at > RENEWED:
            await self.close()

    def _carried(self) -> dict[str, Any]:
        """The file is read at each connect, so a newer one is taken then."""
        if self._credentials is None:
            return {}
        try:
            passport_of(self._credentials.read_text())
        except (OSError, ValueError) as fault:
            raise Retry(
                f"who we are to NATS at {self._shown}: {Env.NATS_CREDENTIALS}: {fault}: give the "
                "operator a credentials file"
            ) from None  # nothing of what is in it
        return {"user_credentials": str(self._credentials)}

    def _passport(self, identities: "Identities") -> dict[str, Any]:
        def token() -> bytearray:
            self._minted_at = time.monotonic()
            return bytearray(identities.passport().token.encode())

        return {
            "user_jwt_cb": token,
            "signature_cb": lambda nonce: identities.passport().prove(nonce),
        }

    async def _connect(self) -> Client:
        said = ""

        async def failed(error: Exception) -> None:
            # Permission violations arrive here and nowhere else; a refused connection, each second.
            nonlocal said
            if "permissions violation" in str(error):
                metrics.BROKER_REFUSALS.inc()
                logger.error("NATS at %s refuses us what we need: %s", self._shown, error)
            elif said != (said := str(error)):
                logger.warning("NATS at %s: %s", self._shown, error)

        async def again() -> None:
            self._connected()

        client = _Client()
        who = self._passport(self._identities) if self._identities is not None else self._carried()
        client.authorities = lambda: self._pem
        try:
            with _heeding():
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await client.connect(
                        self.url.split(","),
                        name="fleetloop-operator",
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=1,
                        connect_timeout=2,
                        ping_interval=PING,
                        error_cb=failed,
                        reconnected_cb=again,
                        inbox_prefix=names.inbox(Identity.OPERATOR, names.FIELD_MANAGER),
                        **who,
                    )
        except BaseException as fault:
            # Given up half-way, it would keep its socket; and it waits for ever for the end of a
            # connection whose certificate it refused.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), CONNECT_TIMEOUT)
            if isinstance(fault, OSError | TimeoutError | nats.errors.Error):
                raise Retry(self._unreachable(said or repr(fault))) from fault
            raise
        return client

    def _connected(self) -> None:
        for callback in self._on_connect:
            callback()

    def _unreachable(self, why: str) -> str:
        return (
            f"NATS at {self._shown} cannot be reached ({why}): start it, or correct "
            "spec.transport.nats.url or the operator's FLEET_NATS_URL"
        )

    async def _do(self, what: str, action: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        client = await self.client()
        try:
            with _heeding():
                async with asyncio.timeout(2 * TIMEOUT):
                    return await action(client.jetstream(timeout=TIMEOUT))
        except nats.js.errors.APIError as fault:
            if fault.err_code in _WRONG_LAST_SEQUENCE:
                raise Fenced(f"{what}: somebody else wrote in between; read again") from fault
            if fault.err_code == _OVERLAP:
                raise Retry(
                    f"{what}: at NATS {self._shown} the streams of another cluster's job of this "
                    "namespace and name hold these subjects: rename the job, or give the clusters "
                    "NATS accounts of their own"
                ) from fault
            raise Retry(f"{what}: NATS at {self._shown} refused it: {fault.description}") from fault
        except (OSError, TimeoutError, nats.errors.Error) as fault:
            raise Retry(f"{what}: no answer from NATS at {self._shown} ({fault!r})") from fault

    async def ensure(
        self, namespace: str, job: str, job_uid: str, installation: str
    ) -> dict[Stream, Found]:
        """See ``streams.ensure``. Raises ``Retry``."""
        return await self._do(
            f"streams of {namespace}/{job}",
            lambda js: streams.ensure(js, namespace, job, job_uid, installation),
        )

    async def last(self, job_uid: str, subject: str) -> Stored | None:
        """The last message of a control subject, None where there is none. Raises ``Retry``."""

        async def get(js: JetStreamContext) -> Stored | None:
            try:
                raw = await js.get_last_msg(names.stream(job_uid, Stream.CONTROL), subject)
            except nats.js.errors.NotFoundError:
                return None
            return Stored(raw.seq or 0, raw.data or b"")

        return await self._do(f"reading {subject}", get)

    async def put(self, job_uid: str, subject: str, data: bytes, after: int) -> int:
        """Store a message whose predecessor on the subject is ``after`` (0: none); its sequence.

        Raises ``Fenced`` when another message came in between, ``Retry`` when no answer came:
        then it may have landed all the same, so read before the next try.
        """

        async def publish(js: JetStreamContext) -> int:
            headers = {
                "Nats-Expected-Last-Subject-Sequence": str(after),
                "Nats-Expected-Stream": names.stream(job_uid, Stream.CONTROL),
            }
            return (await js.publish(subject, data, timeout=TIMEOUT, headers=headers)).seq

        return await self._do(f"publishing {subject}", publish)

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """Core messages from now on, through reconnects."""

        async def handle(message: Msg) -> None:
            receive(message.subject, message.data)

        client = await self.client()
        try:
            await client.subscribe(subject, cb=handle)
        except nats.errors.Error as fault:
            raise Retry(f"subscribing to {subject} at {self._shown}: {fault!r}") from fault

    async def follow(
        self, stream: str, start: int, receive: ReceiveNumbered
    ) -> Callable[[], Awaitable[None]]:
        """Messages of a stream from sequence ``start`` on, in order.

        Returns what ends it, as soon as all that was there has come. Raises ``Retry``.
        """
        came, received, behind = asyncio.Event(), 0, 1

        async def handle(message: Msg) -> None:
            nonlocal received, behind
            at = message.metadata
            receive(at.sequence.stream, message.subject, message.data)
            received, behind = at.sequence.consumer, at.num_pending
            came.set()

        async def subscribe(js: JetStreamContext) -> Any:
            return await js.subscribe(
                ">",
                stream=stream,
                cb=handle,
                ordered_consumer=True,
                config=ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=max(1, start)
                ),
            )

        subscription = await self._do(f"following {stream}", subscribe)

        async def end() -> None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

        async def told(_: JetStreamContext) -> int:
            info = await subscription.consumer_info()
            return (info.delivered.consumer_seq if info.delivered else 0) + (info.num_pending or 0)

        try:
            there = await self._do(f"what there is of {stream}", told)
            while received < there and behind:
                came.clear()
                async with asyncio.timeout(TIMEOUT):
                    await came.wait()
        except TimeoutError as fault:
            await end()
            raise Retry(f"reading {stream}: NATS at {self._shown} fell silent half-way") from fault
        except BaseException:
            await end()
            raise
        return end

    async def find(self, namespace: str, installation: str) -> list[Found]:
        """See ``streams.find``. Raises ``Retry``."""
        return await self._do(
            f"listing the streams of {namespace}",
            lambda js: streams.find(js, namespace, installation),
        )

    async def remove(self, gone: Iterable[str]) -> None:
        """Delete streams by name; one that is gone already is fine. Raises ``Retry``."""
        await self._do("deleting streams", lambda js: streams.delete(js, gone))
