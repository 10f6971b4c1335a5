"""What changes while one looks: lines as they change, or one screen that is drawn anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, TypeVar

from rich.live import Live
from rich.text import Text

from fleet_cli.oncall.tables import plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rich.console import Console

    from fleet_cli.oncall.views import View
    from fleet_cli.oncall.world import World

V = TypeVar("V", bound="View")
REDRAWN = 1.0  # seconds between two pictures when nothing changes: ages go on


async def screen(
    worlds: AsyncIterator[World],
    view: Callable[[World], V],
    lay: Callable[[V], Sequence[str]],
    console: Console,
    *,
    as_json: bool,
) -> None:
    """Until the object is gone: a screen on a terminal, else a block or a JSON line a change."""
    if not console.is_terminal or as_json:
        async for world in worlds:
            shown = view(world)
            lines = [json.dumps(shown.document())] if as_json else [*map(plain, lay(shown)), ""]
            # As it is: what a message has in brackets is no style of ours.
            told = "\n".join(lines)
            console.print(told, soft_wrap=True, highlight=False, markup=False, emoji=False)
        return
    with Live(console=console, auto_refresh=False) as live:
        async for world in kept_fresh(worlds):
            live.update(styled(lay(view(world))), refresh=True)


async def kept_fresh(worlds: AsyncIterator[World]) -> AsyncIterator[World]:
    """Each world as it comes, and the last one again every second, with the time moved on."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[World | None] = asyncio.Queue()

    async def read() -> None:
        # One task from end to end: what is opened inside belongs to the task that opened it.
        try:
            async for world in worlds:
                news.put_nowait(world)
                await news.join()  # until it is drawn: what changes meanwhile is one more world
        finally:
            news.put_nowait(None)

    reading = asyncio.create_task(read())
    last: tuple[World, float] | None = None
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REDRAWN):
                    world = await news.get()
                    news.task_done()
                    if world is None:
                        break
                    last = world, loop.time()
            if last is not None:
                world, at = last
                yield world._replace(now=world.now + loop.time() - at)
        await reading  # for its fault
    finally:
        reading.cancel()
        await asyncio.wait({reading})


def styled(lines: Sequence[str]) -> Text:
    """Headings are bold, trouble is red."""
    text = Text()
    for line in lines:
        style = "red" if line.startswith("  !") else "" if line.startswith(" ") else "bold"
        text.append(f"{plain(line)}\n", style=style)
    return text
