"""Tells the API server how a pod is, when that changed, and removes it at its end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from fleet_cli.local.node.api import Api, ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet_cli.local.node.api import Json

RETRY_SECONDS = 1.0
GONE, CONFLICT = 404, 409
logger = logging.getLogger(__name__)


@dataclass
class Reporter:
    """The writer of one pod's status."""

    api: Api
    path: str  # of the pod
    uid: str
    status: Callable[[Json], Json]  # the status now, from the one last sent
    sent: Json
    silent: bool  # it ended before this run of the node: its status is history
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        self._dirty.set()

    async def run(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if not await self._try(self._report):
                self._dirty.set()

    async def finish(self, deleted: Callable[[], bool]) -> None:
        """The last status, then the object goes: a Job counts a pod once it saw how it ended."""
        while not deleted() and not await self._try(self._report_and_remove):
            continue

    async def _try(self, attempt: Callable[[], Awaitable[None]]) -> bool:
        """True when it is settled, be it that nobody is left to be told."""
        try:
            await attempt()
        except ApiError as error:
            if error.status in {GONE, CONFLICT}:
                return True
            logger.warning("%s; again in %s s", error, RETRY_SECONDS)
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.warning("%s: %r; again in %s s", self.path, error, RETRY_SECONDS)
        else:
            return True
        await asyncio.sleep(RETRY_SECONDS)
        return False

    async def _report(self) -> None:
        status = self.status(self.sent)
        if self.silent or status == self.sent:
            return
        # The uid makes it a conflict to write the status of a namesake that came after.
        body = {"metadata": {"uid": self.uid}, "status": status}
        await self.api.patch(f"{self.path}/status", body)
        self.sent = status

    async def _report_and_remove(self) -> None:
        await self._report()
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self.api.delete(self.path, body)
