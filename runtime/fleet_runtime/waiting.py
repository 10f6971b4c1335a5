"""Waiting with a limit, without losing a cancellation on the way."""

from __future__ import annotations

import asyncio


async def event_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False when it was not set in time.

    Before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes with the event.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
