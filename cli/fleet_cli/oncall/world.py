"""What a command sees of a job: its objects, read together. Gathers, decides nothing."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import ValidationError

from fleet_cli.exits import Fault
from fleet_contract.names import Kind
from fleet_contract.resources import FleetTrainingJob, PolicyVersion, Resource, RobotActor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from fleet_cli.kube import Kube, Object

R = TypeVar("R", bound=Resource)


class World(NamedTuple):
    """One job and all that is its."""

    job: FleetTrainingJob
    robots: tuple[RobotActor, ...]
    versions: tuple[PolicyVersion, ...]
    now: float  # Unix seconds
    asked: str = ""  # the options by which it was found


def read(kind: type[R], found: Object) -> R:
    """An object of the API. Raises ``Fault`` where it is not as this program knows its kind."""
    try:
        return kind.model_validate(found)
    except ValidationError as fault:
        wrong = fault.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise Fault(
            f"{kind.kind_name} {found['metadata']['name']} is not as this program knows the kind "
            f"({where}: {wrong['msg']}): look whether program and cluster are of one version; "
            "docs/install.md tells what an upgrade leaves to people"
        ) from None


def made(
    job: Object,
    robots: Iterable[Object],
    versions: Iterable[Object],
    now: float | None = None,
    asked: str = "",
) -> World:
    """From the API's objects; versions of an earlier job of that name are left out."""
    owner = read(FleetTrainingJob, job)
    uid = owner.metadata.uid
    known = [read(RobotActor, one) for one in robots]
    ours = [read(PolicyVersion, one) for one in versions if one["spec"]["jobUid"] == uid]
    return World(
        owner,
        tuple(sorted(known, key=lambda one: one.metadata.name)),
        tuple(sorted(ours, key=lambda one: one.spec.sequence)),
        time.time() if now is None else now,
        asked,
    )


async def observe(kube: Kube, name: str) -> World:
    """One look. Raises ``Fault`` where there is no such job."""
    job = await kube.get(Kind.TRAINING_JOB, name)
    selector = f"spec.job={name}"
    robots, versions = await asyncio.gather(
        kube.list(Kind.ROBOT_ACTOR, fieldSelector=selector),
        kube.list(Kind.POLICY_VERSION, fieldSelector=selector),
    )
    return made(job, robots, versions, asked=kube.asked)


async def follow(kube: Kube, name: str) -> AsyncIterator[World]:
    """One look, and another after every change; ends when the job is deleted."""
    await kube.get(Kind.TRAINING_JOB, name)
    selectors = {
        Kind.TRAINING_JOB: f"metadata.name={name}",
        Kind.ROBOT_ACTOR: f"spec.job={name}",
        Kind.POLICY_VERSION: f"spec.job={name}",
    }
    seen: dict[str, dict[str, Object]] = {}
    changed = asyncio.Event()

    async def keep(kind: Kind, selector: str) -> None:
        async for known in kube.follow(kind, fieldSelector=selector):
            seen[kind] = known
            changed.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep(kind, selector)) for kind, selector in selectors.items()]
        try:
            while True:
                await changed.wait()
                changed.clear()
                if len(seen) < len(selectors):
                    continue
                if name not in seen[Kind.TRAINING_JOB]:
                    return
                yield made(
                    seen[Kind.TRAINING_JOB][name],
                    seen[Kind.ROBOT_ACTOR].values(),
                    seen[Kind.POLICY_VERSION].values(),
                    asked=kube.asked,
                )
        finally:
            for task in tasks:
                task.cancel()


def since(moment: str | None, now: float) -> float | None:
    """Seconds since a time of the API; None where there is none."""
    return max(0.0, now - datetime.fromisoformat(moment).timestamp()) if moment else None
