"""Brokers that show a certificate, good ones and others."""

import asyncio
import base64
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.trust import PrivateKey
from fleet_operator.decide import x509
from helpers.identity import closed_broker
from helpers.kube import Kube
from helpers.nats import Broker

DAY = 24 * 3600
HOSTS = ("localhost", "127.0.0.1")


class Authority:
    """Signs what servers show."""

    def __init__(self, whose: str = "test") -> None:
        now = int(time.time())
        self._key = PrivateKey.generate()
        self.certificate = x509.authority(self._key, whose, now - DAY, now + 3650 * DAY)
        self.pem = self.certificate.pem

    def signs(
        self,
        folder: Path,
        hosts: Sequence[str] = HOSTS,
        *,
        begins: float = -3600,
        ends: float = 90 * DAY,
    ) -> bytes:
        """Put a fresh certificate and its key where a server finds them; dates are from now."""
        now, key = int(time.time()), PrivateKey.generate()
        span = now + int(begins), now + int(ends)
        made = x509.server(key, hosts, self._key, self.certificate, *span)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tls.crt").write_text(made.pem)
        (folder / "tls.key").write_text(x509.private(key))
        return made.der


def settings(folder: Path) -> str:
    """A server's configuration by which it shows what lies in the folder."""
    return (
        f'tls {{ cert_file: "{folder}/tls.crt", key_file: "{folder}/tls.key", '
        'min_version: "1.3" }\n'
    )


@contextmanager
def sealed_broker(folder: Path) -> Iterator[Broker]:
    """Takes nobody without an identity, and waits for its certificate: start it when it is there.

    Its address is known already.
    """
    Authority().signs(folder / "certificate")
    with closed_broker(folder, more=settings(folder / "certificate")) as broker:
        broker.kill()
        yield broker


async def as_its_node_does(kube: Kube, folder: Path, *, after: bytes = b"") -> bytes:
    """Show a broker the certificate that the operator makes, once it is another (DER)."""

    def there(found: Json) -> bool:
        return entry(found, "tls.crt") != after

    def entry(found: Json, name: str) -> bytes:
        return base64.b64decode(found["data"][name])

    found = await kube.until("secrets", names.NATS_TLS, there, 60)
    for name in ("tls.crt", "tls.key"):
        put(folder / "certificate" / name, entry(found, name))
    return entry(found, "tls.crt")


async def believed(kube: Kube) -> str:
    """Whose signature on a broker's certificate is taken in the namespace."""
    found = await kube.get("configmaps", names.NATS_CA)
    return str(found["data"][names.CA])


def put(path: Path, content: bytes | str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextmanager
def tls_broker(folder: Path) -> Iterator[Broker]:
    """Shows what lies in the folder ``certificate`` of it, and takes nobody without TLS."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats.conf"
    config.write_text(settings(folder / "certificate"))
    with Broker(folder / "store", "-c", str(config)) as broker:
        yield broker


def secured(broker: Broker) -> str:
    """Its URL for those who go on with TLS only."""
    return broker.url.replace("nats://", "tls://")


async def shows(broker: Broker, certificate: bytes) -> None:
    """Returns when whoever comes is shown this one (DER); looks at nothing else of it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    at, found = urlsplit(broker.url), b""
    while found != certificate:
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            await reader.readline()
            await writer.start_tls(context)
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # the server tells nobody that it looked at its files


async def said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Returns when it was logged."""
    async with asyncio.timeout(60):
        while words not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # a log tells nobody
