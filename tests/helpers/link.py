"""A TCP relay that is a link: so many bytes a second, and cut in the midst if a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet_cli.local.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Work = Coroutine[object, object, None]

PIECE = 2**14  # bytes passed on at a time
BURST = 0.02  # seconds of the rate that a rested bucket gives at once


class Bucket:
    """Tokens are bytes. In one event loop."""

    def __init__(self, rate: float) -> None:
        """`rate`: bytes per second."""
        self._rate = rate
        self._spent_until = 0.0

    async def take(self, size: int) -> None:
        """Returns when so many bytes may have passed."""
        now = time.monotonic()
        self._spent_until = max(self._spent_until, now - BURST) + size / self._rate
        if (wait := self._spent_until - now) > 0:
            await asyncio.sleep(wait)


class Link:
    """All connections of a link share its rate, each way by itself."""

    def __init__(self, *, rate: float | None = None) -> None:
        """`rate`: bytes per second each way; None: as fast as it goes."""
        self.passed = 0
        """Bytes that came down so far."""
        self._news = threading.Condition()
        self.cut_at: int | None = None
        """When so many have come down in all, every connection ends, and none is taken until
        this is set anew."""
        self._up, self._down = (Bucket(rate) if rate else None for _ in range(2))
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self, *targets: int) -> Iterator[list[int]]:
        """The ports on loopback that lead to these."""
        ready, ports, stop = threading.Event(), list[int](), asyncio.Event()

        async def serve() -> None:
            async with contextlib.AsyncExitStack() as stack:
                for target in targets:
                    server = await asyncio.start_server(self._serve(target), LOOPBACK, 0)
                    await stack.enter_async_context(server)
                    ports.append(server.sockets[0].getsockname()[1])
                ready.set()
                await stop.wait()
                lines = asyncio.all_tasks() - {asyncio.current_task()}
                for task in lines:
                    task.cancel()
                await asyncio.gather(*lines, return_exceptions=True)
            for _ in range(2):
                await asyncio.sleep(0)  # what was closed last is gone a turn later

        thread = threading.Thread(target=lambda: self._loop.run_until_complete(serve()))
        thread.start()
        ready.wait()
        try:
            yield ports
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            self._loop.close()

    def reached(self, size: int, seconds: float) -> bool:
        """Whether so many bytes have come down, after a wait for them."""
        with self._news:
            return self._news.wait_for(lambda: self.passed >= size, seconds)

    @property
    def _is_cut(self) -> bool:
        return self.cut_at is not None and self.passed >= self.cut_at

    def _serve(self, target: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Work]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends = [writer]
            try:
                if self._is_cut:
                    return
                there, away = await asyncio.open_connection(LOOPBACK, target)
                ends.append(away)
                ways = [
                    asyncio.create_task(self._pass(reader, away, self._up)),
                    asyncio.create_task(self._pass(there, writer, self._down, down=True)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                for end in ends:
                    end.transport.abort() if self._is_cut else end.close()

        return serve

    async def _pass(
        self,
        source: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        bucket: Bucket | None,
        *,
        down: bool = False,
    ) -> None:
        while data := await source.read(PIECE):
            if bucket is not None:
                await bucket.take(len(data))
            if down:
                if self._is_cut:
                    return
                with self._news:
                    self.passed += len(data)
                    self._news.notify_all()
            to.write(data)
            await to.drain()
