"""A robot's wire and the server's certificate; a real nats-server with TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet_contract import names
from fleet_contract.names import Channel, Stream
from fleet_runtime.wire import Wire
from helpers.nats import Broker, make_streams, running_broker
from helpers.tls import DAY, Authority, put, said, secured, shows, tls_broker

WITHIN = 60.0  # seconds
SUBJECT = names.robot_subject("default", "r1", "job", Channel.EXPERIENCE)
EXPERIENCE = names.stream("uid-1", Stream.EXPERIENCE)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """Where the server's certificate lies."""
    return tmp_path / "nats" / "certificate"


@pytest.fixture
def believed(tmp_path: Path, authority: Authority) -> Path:
    path = tmp_path / "ca.crt"
    path.write_text(authority.pem)
    return path


@pytest.fixture
def broker(tmp_path: Path, authority: Authority, shown: Path) -> Iterator[Broker]:
    authority.signs(shown)
    with tls_broker(tmp_path / "nats") as running:
        yield running


@asynccontextmanager
async def wired(url: str, believed: Path | None) -> AsyncIterator[Wire]:
    async with asyncio.timeout(WITHIN):
        wire = await Wire.connect(url, "test", authorities=believed)
    try:
        yield wire
    finally:
        await wire.close()


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_wire_goes_on_with_tls_as_soon_as_the_server_asks_for_it(
    scheme: str, broker: Broker, believed: Path
) -> None:
    url = broker.url.replace("nats", scheme)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(_: str, data: bytes) -> None:
        heard.put_nowait(data)

    async with wired(url, believed) as wire, wired(url, believed) as other:
        assert wire._client.shown is not None
        await other.subscribe("here", hear)
        for _ in range(2):  # the library's first ping overtakes what is still in its buffer
            await other._client.flush()
        await wire.publish("here", b"hello")
        assert await asyncio.wait_for(heard.get(), WITHIN) == b"hello"


class Cure:
    """Makes something wrong; a certificate (DER) where that is the server's fault."""

    def __init__(self, authority: Authority, shown: Path, believed: Path) -> None:
        self._authority, self._shown, self._believed = authority, shown, believed

    def stranger(self) -> bytes:
        return Authority().signs(self._shown)

    def expired(self) -> bytes:
        return self._authority.signs(self._shown, begins=-2 * DAY, ends=-60)

    def early(self) -> bytes:
        return self._authority.signs(self._shown, begins=DAY)

    def another(self) -> bytes:
        return self._authority.signs(self._shown, ["nats", "10.1.2.3"])

    def nothing(self) -> None:
        """Nobody says whose signature is taken: the machine's authorities do not know ours."""
        self._believed.unlink()

    def rubbish(self) -> None:
        self._believed.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


REFUSED = {
    "stranger": "is signed by nobody we know",
    "expired": "of 127.0.0.1 has expired",
    "early": "is not good yet: compare the clocks",
    "another": "is not for 127.0.0.1",
    "nothing": "FLEET_NATS_CA names",
    "rubbish": "holds no certificate that can be read",
}


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_certificate_that_will_not_do_is_refused_in_words_and_tried_again(
    wrong: str,
    broker: Broker,
    authority: Authority,
    shown: Path,
    believed: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its neighbour, which came before, goes on; and it comes by itself once that is put right."""
    async with wired(secured(broker), believed) as neighbour:
        if certificate := getattr(Cure(authority, shown, believed), wrong)():
            broker.reload()
            await asyncio.wait_for(shows(broker, certificate), WITHIN)
        connecting = asyncio.create_task(
            Wire.connect(secured(broker), "late", authorities=believed)
        )
        await said(caplog, REFUSED[wrong])
        assert not connecting.done()
        await neighbour.publish("anywhere", b"")
        await neighbour._client.flush()
        put(believed, authority.pem)
        right = authority.signs(shown)
        broker.reload()
        await asyncio.wait_for(shows(broker, right), WITHIN)
        late = await asyncio.wait_for(connecting, WITHIN)
        try:
            assert late._client.shown == right
        finally:
            await late.close()


async def test_a_server_without_tls_gets_nothing_from_who_asked_for_it(
    tmp_path: Path, believed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As one in between would look who hides the offer: no identity is shown to it."""
    with running_broker(tmp_path / "plain") as plain:
        connecting = asyncio.create_task(Wire.connect(secured(plain), "test", authorities=believed))
        await said(caplog, "offers no TLS")
        assert not connecting.done()
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connecting


async def steadily(wire: Wire, over: asyncio.Event) -> int:
    """Store one number after the other, again where no ack came, as a robot's spool does."""
    n = 0
    while not over.is_set():
        with contextlib.suppress(Exception):
            await wire.store(SUBJECT, str(n).encode(), stream=EXPERIENCE)
            n += 1
        await asyncio.sleep(0.02)
    return n


async def test_leaf_and_authority_are_renewed_under_a_robot_at_work_and_nothing_is_lost(
    broker: Broker,
    authority: Authority,
    shown: Path,
    believed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    following, url, over = Authority("the next"), secured(broker), asyncio.Event()
    monkeypatch.setenv("SSL_CERT_FILE", str(believed))  # for the bare client that makes streams
    await make_streams(url)
    async with wired(url, believed) as robot:
        storing = asyncio.create_task(steadily(robot, over))
        leaf = authority.signs(shown)
        broker.reload()
        await asyncio.wait_for(shows(broker, leaf), WITHIN)
        # The next authority is known before it signs; the robot reads the file when it comes anew.
        put(believed, authority.pem + following.pem)
        leaf = following.signs(shown)
        broker.reload()
        await asyncio.wait_for(shows(broker, leaf), WITHIN)
        came = asyncio.Event()
        robot.on_reconnect(came.set)
        broker.kill()
        broker.start()
        await asyncio.wait_for(came.wait(), WITHIN)
        assert robot._client.shown == leaf
        put(believed, following.pem)
        await robot._client.force_reconnect()
        await robot.ready()
        over.set()
        stored = await storing
        held: set[int] = set()
        async with asyncio.timeout(WITHIN):
            while len(held) < stored:
                found = await robot.fetch(EXPERIENCE, names.LEARNER_CONSUMER, batch=500, timeout=10)
                held |= {int(one.data) for one in found}
                for one in found:
                    await one.ack()
    assert stored > 0
    # The last one may have landed though its ack did not come.
    assert set(range(stored)) <= held <= set(range(stored + 1))
