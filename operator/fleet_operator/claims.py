"""Telling a NATS server of an account, as its administrator: a connection for one question."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client

from fleet_contract import names, tls
from fleet_contract.errors import Retry
from fleet_contract.identity import ADMINISTRATOR, Passport
from fleet_contract.names import Identity

WITHIN = 5.0  # seconds
GOODBYE = 1.0  # seconds
RELOADED_WITHIN = 1.0  # seconds

logger = logging.getLogger(__name__)


class _Client(tls.Verifying, Client):
    known = f"ConfigMap {names.NATS_CA} says whose signature is taken, else the machine does"


async def tell(
    url: str,
    administrator: Passport,
    account: str,
    *,
    authorities: str = "",
    stale: Callable[[bytes | None], bool] = lambda _: False,
) -> None:
    """The server knows this form of an account, and has put out who is out. Raises ``Retry``.

    ``stale`` is shown its certificate; where that is not what its files hold it reads them anew.
    """
    said = ""

    async def failed(fault: Exception) -> None:
        nonlocal said
        said = str(fault)

    client = _Client()
    client.authorities = lambda: authorities
    try:
        async with asyncio.timeout(WITHIN):
            await client.connect(
                url.split(","),
                name="fleetloop-administrator",
                allow_reconnect=False,
                error_cb=failed,
                inbox_prefix=names.inbox(Identity.OPERATOR, ADMINISTRATOR),
                user_jwt_cb=lambda: bytearray(administrator.token.encode()),
                signature_cb=administrator.prove,
            )
            answer = await client.request(names.CLAIMS_UPDATE, account.encode(), timeout=WITHIN)
            heard = json.loads(answer.data)
            if heard.get("error"):
                raise Retry(
                    f"NATS at {names.shown(url)} does not take our account: {heard['error']}"
                )
            if stale(client.shown):
                await _look_anew(client)
    except (OSError, TimeoutError, ValueError, nats.errors.Error) as fault:
        raise Retry(
            f"NATS at {names.shown(url)} does not take our account ({said or repr(fault)}): is it "
            f"there, and started with the root of Secret {names.NATS_KEYS} (ConfigMap "
            f"{names.NATS_SERVER})? "
            "docs/identity.md says what a broker of your own needs"
        ) from fault
    finally:
        # The library waits for ever for the end of a connection whose certificate it refused.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), GOODBYE)


async def _look_anew(client: _Client) -> None:
    """The server reads its files. Where it does not it goes on as it is, and is asked again."""
    why = ""
    try:
        answer = await client.request(names.reload(client.server_id), timeout=RELOADED_WITHIN)
        why = str(json.loads(answer.data).get("error") or "")
    except (TimeoutError, ValueError, nats.errors.Error) as fault:
        why = repr(fault)
    if why:
        logger.warning("NATS does not read its files anew, a newer certificate, say: %s", why)
