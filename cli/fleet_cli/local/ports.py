"""Free ports on loopback, the same ones as last time where they are still free."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"


def free_ports(names: Iterable[str], preferred: Mapping[str, int] | None = None) -> dict[str, int]:
    """A distinct free port for each name; a preferred one where nobody holds it.

    All sockets stay open until the last port is known, so that no port is given out twice here.
    Somebody else can still take one before its owner binds it; the owner then says so and exits.
    """
    preferred = preferred or {}
    with ExitStack() as held:
        return {name: _reserve(held, preferred.get(name, 0)) for name in names}


def _reserve(held: ExitStack, port: int) -> int:
    for candidate in (port, 0):
        sock = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        # Connections of an earlier cluster in TIME_WAIT must not cost us its ports.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, candidate))
        except OSError:
            continue
        return int(sock.getsockname()[1])
    message = f"no free port on {LOOPBACK}: close some programs, then try again"
    raise OSError(message)
