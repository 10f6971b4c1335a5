"""A real nats-server for tests: a free port, its own store, killed and started again at will."""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from fleet_cli.local import binaries
from fleet_cli.local.ports import free_ports
from fleet_contract import names
from fleet_contract.names import Stream, StreamMeta
from fleet_operator.desired.streams import learner_consumer, streams


class Broker:
    """One nats-server process; its port and its data outlive `kill` and `start`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self._port = -1  # the server picks the first one itself
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Returns when the server takes connections."""
        program = binaries.resolve("nats-server")["nats-server"]
        arguments = ["-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", str(self.folder)]
        self._process = subprocess.Popen(
            [str(program), *arguments, *self._options], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if found := re.search(r"client connections on 127\.0\.0\.1:(\d+)", line):
                self._port = int(found[1])
            if "Server is ready" in line:
                break
        else:
            raise RuntimeError(f"nats-server did not start:\n{''.join(said)}")
        # Nobody wants the rest, but a full pipe would stop the server.
        self._drain = threading.Thread(target=self._process.stderr.read)
        self._drain.start()
        return self

    def kill(self) -> None:
        """kill -9, and the process is gone when this returns."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def reload(self) -> None:
        """It reads its files anew; connections stay."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGHUP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._drain.join()
            if self._process.stderr is not None:
                self._process.stderr.close()
            self._process = None


@contextmanager
def running_broker(folder: Path, *options: str) -> Iterator[Broker]:
    with Broker(folder, *options) as broker:
        yield broker


async def make_streams(
    url: str,
    job: str = "job",
    job_uid: str = "uid-1",
    namespace: str = "default",
    **experience: int,
) -> None:
    """The job's streams and the learner's durable, as the operator makes them.

    `experience` overrides fields of the experience stream, say `max_bytes`.
    """
    client = await connect(url)
    try:
        for config in streams(namespace, job, job_uid, "installation"):
            made = dict(config)
            made["metadata"] = {
                **config["metadata"],
                StreamMeta.GENERATION.value: secrets.token_hex(8),
            }
            if made["name"] == names.stream(job_uid, Stream.EXPERIENCE):
                made |= experience
            await client.jetstream().add_stream(StreamConfig(**made))
        await client.jetstream().add_consumer(
            names.stream(job_uid, Stream.EXPERIENCE), ConsumerConfig(**learner_consumer())
        )
    finally:
        await client.close()


async def lose_streams(url: str, job_uid: str = "uid-1") -> None:
    """Delete the job's streams and all they hold, as a lost disk would."""
    client = await connect(url)
    try:
        for kind in Stream:
            await client.jetstream().delete_stream(names.stream(job_uid, kind))
    finally:
        await client.close()


async def drop_streams(url: str, namespace: str) -> None:
    """Delete all streams of a test's namespace: each reserves room at the server they share."""
    client = await connect(url)
    try:
        for found in await client.jetstream().streams_info():
            if (found.config.metadata or {}).get(StreamMeta.NAMESPACE) == namespace:
                await client.jetstream().delete_stream(str(found.config.name))
    finally:
        await client.close()


async def connect(url: str) -> Client:
    client = Client()
    await client.connect(url)
    return client


async def streams_gone(connection: Client, uid: str) -> None:
    """Returns when the broker has none of a job's streams any more."""
    deleted = await connection.subscribe("$JS.EVENT.ADVISORY.STREAM.DELETED.*")
    while any(uid in str(one.config.name) for one in await connection.jetstream().streams_info()):
        with contextlib.suppress(nats.errors.TimeoutError):  # an advisory may be lost
            await deleted.next_msg(1)
    await deleted.unsubscribe()


@contextlib.contextmanager
def clustered(folder: Path, started: int = 3) -> Iterator[list[Broker]]:
    """Three servers that are one; so many of them run, and know of each other at first."""
    ports = free_ports(["0", "1", "2"])
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in [*ports.values()][:started])
    servers = [
        Broker(
            folder / name,
            *("--name", f"n{name}", "--cluster_name", "trial", "--routes", routes),
            *("--cluster", f"nats://127.0.0.1:{port}"),
        )
        for name, port in ports.items()
    ]
    with contextlib.ExitStack() as running:
        for server in servers[:started]:
            running.callback(server.kill)
            server.start()
        yield servers


@contextlib.asynccontextmanager
async def half_a_broker() -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """Its url and what happens there: it greets whoever comes, and never answers."""
    happened: asyncio.Queue[str] = asyncio.Queue()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"half","version":"2.0.0","max_payload":1048576}\r\n')
        await reader.readline()
        happened.put_nowait("came")
        await reader.read()
        happened.put_nowait("left")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield "nats://{}:{}".format(*server.sockets[0].getsockname()), happened
