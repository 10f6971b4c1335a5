"""A network between programs and a server, as a TCP proxy that is cut, falls silent and heals."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Harm(enum.Enum):
    """What becomes of the network."""

    CUT = "cut"  # connections are reset, new ones refused
    SILENT = "silent"  # nothing arrives any more; what was sent arrives when it heals
    FORGOTTEN = "forgotten"  # … or never: the connections of before are dead and do not know it
    DEAF = "deaf"  # what the server says is lost until it heals
    MUTE = "mute"  # what the programs say is lost until it heals


_STOPS = {
    Harm.SILENT: {"up", "down"},
    Harm.FORGOTTEN: {"up", "down"},
    Harm.DEAF: {"down"},
    Harm.MUTE: {"up"},
}


class Cable:
    """From a port of its own to another one on loopback."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._port = 0
        self._lines: set[asyncio.Task[None]] = set()
        self._harm: Harm | None = None
        self._healthy = asyncio.Event()
        self._healthy.set()
        self._generation = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def harm(self, how: Harm) -> None:
        """From now on until `heal`."""
        self._harm = how
        self._healthy.clear()
        if how is Harm.CUT:
            await self._close()

    async def heal(self) -> None:
        """All is well; where connections were forgotten, for new ones."""
        if self._harm is Harm.FORGOTTEN:
            self._generation += 1
        self._harm = None
        if self._server is None:
            await self._open()
        self._healthy.set()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        await self._open()
        try:
            yield self
        finally:
            await self._close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for line in self._lines:
            line.cancel()
        if self._lines:
            await asyncio.wait(self._lines)
        for _ in range(2):
            await asyncio.sleep(0)  # what was closed last is gone a turn later

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        generation = self._generation
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._healthy.wait()  # a first packet that is lost is sent again
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ways = [
                asyncio.create_task(self._pump("up", reader, back, generation)),
                asyncio.create_task(self._pump("down", there, writer, generation)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                back.transport.abort()
                await asyncio.wait(ways)
        writer.transport.abort()
        self._lines.discard(task)

    async def _pump(
        self,
        way: str,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        generation: int,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                while self._harm in _STOPS and way in _STOPS[self._harm]:
                    await self._healthy.wait()
                if generation != self._generation:
                    await asyncio.Event().wait()  # nobody is told, not even of the end
                sink.write(data)
                await sink.drain()
