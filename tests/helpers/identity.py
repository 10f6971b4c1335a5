"""A broker that takes nobody without an identity, and identities for it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from nats.aio.client import Client

from fleet_cli.local.node.api import Json
from fleet_contract import identity, names, tls
from fleet_contract.identity import Account, Root, User
from fleet_contract.names import Identity
from fleet_contract.trust import PrivateKey
from fleet_operator.decide.identities import ACCOUNT, entries_of, read
from helpers.kube import Kube
from helpers.nats import Broker

ROOT = Root(PrivateKey.generate(), PrivateKey.generate())
HOUR = 3600


def account() -> Account:
    return Account(PrivateKey.generate(), {role: PrivateKey.generate() for role in Identity})


@contextmanager
def closed_broker(folder: Path, root: Root = ROOT, more: str = "") -> Iterator[Broker]:
    """A nats-server under our root; it knows no account yet. ``more``: of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats.conf"
    told = identity.server_settings(root, str(folder / "accounts"), int(time.time()))
    config.write_text(told + more)
    with Broker(folder / "store", "-c", str(config)) as broker:
        yield broker


def made(user: User, of: Account, *, key: PrivateKey | None = None, within: int = HOUR) -> str:
    """A credentials file's text."""
    now, key = int(time.time()), key or PrivateKey.generate()
    return identity.credentials(identity.user_jwt(user, key, of, now, now + within), key)


class Guest(tls.Verifying, Client):
    """Leaves when it is told to."""

    ended: asyncio.Event


@asynccontextmanager
async def connected(
    url: str,
    text: str,
    inbox: str,
    refusals: list[str] | None = None,
    authorities: str = "",
    host: str = "",
) -> AsyncIterator[Guest]:
    """A bare connection with these credentials; ``refusals`` gets what the server says.

    ``host``: who its certificate is for, where the URL calls it otherwise.
    """
    client, said = Guest(), [] if refusals is None else refusals
    client.authorities = lambda: authorities
    ended = asyncio.Event()

    async def failed(fault: Exception) -> None:
        said.append(str(fault))

    async def closed() -> None:
        ended.set()

    who = identity.passport_of(text)
    await client.connect(
        url,
        error_cb=failed,
        closed_cb=closed,
        allow_reconnect=False,
        inbox_prefix=inbox,
        tls_hostname=host or None,
        user_jwt_cb=lambda: bytearray(who.token.encode()),
        signature_cb=who.prove,
    )
    client.ended = ended
    try:
        yield client
    finally:
        await client.close()


async def turned_away(url: str, text: str, authorities: str = "") -> str:
    """What the server says to somebody with these credentials; empty where it lets him in.

    By hand: the library leaves the sockets of refused connections to the collector.
    """
    who = identity.passport_of(text)
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        greeting = json.loads((await reader.readline()).removeprefix(b"INFO "))
        if at.scheme == "tls":
            await writer.start_tls(tls.context(authorities), server_hostname=at.hostname)
        proof = who.prove(greeting["nonce"]).decode()
        words = {"jwt": who.token, "sig": proof, "verbose": False, "pedantic": False}
        writer.write(f"CONNECT {json.dumps(words)}\r\nPING\r\n".encode())
        answer = (await asyncio.wait_for(reader.readline(), 30)).decode().strip()
        return "" if answer == "PONG" else answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def tell(url: str, token: str, root: Root = ROOT) -> str:
    """Let the server know an account; its answer."""
    now, key = int(time.time()), PrivateKey.generate()
    text = identity.credentials(identity.administrator_jwt(key, root, now, now + HOUR), key)
    inbox = names.inbox(Identity.OPERATOR, identity.ADMINISTRATOR)
    async with connected(url, text, inbox) as client:
        answer = await client.request(names.CLAIMS_UPDATE, token.encode(), timeout=10)
        return answer.data.decode()


async def entrust(kube: Kube) -> None:
    """Let the namespace's operator mint under our root."""
    root = dict(zip(names.NATS_ROOT, (key.reveal() for key in ROOT), strict=True))
    secret = {"metadata": {"name": names.NATS_KEYS}, "stringData": root}
    await kube.create("secrets", {"apiVersion": "v1", "kind": "Secret", **secret})


async def minted(kube: Kube, role: Identity, whose: str, *, after: str = "") -> str:
    """A credentials file that the operator made, another than ``after``, once it is there."""
    entry = names.user(role, whose)

    def there(found: Json) -> bool:
        return entries_of(found).get(entry, after) != after

    found = await kube.until("secrets", names.users(entry), there)
    return entries_of(found)[entry]


async def as_operator(kube: Kube) -> str:
    """One more identity of the operator's, from the keys that it made."""

    def all_there(found: Json) -> bool:
        return ACCOUNT in found["data"]

    keys = await kube.until("secrets", names.NATS_KEYS, all_there)
    return made(User(Identity.OPERATOR, names.FIELD_MANAGER), read(keys).account)
