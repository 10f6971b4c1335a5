"""Lists and the one screen, once or for as long as one looks."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from fleet_cli.oncall import latency, live, look, tables, text, views, world
from fleet_cli.oncall import status as screen
from fleet_cli.oncall.options import Format, show
from fleet_contract.names import Kind
from fleet_contract.resources import FleetTrainingJob, RobotActor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_cli.kube import Kube, Object

AGELESS = {"age": 0.0, "last_seen": None}
"""What changes by itself is no news."""


async def jobs(kube: Kube, name: str, output: Format, *, watch: bool) -> None:
    """One job or all."""

    def view(found: Sequence[Object]) -> views.Jobs:
        now = time.time()
        items = [look.job(world.read(FleetTrainingJob, one), now) for one in found]
        return views.Jobs(items=items)

    if name:
        await kube.get(Kind.TRAINING_JOB, name)
    selectors = {"fieldSelector": f"metadata.name={name}"} if name else {}
    if watch:
        await _changes(kube, Kind.TRAINING_JOB, selectors, view, text.jobs, output)
        return
    listed = view(await kube.list(Kind.TRAINING_JOB, **selectors))
    none = [f"no job in namespace {kube.namespace}: `kubectl apply -f` one"]
    show(listed, text.jobs(listed.items) if listed.items else none, output)


async def robots(kube: Kube, job: str, output: Format, *, watch: bool) -> None:
    """Those of one job or all."""

    def view(found: Sequence[Object]) -> views.RobotList:
        now = time.time()
        items = [look.robot(world.read(RobotActor, one), now) for one in found]
        return views.RobotList(items=items)

    selectors = {"fieldSelector": f"spec.job={job}"} if job else {}
    if watch:
        await _changes(kube, Kind.ROBOT_ACTOR, selectors, view, text.robots, output)
        return
    listed = view(await kube.list(Kind.ROBOT_ACTOR, **selectors))
    none = [f"no robot in namespace {kube.namespace}: `fleet robots enroll` makes one known"]
    show(listed, text.robots(listed.items) if listed.items else none, output)


async def status(kube: Kube, job: str, output: Format, *, watch: bool) -> None:
    """One job on one screen."""
    if not watch:
        found, known = await asyncio.gather(world.observe(kube, job), latency.measured(kube, job))
        seen = screen.status(found, known)
        show(seen, text.status(seen), output)
        return
    known = await latency.measured(kube, job)
    await live.screen(
        world.follow(kube, job),
        lambda world: screen.status(world, known),
        text.status,
        Console(),
        as_json=output is Format.JSON,
    )


async def _changes(
    kube: Kube,
    kind: Kind,
    selectors: dict[str, str],
    view: Callable[[Sequence[Object]], views.Jobs | views.RobotList],
    lay: Callable[..., list[str]],
    output: Format,
) -> None:
    """All of them at first, then each that looks otherwise, with the head once: as kubectl does.

    Only what changed is read anew: a large fleet changes several times a second.
    """
    seen: dict[str, Object] = {}
    items: dict[str, views.Job | views.Robot] = {}
    shown: dict[str, str] = {}
    headed = output is not Format.TEXT
    async for known in kube.follow(kind, **selectors):
        fresh = view([one for name, one in known.items() if one is not seen.get(name)]).items
        news = {one.name: one for one in fresh}
        items = {name: news.get(name) or items[name] for name in sorted(known)}
        head, *rows = lay(items.values())
        if not headed:
            typer.echo(head)
            headed = True
        told = {
            name: one.model_copy(update=AGELESS).model_dump_json() for name, one in news.items()
        }
        for (name, one), row in zip(items.items(), rows, strict=True):
            if name in told and told[name] != shown.get(name):
                typer.echo(
                    tables.plain(row) if output is Format.TEXT else json.dumps(one.document())
                )
        seen, shown = known, {name: told.get(name) or shown[name] for name in known}
