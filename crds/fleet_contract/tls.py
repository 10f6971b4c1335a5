"""How a program of ours makes sure which NATS server it speaks to. Alike in all of them.

The client library takes whatever the server offers: where the URL says ``tls`` and somebody in
between hides the offer, it goes on in the open. It keeps one form of what it trusts until it ends,
and after a certificate that it refused it waits for ever for the end of that connection.
``Verifying`` is put before its client and does otherwise.
"""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fleet_contract import names
from fleet_contract.names import Env

_EXPIRED, _NOT_YET = 10, 9  # OpenSSL's numbers
_NAMES = {62, 64}
_STRANGERS = {2, 18, 19, 20, 21}


class Refused(OSError):
    """It is not shown to be the server that we were told of; the message says what to do."""


def context(authorities: str) -> ssl.SSLContext:
    """Takes what one of these has signed (PEM); where there is none, what the machine takes.

    Raises ``Refused`` where they cannot be read.
    """
    try:
        return ssl.create_default_context(cadata=authorities or None)
    except ssl.SSLError as fault:
        raise Refused(
            f"{Env.NATS_CA}: it holds no certificate that can be read ({fault.reason}): it is the "
            "PEM of the authority that signed the server's"
        ) from fault


def in_file(path: Path | None) -> str:
    """What lies there now; empty where there is nothing, or nobody named it."""
    try:
        return path.read_text() if path else ""
    except (OSError, ValueError):
        return ""


def in_object(found: Mapping[str, Any] | None) -> str:
    """What the ConfigMap holds; empty where there is none."""
    return str(((found or {}).get("data") or {}).get(names.CA, ""))


def words(fault: ssl.SSLError, host: str, known: str) -> str:
    """For people; ``known`` says whose word was taken."""
    if not isinstance(fault, ssl.SSLCertVerificationError):
        return f"no TLS with {host} ({fault.reason or fault}): is it a NATS server with TLS?"
    code = fault.verify_code
    if code == _EXPIRED:
        return (
            f"the certificate of {host} has expired: the operator renews its own while it is at "
            "work, yours is to be renewed; the server must load it (docs/identity.md)"
        )
    if code == _NOT_YET:
        return f"the certificate of {host} is not good yet: compare the clocks of the two machines"
    if code in _NAMES:
        return (
            f"the certificate shown is not for {host} ({fault.verify_message}): correct the URL, "
            f"or let the operator put that name into it by {Env.NATS_NAMES}"
        )
    why = "" if code in _STRANGERS else f" ({fault.verify_message})"
    return (
        f"the certificate of {host} is signed by nobody we know{why}: {known}. Somebody may be in "
        "between; else give this program the authority that signed it (docs/identity.md)"
    )


class Verifying:
    """Before a client of nats-py: ``class Ours(Verifying, Client)``."""

    authorities: Callable[[], str] = staticmethod(str)
    """PEM of who may sign the server's certificate, asked at each connect; empty: the machine's."""
    known: str = f"{Env.NATS_CA} names no file, so the machine's authorities count"
    """Whose word is taken, in words."""

    _current_server: Any
    _server_info: dict[str, Any]
    _transport: Any
    is_closed: bool
    is_reconnecting: bool

    @property
    def ssl_context(self) -> ssl.SSLContext:
        return context(self.authorities())

    @property
    def server_id(self) -> str:
        """What the server that we are connected to calls itself."""
        return str(self._server_info.get("server_id", ""))

    @property
    def shown(self) -> bytes | None:
        """The certificate that the server showed (DER), None where it showed none."""
        writer = getattr(self._transport, "_io_writer", None)
        handshake = writer and writer.get_extra_info("ssl_object")
        return handshake.getpeercert(binary_form=True) if handshake else None

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        uri = self._current_server.uri
        if initial_connection and uri.scheme == "tls" and not info.get("tls_required"):
            raise Refused(
                f"{uri.hostname} offers no TLS, or somebody in between hides it: give the server a "
                "certificate; where the network is yours alone, write nats:// in its URL"
            )
        await super()._process_info(info, initial_connection)  # type: ignore[misc]

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()  # type: ignore[misc]
        except BaseException as fault:
            self._abort()
            if hasattr(self._transport, "_io_writer"):  # its end would be awaited for ever
                self._transport._io_writer = None  # noqa: SLF001 - no other way
            if isinstance(fault, ssl.SSLError):
                raise Refused(
                    words(fault, self._current_server.uri.hostname, self.known)
                ) from fault
            raise

    async def _process_op_err(self, fault: Exception) -> None:
        """A dead server does not answer a goodbye, and TLS would wait half a minute for it."""
        if not (self.is_closed or self.is_reconnecting) and self.shown:
            self._abort()
        await super()._process_op_err(fault)  # type: ignore[misc]

    def _abort(self) -> None:
        for name in ("_io_writer", "_bare_io_writer"):
            if (writer := getattr(self._transport, name, None)) is not None:
                writer.transport.abort()
