"""The ring under kill -9 and deletion: versions only grow, it goes on, no experience is lost."""

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_contract import names
from fleet_contract.names import Label, Stream
from helpers.harm import (
    BROKER,
    LEARNER,
    OPERATOR,
    another_learner,
    at_work,
    goes_on,
    journaled,
    killed,
    lose_consumer,
    lose_streams,
    nothing_lost,
    running,
    streams_of,
    struck,
    twin_learner,
)
from helpers.kube import Kube
from helpers.ring import JOB, JOBS, ROBOTS, SLOW, VERSIONS, Watch, job, watching

KILLS = int(os.environ.get("FLEET_CHAOS_KILLS", "3"))
SEED = os.environ.get("FLEET_CHAOS_SEED")
PAUSE = 2.0  # seconds at most between two kills
EXIT_FENCED = 3

pytestmark = pytest.mark.usefixtures("operator")


@contextmanager
def dice() -> Iterator[random.Random]:
    """Another throw each time, told where it led to a failure."""
    seed = int(SEED) if SEED else random.randrange(2**32)
    try:
        yield random.Random(seed)
    except BaseException as fault:
        fault.add_note(f"for the same kills: FLEET_CHAOS_SEED={seed} FLEET_CHAOS_KILLS={KILLS}")
        raise


async def test_the_ring_goes_on_and_loses_nothing_whatever_is_killed_or_deleted(
    cluster: LocalCluster, kube: Kube, dataset: str, tmp_path: Path
) -> None:
    """One ring and one harm after the other: to bring it up takes longer than all of them."""
    robot = names.simulated_robot(JOB, 0)
    of_robot = f"{Label.ROBOT}={robot}"
    async with watching(cluster.nats_url, kube) as watch:
        uid = (await kube.create(JOBS, job(dataset)))["metadata"]["uid"]
        await watch.until("second version", lambda: watch.stable[-1] > 1)

        await killed(kube, OPERATOR)
        await goes_on(watch)

        epoch = watch.epochs[-1]
        await killed(kube, LEARNER)
        await another_learner(watch, epoch)
        await goes_on(watch)

        await killed(kube, of_robot)
        await at_work(watch, robot)

        cluster.restart(BROKER)
        await at_work(watch, robot)
        await goes_on(watch)

        pod, _ = await running(kube, of_robot)
        await kube.delete("pods", pod)
        await kube.until("pods", pod, lambda p: "deletionTimestamp" not in p["metadata"])
        await at_work(watch, robot)

        before = (await kube.get(ROBOTS, robot))["metadata"]["uid"]
        await kube.delete(ROBOTS, robot)
        await at_work(watch, robot, not_uid=before)

        epoch = watch.epochs[-1]
        pod, _ = await running(kube, LEARNER)
        await kube.delete("pods", pod)
        await another_learner(watch, epoch)
        await goes_on(watch)
        assert watch.epochs == sorted(watch.epochs)
        assert watch.announced == sorted(watch.announced)

        await lose_streams(cluster.nats_url, uid, *Stream)
        await at_work(watch, robot)
        await goes_on(watch)
        await lose_consumer(cluster.nats_url, uid)
        await goes_on(watch)

        with dice() as rng:
            await a_frozen_learner_gives_way_when_it_thaws(kube, watch, rng, tmp_path / "twin.log")
            await kills_at_random_moments(cluster, kube, rng)
            await at_work(watch, robot)
            await goes_on(watch)
            await nothing_lost(cluster, uid, watch)
        assert watch.stable == sorted(watch.stable)

    await a_namesake_begins_from_nothing(cluster, kube, dataset, uid, watch.stable[-1])


async def a_frozen_learner_gives_way_when_it_thaws(
    kube: Kube, watch: Watch, rng: random.Random, log: Path
) -> None:
    """Two learners fence each other in turn: the older one exits, whether it works or thaws."""
    epoch = max(watch.epochs)
    async with twin_learner(kube, log) as twin:
        await another_learner(watch, epoch)
        await asyncio.sleep(rng.uniform(0, 1))  # somewhere in its start or first work
        twin.freeze()
        pod, _ = await running(kube, LEARNER)

        def fenced(found: dict[str, object]) -> bool:
            return f"'exitCode': {EXIT_FENCED}" in str(found["status"])

        await kube.until("pods", pod, fenced, SLOW)
        await another_learner(watch, epoch + 1)
        await goes_on(watch)
        twin.thaw()
        assert await asyncio.wait_for(twin.process.wait(), SLOW) == EXIT_FENCED
    await goes_on(watch)


async def kills_at_random_moments(cluster: LocalCluster, kube: Kube, rng: random.Random) -> None:
    """Whoever the dice name, in whatever state; the next one before all is well again."""
    robots = [f"{Label.ROBOT}={names.simulated_robot(JOB, index)}" for index in range(2)]
    for _ in range(KILLS):
        await struck(cluster, kube, rng.choice([OPERATOR, LEARNER, BROKER, *robots]))
        await asyncio.sleep(rng.uniform(0, PAUSE))


async def a_namesake_begins_from_nothing(
    cluster: LocalCluster, kube: Kube, dataset: str, old: str, last: int
) -> None:
    """Deleted and applied anew at once, while no operator lives to tell the one from the other."""
    await killed(kube, OPERATOR)
    await kube.delete(JOBS, JOB, propagationPolicy="Background")
    uid = (await kube.create(JOBS, job(dataset)))["metadata"]["uid"]
    async with watching(cluster.nats_url, kube) as watch:
        await watch.until("second version", lambda: watch.stable[-1] > 1)
        await nothing_lost(cluster, uid, watch)
    assert {entry.record.job_uid for entry in journaled(cluster, uid)} == {uid}
    assert watch.stable[1] < last
    assert watch.stable == sorted(watch.stable)
    versions = (await kube.get(VERSIONS))["items"]
    assert {version["spec"]["jobUid"] for version in versions} == {uid}
    assert await streams_of(cluster.nats_url, old) == []
