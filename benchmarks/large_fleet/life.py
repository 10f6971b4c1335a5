"""A fleet's life under our operator: the robots come, stand, work and get a version by a canary."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.large_fleet.start import WITHIN, Operator, until_all
from helpers import keys
from helpers.control import JOBS, ROBOTS, stable, trial
from helpers.counts import burned, resident, settled, writes
from helpers.crowd import Crowd

if TYPE_CHECKING:
    from collections import Counter

    from fleet_cli.local.cluster import LocalCluster
    from fleet_cli.local.node.api import Api
    from helpers.kube import Kube

JUDGED = 20  # episodes of the canary; its stage asks for ten
EPISODE = 30.0  # seconds of each episode


class Promotion(NamedTuple):
    """A version's way to everybody."""

    writes: Counter[str]  # by resource
    lasted: float  # seconds in which they were counted
    after: float  # seconds from the canary's first judged episode to everybody's hands
    documents: int


class Life(NamedTuple):
    """What ours wrote and burned while the fleet lived."""

    again: int  # writes of a start before robots of which nothing is heard yet
    came: float  # writes for each robot, as it is first heard of
    came_after: float  # seconds until the job counts them all
    quiet: int  # writes while robots stand and say so
    amid: int  # writes of a start amid their heartbeats
    pace: Counter[str]  # writes while they end episodes
    load: float  # of one core, meanwhile
    promotion: Promotion
    memory: float  # MiB


async def life(cluster: LocalCluster, kube: Kube, robots: int, lasting: float) -> Life:
    """From the first heartbeat to a promotion; each steady state lasts for so many seconds."""
    api = kube.api
    job = await kube.get(JOBS, "job")
    listed = (await kube.get(ROBOTS))["items"]
    uids = {one["metadata"]["name"]: one["metadata"]["uid"] for one in listed}
    key = await keys.of(kube)
    crowd_of = Crowd.of(cluster.nats_url, kube.namespace, "job", job["metadata"]["uid"], uids, key)
    async with contextlib.AsyncExitStack() as crowded:
        before = await settled(api)  # the node tells of its pods, too
        async with Operator(cluster, kube.namespace) as operator:
            await operator.looked_at(robots)
            found = await settled(api)
            again, before, began = found - before, found, time.monotonic()
            crowd = await crowded.enter_async_context(crowd_of)
            await kube.until(
                JOBS, "job", lambda job: job["status"]["robots"]["connected"] == robots, WITHIN
            )
            came_after = time.monotonic() - began
            came = await settled(api) - before
            quiet = await _during(api, lasting)
        before = await writes(api)
        async with Operator(cluster, kube.namespace) as successor:
            await successor.looked_at(robots)
            await asyncio.sleep(lasting)
            amid = await writes(api) - before
            pace, load = await _working(successor, crowd, kube, lasting)
            promoted = await _promotion(crowd, kube, lasting)
            memory = resident(successor.pid)
    return Life(
        *(again.total(), came["robotactors"] / robots, came_after, quiet.total(), amid.total()),
        *(pace, load, promoted, memory),
    )


async def _working(
    operator: Operator, crowd: Crowd, kube: Kube, lasting: float
) -> tuple[Counter[str], float]:
    """Writes, and the share of a core, while a fleet with a policy ends episodes."""
    await crowd.announce(1)
    await crowd.until_all_run(1, WITHIN)
    async with asyncio.timeout(WITHIN):  # what the first version brought is written
        await until_all(kube, len(crowd.uids), lambda status: status["phase"] == "Running")
    crowd.episode = EPISODE
    spent = burned(operator.pid)
    counted = await _during(kube.api, lasting)
    crowd.episode = None
    return counted, (burned(operator.pid) - spent) / lasting


async def _promotion(crowd: Crowd, kube: Kube, lasting: float) -> Promotion:
    """A version's way from its announcement by a canary to everybody."""
    documents, before, began = crowd.documents, await writes(kube.api), time.monotonic()
    await crowd.announce(2)
    found = await kube.until(JOBS, "job", lambda job: bool(trial(job)), WITHIN)
    judged = time.monotonic()
    await crowd.succeed(trial(found), JUDGED)
    await crowd.until_all_run(2, WITHIN)
    after = time.monotonic() - judged
    await kube.until(JOBS, "job", lambda job: stable(job) == 2, WITHIN)
    await asyncio.sleep(lasting)
    counted = await writes(kube.api) - before
    return Promotion(counted, time.monotonic() - began, after, crowd.documents - documents)


async def _during(api: Api, seconds: float) -> Counter[str]:
    """The writes of so many seconds."""
    before = await writes(api)
    await asyncio.sleep(seconds)
    return await writes(api) - before
