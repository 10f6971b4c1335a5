"""What changes while one looks: lines as they change, or one screen that is drawn anew."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, TypeVar

from rich.live import Live
from rich.text import Text

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
            if as_json:
                console.print(json.dumps(shown.document()), soft_wrap=True, highlight=False)
            else:
                console.print("\n".join([*lay(shown), ""]), soft_wrap=True, highlight=False)
        return
    with Live(console=console, auto_refresh=False) as live:
        async for world in kept_fresh(worlds):
            live.update(styled(lay(view(world))), refresh=True)


async def kept_fresh(worlds: AsyncIterator[World]) -> AsyncIterator[World]:
    """Each world as it comes, and the last one again every second, with the time moved on."""
    loop = asyncio.get_running_loop()
    following = asyncio.ensure_future(anext(worlds, None))
    last: tuple[World, float] | None = None
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=REDRAWN)
            if done:
                world = following.result()
                if world is None:
                    return
                last = (world, loop.time())
                following = asyncio.ensure_future(anext(worlds, None))
            if last is not None:
                world, at = last
                yield world._replace(now=world.now + loop.time() - at)
    finally:
        following.cancel()


def styled(lines: Sequence[str]) -> Text:
    """Headings are bold, trouble is red."""
    text = Text()
    for line in lines:
        style = "red" if line.startswith("  !") else "" if line.startswith(" ") else "bold"
        text.append(f"{line}\n", style=style)
    return text
