"""The API server, as the node needs it: plain JSON, and a watch that heals itself."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

JSON = "application/json"
STRATEGIC = "application/strategic-merge-patch+json"
GONE = 410
TOO_MANY_REQUESTS = 429
WATCH_SECONDS = 300  # the server closes the watch then, and we ask for the next one
RETRY_SECONDS = 0.5
LARGEST_LINE = 4 * 2**20  # bytes: etcd takes objects of 1.5 MiB, JSON may be longer

Json = dict[str, Any]
logger = logging.getLogger(__name__)


class ApiError(Exception):
    """The server refused; ``status`` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One connection pool to the server a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self.server: str = cluster["server"]
        self.ca: bytes = base64.b64decode(cluster["certificate-authority-data"])
        self._token: str = document["users"][0]["user"]["token"]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector, headers = self._connection()
        self._session = aiohttp.ClientSession(
            self.server,
            connector=connector,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=30),
            read_bufsize=LARGEST_LINE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **params: str) -> Json:
        return await self._request("GET", path, params=params)

    async def text(self, path: str, **params: str) -> str:
        """An answer that is no object: logs, metrics."""
        async with self._open().get(path, params=params) as response:
            answer = await response.text()
            if response.status >= 400:  # noqa: PLR2004
                raise ApiError(response.status, f"GET {path}: {response.status} {answer}")
            return answer

    async def create(self, path: str, body: Json) -> Json:
        return await self._request("POST", path, body)

    async def update(self, path: str, body: Json) -> Json:
        return await self._request("PUT", path, body)

    async def patch(self, path: str, body: Json) -> Json:
        return await self._request("PATCH", path, body, content_type=STRATEGIC)

    async def delete(self, path: str, body: Json) -> Json:
        return await self._request("DELETE", path, body)

    async def watch(self, path: str, **params: str) -> AsyncIterator[tuple[str, Json]]:
        """Every change for ever: ("LISTED", list) first and after each gap, then the events."""
        version = ""
        while True:
            try:
                if not version:
                    listed = await self.get(path, **params)
                    version = listed["metadata"]["resourceVersion"]
                    yield "LISTED", listed
                async for kind, changed in self._events(path, version, params):
                    version = changed["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield kind, changed
            except ApiError as error:
                if error.status != GONE:
                    # A kind that was installed a moment ago answers so; it is no news.
                    level = logging.INFO if error.status == TOO_MANY_REQUESTS else logging.WARNING
                    logger.log(level, "watch of %s: %s; again from a fresh list", path, error)
                    await asyncio.sleep(RETRY_SECONDS)
                version = ""  # too old, or in doubt: list anew
            except (aiohttp.ClientError, TimeoutError) as error:
                logger.warning("watch of %s: %r; again in %s s", path, error, RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)

    async def _events(
        self, path: str, version: str, params: dict[str, str]
    ) -> AsyncIterator[tuple[str, Json]]:
        query = {
            **params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 30)
        async with self._open().get(path, params=query, timeout=timeout) as response:
            if response.status >= 400:  # noqa: PLR2004
                raise ApiError(response.status, await response.text())
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    failure = event["object"]
                    raise ApiError(failure.get("code", 500), failure.get("message", "watch failed"))
                yield event["type"], event["object"]

    async def _request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        params: dict[str, str] | None = None,
        content_type: str = JSON,
    ) -> Json:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._open().request(
            method, path, data=data, params=params, headers=headers
        ) as response:
            text = await response.text()
            answer: Json = json.loads(text) if text.startswith("{") else {"message": text}
            if response.status >= 400:  # noqa: PLR2004
                message = answer.get("message", text)
                raise ApiError(response.status, f"{method} {path}: {response.status} {message}")
            return answer

    def _connection(self) -> tuple[aiohttp.BaseConnector, dict[str, str]]:
        """How to reach the server, and the headers by which it knows us."""
        context = ssl.create_default_context(cadata=self.ca.decode())
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        return connector, {"Authorization": f"Bearer {self._token}"}

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            message = "the API client is closed: use it in an `async with` block"
            raise RuntimeError(message)
        return self._session
