"""A proxy before the API server under which watches fall silent, as on a half-open connection."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import yaml

from fleet_cli.local.cluster import LocalCluster


class ApiProxy:
    """Plain HTTP on loopback; what the caller says, its token included, goes through as it is."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._to = urlsplit(cluster.server)
        self._tls = ssl.create_default_context(cafile=str(cluster.ca))
        self._silent = False
        self._watches: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, cluster: LocalCluster, kubeconfig: Path) -> AsyncIterator[Self]:
        """Runs, and writes a kubeconfig that leads through it."""
        proxy = cls(cluster)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1")
        host, port = server.sockets[0].getsockname()
        _lead(cluster.kubeconfig, kubeconfig, f"http://{host}:{port}")
        try:
            yield proxy
        finally:
            server.close()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def silence(self) -> None:
        """From now on no watch brings anything; all else is answered, and connections stand."""
        self._silent = True

    def heal(self) -> None:
        """Silent watches end, as those of a dead connection do at last; new ones work."""
        self._silent = False
        for writer in self._watches:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        back: asyncio.StreamWriter | None = None
        try:
            there, back = await asyncio.open_connection(
                self._to.hostname, self._to.port, ssl=self._tls
            )
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._ask(reader, back, writer))
                pumps.create_task(self._answer(there, writer))
        except* OSError:  # one side is gone
            pass
        finally:
            self._watches.discard(writer)
            # Aborted, not closed: a farewell that waits for the other side outlives the test.
            if back is not None:
                back.transport.abort()
            writer.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, who: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(2**16):
            # Our callers send a request's head at once, and nothing else on a watch's connection.
            if data.startswith(b"GET ") and b"watch=true" in data.partition(b"\r\n")[0]:
                self._watches.add(who)
            to.write(data)
            await to.drain()
        raise ConnectionResetError

    async def _answer(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            if not (self._silent and to in self._watches):
                to.write(data)
                await to.drain()
        raise ConnectionResetError


def _lead(source: Path, to: Path, server: str) -> None:
    document = yaml.safe_load(source.read_text())
    document["clusters"][0]["cluster"] = {"server": server}
    to.write_text(yaml.safe_dump(document))
