"""The object store as a robot without keys sees it: it asks the clerk for each request, then makes
it by plain HTTP.

What the clerk grants is a request that whoever has it can make. So no URL of it is ever logged or
told: errors name the object.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import os
import secrets
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleet_contract.errors import Retry
from fleet_contract.messages import Ask, Grant, digest_of
from fleet_contract.names import Channel
from fleet_runtime.artifacts import MAX_BYTES, Missing, whole

if TYPE_CHECKING:
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.wire import Wire

ANSWER_WITHIN = 5.0
"""Seconds that the clerk may take."""
SILENT = 60.0
"""Seconds without a byte from the store."""
REMEMBERED = 64
"""Grants to fetch that are kept: a large file comes in pieces, one request after the other."""
_OVER, _ABSENT, _THERE, _PAST_END = 403, 404, 412, 416


class _Stay(urllib.request.HTTPRedirectHandler):
    """A grant is for one place."""

    def redirect_request(self, *_: Any) -> None:
        """Nowhere else."""


_OPENER = urllib.request.build_opener(_Stay)


class Clerk:
    """Asks on the robot's own subject and hears the answer there; belongs to the event loop."""

    def __init__(self, who: Identity, wire: Wire) -> None:
        self._who = who
        self._wire = wire
        self._waiting: dict[str, asyncio.Future[Grant]] = {}

    async def listen(self) -> None:
        """Before anything is asked."""
        await self._wire.subscribe(self._who.subject(Channel.GRANT), self._hear)

    async def ask(self, *, key: str = "", digest: str | None = None, size: int = 0) -> Grant:
        """Raises `Retry` where nobody answers, or what was asked for is refused."""
        ask = Ask(
            id=secrets.token_hex(8), job_uid=self._who.job_uid, key=key, digest=digest, size=size
        )
        answer = asyncio.get_running_loop().create_future()
        self._waiting[ask.id] = answer
        try:
            await self._wire.publish(self._who.subject(Channel.ASK), ask.encode())
            async with asyncio.timeout(ANSWER_WITHIN):
                grant: Grant = await answer
        except TimeoutError:
            raise Retry(
                "nobody lets this robot into the store: the clerk did not answer within "
                f"{ANSWER_WITHIN:g} s; see its pod"
            ) from None
        finally:
            del self._waiting[ask.id]
        if grant.fault:
            raise Retry(f"the clerk does not let this robot into the store: {grant.fault}")
        return grant

    async def _hear(self, _subject: str, data: bytes) -> None:
        grant = Grant.decode(data)
        waiting = self._waiting.get(grant.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(grant)


class Granted:
    """As `artifacts.Store`, as far as a robot needs it. Methods block: call them in a thread."""

    def __init__(self, url: str, owner: str) -> None:
        """`owner`: the robot, below whose name what it puts lies."""
        self.url = url
        self.owner = owner
        # Where this machine reaches the store, when it is not where the clerk does.
        self._endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        self._clerk: Clerk | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reads: dict[str, Grant] = {}

    def connect(self, clerk: Clerk) -> None:
        """From now on there is somebody to ask; in the event loop's thread."""
        self._clerk, self._loop = clerk, asyncio.get_running_loop()

    def get(self, key: str, digest: str | None = None, *, max_bytes: int = MAX_BYTES) -> bytes:
        """As `Store.get`."""
        return whole(self, key, digest, max_bytes)

    def read(self, key: str, start: int, end: int) -> bytes:
        """As `Store.read`."""
        span = {"Range": f"bytes={start}-{end - 1}"}
        for last in (False, True):
            grant = self._reads.get(key) or self._remember(key, self._ask(key=key))
            status, data = self._request(grant, "GET", span, most=end)
            if status == _OVER and not last:  # it was good for some time only
                self._reads.pop(key, None)
                continue
            break
        if status == http.client.PARTIAL_CONTENT:
            return data
        if status == http.client.OK:  # it does not know of ranges
            return data[start:end]
        if status == _PAST_END:
            return b""
        if status == _ABSENT:
            raise Missing(f"{key} is not in {self.url}")
        self._reads.pop(key, None)
        raise Retry(f"get {key} in {self.url}: the store answers {status}")

    def create(self, key: str, data: bytes) -> None:
        """As `Store.create`, of what is named by its digest: what lies there is the same."""
        digest = digest_of(data)
        grant = self._ask(digest=digest, size=len(data))
        if grant.key != key:
            raise Retry(f"the clerk would have {grant.key!r} put, this is {key}")
        status, _ = self._request(grant, "PUT", grant.headers, data)
        if status not in (http.client.OK, _THERE):
            raise Retry(f"create {key} in {self.url}: the store answers {status}")

    def delete(self, key: str) -> None:
        """A robot removes nothing."""
        raise Retry(f"{key} in {self.url} is not this robot's to remove")

    def _remember(self, key: str, grant: Grant) -> Grant:
        if len(self._reads) >= REMEMBERED:
            self._reads.pop(next(iter(self._reads)))
        self._reads[key] = grant
        return grant

    def _ask(self, *, key: str = "", digest: str | None = None, size: int = 0) -> Grant:
        if self._clerk is None or self._loop is None:
            raise Retry("nobody can be asked to let this robot into the store: no broker yet")
        asking = asyncio.run_coroutine_threadsafe(
            self._clerk.ask(key=key, digest=digest, size=size), self._loop
        )
        try:
            return asking.result(2 * ANSWER_WITHIN)
        except (TimeoutError, concurrent.futures.CancelledError):
            asking.cancel()
            raise Retry("this robot leaves; it asks for nothing more") from None

    def _request(
        self,
        grant: Grant,
        method: str,
        headers: dict[str, str],
        body: bytes | None = None,
        most: int = 0,
    ) -> tuple[int, bytes]:
        """The store's answer, whatever it is. Raises `Retry` where there is none."""
        said = f"{method} {grant.key} in {self.url}"
        headers = {"Content-Type": "application/octet-stream", **headers}
        try:
            url, host = self._where(grant.url)
            request = urllib.request.Request(url, body, headers | host, method=method)  # noqa: S310
            with _OPENER.open(request, timeout=SILENT) as answer:
                data = answer.read(most) if most else b""
                if len(data) < min(most, int(answer.headers.get("Content-Length", 0))):
                    raise http.client.IncompleteRead(data)
                return answer.status, data
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, b""
        except (OSError, ValueError, http.client.HTTPException) as fault:
            # Whatever else it says may hold the URL.
            why = fault.reason if isinstance(fault, urllib.error.URLError) else type(fault).__name__
            raise Retry(f"{said}: no answer ({why})") from None

    def _where(self, signed: str) -> tuple[str, dict[str, str]]:
        """The URL as this machine reaches it. Raises ValueError for what is none of a store."""
        at, here = urlsplit(signed), urlsplit(self._endpoint)
        if at.scheme not in {"http", "https"}:
            raise ValueError(at.scheme)
        if not here.netloc:
            return signed, {}
        # It was signed for the other name.
        return at._replace(scheme=here.scheme, netloc=here.netloc).geturl(), {"Host": at.netloc}
