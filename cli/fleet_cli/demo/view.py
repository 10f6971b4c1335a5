"""The demo on screen: a live table where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from fleet_cli.demo.story import Story

REFRESH = 0.5  # seconds between two pictures
LINE_EVERY = 5.0  # seconds between two plain lines
SILENT_AFTER = 5.0  # seconds without a heartbeat until a robot shows as silent
BAR = 24
LOG_LINES = 8


async def show(story: Story, clock: Callable[[], float], console: Console) -> None:
    """Draw until cancelled; the last state stays on screen."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            try:
                while True:
                    live.update(picture(story, clock()))
                    await asyncio.sleep(REFRESH)
            finally:
                live.update(picture(story, clock()), refresh=True)
    else:
        await _lines(story, clock, console)


async def _lines(story: Story, clock: Callable[[], float], console: Console) -> None:
    told, last_line = 0, -LINE_EVERY
    try:
        while True:
            told = _tell(story, told, console)
            if clock() - last_line >= LINE_EVERY:
                last_line = clock()
                console.print(line(story, last_line), highlight=False, soft_wrap=True)
            await asyncio.sleep(REFRESH)
    finally:
        _tell(story, told, console)  # how it ended


def _tell(story: Story, told: int, console: Console) -> int:
    """Print the log's entries from number ``told`` on; returns how many there are."""
    for at, text in story.log[told:]:
        console.print(f"{_time(at)}  * {text}", highlight=False, soft_wrap=True)
    return len(story.log)


def line(story: Story, now: float) -> str:
    """Everything that matters in one line of text."""
    rates = " ".join(f"{name}={_percent(task.rate)}" for name, task in story.tasks.items())
    versions = sorted(
        {beat.active.sequence for beat in story.robots.values() if beat.active is not None}
    )
    running = "/".join(f"v{sequence}" for sequence in versions) or "none"
    return (
        f"{_time(now)}  {story.chapter}: {rates} mean={_percent(story.mean)}"
        f" robots={_alive(story, now)} policy={running} {_learner(story)} | {_rollout(story)}"
    )


def picture(story: Story, now: float) -> RenderableType:
    """The live view."""
    head = Text.assemble(
        ("fleetloop demo", "bold"), f"   {_time(now)}   ", (story.chapter, "cyan"), "   ",
        _rollout(story),
    )  # fmt: skip
    traffic = _traffic(story)
    log = "\n".join(f"{_time(at)}  {text}" for at, text in story.log[-LOG_LINES:])
    return Panel(
        Group(
            head, Text(), _tasks(story, now), _robots(story, now),
            Text(_learner(story)), Text(traffic), Text(), Text(log, style="dim"),
        ),
        border_style="blue",
    )  # fmt: skip


def _tasks(story: Story, now: float) -> Table:
    table = Table("task", "success", "", "trend", "episodes", "takeovers", box=None, expand=False)
    for name, task in story.tasks.items():
        rate = task.rate or 0.0
        filled = round(rate * BAR)
        change = task.trend(now)
        arrow = "→" if abs(change) < 0.05 else ("↑" if change > 0 else "↓")  # noqa: PLR2004
        table.add_row(
            name,
            _percent(task.rate),
            "█" * filled + "░" * (BAR - filled),
            f"{arrow} {change:+.0%}",
            str(task.episodes),
            str(task.interventions),
        )
    return table


def _robots(story: Story, now: float) -> Table:
    table = Table("robot", "policy", "state", "task", "episodes", "spool", box=None, expand=False)
    for name, beat in sorted(story.robots.items()):
        silent = now - story.seen_at[name] > SILENT_AFTER
        table.add_row(
            name,
            f"v{beat.active.sequence}" if beat.active else "none",
            "silent" if silent else beat.state.value,
            beat.task,
            str(beat.episodes),
            str(beat.spool_depth),
            style="red" if silent else "",
        )
    return table


def _learner(story: Story) -> str:
    learner = story.learner
    if learner is None:
        return "learner: not heard of yet"
    steps = f"{learner.step}"
    if learner.step < learner.goal_step:
        steps += f"/{learner.goal_step}"
    return (
        f"learner: {learner.stage}, step {steps}, {learner.steps_per_second:.0f}/s,"
        f" {learner.episodes} episodes, {learner.published} published"
    )


def _traffic(story: Story) -> str:
    sent = sum(beat.bytes_sent for beat in story.robots.values())
    received = sum(beat.bytes_received for beat in story.robots.values())
    parts = [f"experience {_bytes(sent)} up", f"policies {_bytes(received)} down"]
    if story.learner is not None and story.learner.experience_latency is not None:
        parts.append(f"episode → sampleable {story.learner.experience_latency:.2f} s")
    if story.policy_latencies:
        parts.append(f"published → acting {median(story.policy_latencies):.1f} s")
    return "traffic: " + ", ".join(parts)


def _rollout(story: Story) -> str:
    if story.job is None:
        return "rollout: no job yet"
    status = story.job.status
    stable = f"v{status.stable.sequence}" if status.stable else "none"
    rollout = status.rollout
    if rollout.candidate is None:
        return f"rollout: {rollout.phase.value}, stable {stable}, {story.promotions} promoted"
    return (
        f"rollout: v{rollout.candidate.sequence} on {len(rollout.robots)} robot(s),"
        f" {rollout.successes}/{rollout.episodes} autonomous, stable {stable}"
    )


def _alive(story: Story, now: float) -> str:
    alive = sum(now - at <= SILENT_AFTER for at in story.seen_at.values())
    desired = story.job.spec.robots.simulated.replicas if story.job else len(story.robots)
    return f"{alive}/{desired}"


def _percent(rate: float | None) -> str:
    return "  - " if rate is None else f"{rate:4.0%}"


def _time(at: float) -> str:
    minutes, seconds = divmod(int(max(at, 0)), 60)
    return f"{minutes:02d}:{seconds:02d}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
