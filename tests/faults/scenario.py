"""The life of one job in which the operator makes, changes and ends all there is to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import nats

from faults.bench import Bench
from faults.oracle import BATCH, Exposure
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.messages import Assignment
from helpers.control import (
    JOBS,
    ROBOTS,
    VERSIONS,
    Fleet,
    edit,
    enroll,
    stable,
    training_job,
    trial,
)
from helpers.kube import Kube, condition

PATIENCE = 300.0  # seconds that any one step may take under fire, on a machine that others use
EPISODES = 4
SIMULATED = ("job-sim-0", "job-sim-1")
STAGED: dict[str, Any] = {
    "steps": [{"robots": 1, "minEpisodes": EPISODES}],
    "analysis": {"minSuccessRate": 0.5},
}
TOLD = frozenset({"FirstVersion", "CanaryStarted", "CanaryPassed", "GuardTripped"})
"""Reasons of Events about the job that people must not miss."""


class Patient(Kube):
    """As patient as a step may take, whatever its caller thought."""

    async def until(self, resource: str, name: str, holds: Any, within: float = PATIENCE) -> Json:
        return await super().until(resource, name, holds, max(within, PATIENCE))


@contextlib.asynccontextmanager
async def played(bench: Bench, seen: Exposure) -> AsyncIterator[None]:
    """A job came, learned, was scaled, edited and harmed, and is well again; its robots live on."""
    kube = bench.kube = Patient(bench.kube.api, bench.kube.namespace)
    await kube.create(JOBS, training_job(replicas=2, rollout=STAGED))
    await enroll(kube, "job", "r1")
    async with (
        Fleet.of(kube, bench.nats_url, "job", ["r1"]) as fleet,
        documents(bench, seen),
    ):
        for robot in SIMULATED:
            await kube.until(ROBOTS, robot, lambda _: True)
            await fleet.join(robot)
        await versions(fleet, seen)
        await changes(fleet, kube)
        await losses(fleet, kube)
        await fleet.until(at_rest, PATIENCE)
        yield


async def versions(fleet: Fleet, seen: Exposure) -> None:
    """The first is taken, the second promoted after its trial, the third taken back."""
    seen.earned.add(1)
    await fleet.announce(1)
    await fleet.until(lambda job: stable(job) == 1 and synced(job) == 3, PATIENCE)
    for robot in ("r1", *SIMULATED):
        await fleet.end_episode(robot, success=True)
    await fleet.announce(2)
    canary = await on_trial(fleet, 2)
    for _ in range(EPISODES - 1):
        await fleet.end_episode(canary, success=True)
    await fleet.until(nearly_judged, PATIENCE)
    seen.earned.add(2)
    await fleet.end_episode(canary, success=True)
    await fleet.until(lambda job: stable(job) == 2 and synced(job) == 3, PATIENCE)
    await fleet.announce(3)
    await fleet.trip_guard(await on_trial(fleet, 3))
    await fleet.until(lambda job: job["status"].get("rolledBack") == [3], PATIENCE)
    seen.denied.add(3)
    await fleet.until(lambda job: synced(job) == 3, PATIENCE)


async def changes(fleet: Fleet, kube: Kube) -> None:
    """Fewer robots, and a learner that begins anew."""

    def scale(found: Json) -> None:
        found["spec"]["robots"]["simulated"]["replicas"] = 1

    def retrain(found: Json) -> None:
        found["spec"]["learner"]["batchSize"] = 8

    del fleet.uids[SIMULATED[1]]
    await edit(kube, JOBS, "job", scale)
    await kube.until_gone(ROBOTS, SIMULATED[1], PATIENCE)
    await edit(kube, JOBS, "job", retrain)
    await kube.until(BATCH, "job-learner-2", lambda job: job["status"].get("active") == 1)
    # One that goes before it is noted is made again under its number, by whoever did not note it.
    await fleet.until(lambda job: job["status"]["learner"]["run"] == 2, PATIENCE)


async def losses(fleet: Fleet, kube: Kube) -> None:
    """By hand: a robot, the version the fleet runs, the learner."""
    robot = await kube.get(ROBOTS, SIMULATED[0])
    version = await kube.get(VERSIONS, "job-v2")
    await kube.delete(ROBOTS, SIMULATED[0], propagationPolicy="Background")
    await kube.delete(VERSIONS, "job-v2")
    await kube.delete(BATCH, "job-learner-2", propagationPolicy="Foreground")
    await kube.until(ROBOTS, SIMULATED[0], anew(robot))
    await fleet.join(SIMULATED[0])
    await kube.until(VERSIONS, "job-v2", anew(version))
    await kube.until(BATCH, "job-learner-3", lambda job: job["status"].get("active") == 1)


async def on_trial(fleet: Fleet, sequence: int) -> str:
    """The one robot that tries the version, and runs it."""

    def tried(job: Json) -> bool:
        of = job["status"].get("rollout", {}).get("candidate") or {}
        return of.get("sequence") == sequence and len(trial(job)) == 1

    (canary,) = trial(await fleet.until(tried, PATIENCE))
    await fleet.until_runs(canary, sequence, PATIENCE)
    return canary


def nearly_judged(job: Json) -> bool:
    return int(job["status"].get("rollout", {}).get("episodes", 0)) == EPISODES - 1


def synced(job: Json) -> int:
    return int(job["status"].get("robots", {}).get("synced", 0))


def anew(before: Json) -> Any:
    return lambda found: found["metadata"]["uid"] != before["metadata"]["uid"]


def at_rest(job: Json) -> bool:
    return condition(job, "Ready") == "True" and synced(job) == 2


@contextlib.asynccontextmanager
async def documents(bench: Bench, seen: Exposure) -> AsyncIterator[None]:
    """Every assignment that is published, as robots hear it."""
    client = await nats.connect(bench.nats_url)

    async def take(message: Any) -> None:
        seen.take(Assignment.open(message.data))

    try:
        await client.subscribe(names.assign_subject(bench.kube.namespace, "job"), cb=take)
        await client.flush()
        yield
        await asyncio.sleep(0)
    finally:
        await client.close()
