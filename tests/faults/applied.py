"""Row 9: one sequence of edits, and the fresh namespace it is held against."""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any, NamedTuple

from faults.bench import Bench, Ground
from faults.edits import FINAL, LAST, STEPS, WITHIN, World, announce, draw_spec, heartbeats
from faults.oracle import differences, end_state
from fleet_cli.local.node.api import Json
from fleet_contract import names
from helpers.control import JOBS, ROBOTS, VERSIONS, edit, training_job

RUN = re.compile(r"(job-learner|[Rr]un)([- ])\d+")
HISTORY = frozenset(
    {
        "generation",  # counts the edits
        "observedGeneration",
        "run",  # a learner's number: one more for each edit that asked for a new one
        names.Label.RUN.value,
        names.Label.REQUEST.value,  # buttons pressed on the way, and what became of them
        "lastHandledRequest",
        "handledRequests",
        "answer",
        "stable",  # which versions were tried before the last one, and how that went
        "rollout",
        "lastKnownGood",
        "rolledBack",
        "lastSequence",
        "assignment",
    }
)
"""Keys of objects whose values legitimately tell of the way there."""


class Outcome(NamedTuple):
    """What became of one sequence."""

    wrong: list[str]
    did: list[str]
    seconds: float


async def run(ground: Ground, seed: int) -> Outcome:
    """Plays a sequence in one namespace, applies its last objects in another, compares."""
    rng, began = random.Random(seed), time.monotonic()
    async with world(ground, rng) as old:
        await old.apply(training_job(replicas=1), {})
        for _ in range(STEPS):
            await old.step()
            await asyncio.sleep(rng.choice([0.0, 0.1, 0.5, 2.0]))
        final = draw_spec(rng, FINAL)
        await edit(old.kube, JOBS, "job", lambda found: found.update(spec=deepcopy(final)))
        old.job["spec"] = final
        await announce(old.kube, old.url, LAST)
        async with world(ground, rng) as new:
            await new.apply(old.job, old.robots)
            await announce(new.kube, new.url, LAST)
            wrong = await _until_alike(old, new, final)
    return Outcome(wrong, old.did, round(time.monotonic() - began, 1))


@contextlib.asynccontextmanager
async def world(ground: Ground, rng: random.Random) -> AsyncIterator[World]:
    async with Bench.of(ground) as bench:
        beats = asyncio.create_task(heartbeats(bench.kube, bench.nats_url))
        try:
            yield World(bench, rng)
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)


async def _until_alike(old: World, new: World, spec: Json) -> list[str]:
    """Alike twice, two seconds apart, so that both are at rest."""
    deadline, alike = time.monotonic() + WITHIN, 0
    while True:
        await asyncio.sleep(2)
        mine, fresh = [
            timeless(await end_state(one.kube, one.url), spec["rollout"]) for one in (old, new)
        ]
        alike = alike + 1 if mine == fresh else 0
        if alike == 2 and _well(fresh, spec):
            return []
        if time.monotonic() > deadline:
            return differences(fresh, mine) or [f"neither came to an end: {_verdict(fresh)}"]


def _well(fresh: dict[str, Any], spec: Json) -> bool:
    """Nothing is under way: two worlds that have not begun are alike, too."""
    verdict = _verdict(fresh)
    versions = f"{VERSIONS} job-v{LAST}" in fresh or spec["rollout"] != FINAL[0]
    return bool(verdict) and "Reconciling" not in verdict and versions


def _verdict(state: dict[str, Any]) -> list[str]:
    conditions = state.get(f"{JOBS} job", {}).get("status", {}).get("conditions", [])
    return [one["type"] for one in conditions if one["status"] == "True"]


def timeless(state: dict[str, Any], rollout: Json) -> dict[str, Any]:
    """An end state without its history."""
    broadcast, paused = rollout == FINAL[0], rollout == FINAL[1]
    kept = {}
    for key, value in state.items():
        if key.startswith(VERSIONS) and (key != f"{VERSIONS} job-v{LAST}" or not broadcast):
            continue  # older ones; under a pause nobody takes the last, a pin keeps it untried
        if key == "assignment":
            found = value or {}
            last = None if paused else found.get("default")
            kept[key] = {"default": last, "state": found.get("state") if not paused else None}
            continue
        if key.startswith(ROBOTS) and (paused or "pin" in value["spec"]):
            conditions = value["status"].get("conditions", [])
            conditions[:] = [one for one in conditions if one["type"] != "PolicySynced"]
        told = value
        if key.startswith(VERSIONS):
            told = {"spec": value["spec"], "phase": value["status"].get("phase")}
        kept[RUN.sub(r"\1\2N", key)] = _without(told)
    return kept


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        left = {key: _without(below) for key, below in value.items() if key not in HISTORY}
        return {key: below for key, below in left.items() if below or key != "annotations"}
    if isinstance(value, list):
        return [_without(one) for one in value]
    return RUN.sub(r"\1\2N", value) if isinstance(value, str) else value
