"""Row 23: a watch that stands and brings nothing, and how long until the probe says so."""

import asyncio
import random
import time
from typing import NamedTuple

from faults.bench import Bench, Ground
from faults.oracle import BATCH
from faults.scenario import PATIENCE, Patient
from fleet_cli.local.node.api import Json
from helpers.control import JOBS, ROBOTS, VERSIONS, Fleet, edit, training_job

OBJECTS = {
    JOBS: "job",
    ROBOTS: "job-sim-0",
    VERSIONS: "job-v1",
    BATCH: "job-learner-1",
    "pods": "job-sim-0-robot",
}
LEAST, MOST = 5.0, 30.0  # seconds of a healthy life before the silence, drawn


class Detected(NamedTuple):
    """From the first event that was not brought to the probe's first failure."""

    kind: str
    seconds: float


async def detect(ground: Ground, seed: int, *, within: float = 90.0) -> Detected:
    """One kind of object changes in the silence, at a moment of the operator's own clock drawn."""
    rng = random.Random(seed)
    kind = rng.choice(sorted(OBJECTS))
    async with Bench.of(ground) as bench:
        kube = Patient(ground.api, bench.kube.namespace)
        await kube.create(JOBS, training_job(replicas=1))
        async with Fleet.of(kube, bench.nats_url, "job", []) as fleet:
            await fleet.announce(1)
            for resource, name in OBJECTS.items():
                await kube.until(resource, name, lambda _: True, PATIENCE)
            await fleet.quiet(rng.uniform(LEAST, MOST))
            bench.unwell.clear()
            bench.proxy.silence()
            await edit(kube, kind, OBJECTS[kind], touch)
            since = time.monotonic()
            async with asyncio.timeout(2 * within):
                await bench.unwell.wait()
    return Detected(kind, round(time.monotonic() - since, 1))


def touch(found: Json) -> None:
    found["metadata"].setdefault("annotations", {})["example.com/touched"] = "yes"
