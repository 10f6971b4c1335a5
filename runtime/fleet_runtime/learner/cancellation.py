"""Ending tasks that do not end at the first word."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)


def demand_wanted() -> None:
    """Raise the cancellation that a client swallowed while it was connecting."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def cancel(tasks: Sequence[asyncio.Future[None]], *, every: float, within: float) -> None:
    """Cancel every `every` seconds until all have ended, for at most `within` seconds.

    Once is not enough: a wait with a timeout that is answered at that moment swallows it.
    """
    waiting = set(tasks)
    for _ in range(max(1, int(within / every))):
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(tasks, timeout=every)
        if not waiting:
            return
    log.warning("%d tasks would not end; leaving them", len(waiting))
