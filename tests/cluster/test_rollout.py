"""Versions on their way through a fleet, against a real API server and a real broker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fleet_cli.local.cluster import LocalCluster
from helpers.control import (
    JOBS,
    VERSIONS,
    Fleet,
    Operator,
    enroll,
    press,
    stable,
    training_job,
    trial,
)
from helpers.kube import Kube, condition

STAGED: dict[str, Any] = {
    "rollout": {
        "steps": [{"robots": 1, "minEpisodes": 4}],
        "analysis": {"minSuccessRate": 0.5},
    }
}


@asynccontextmanager
async def second_version_on_trial(
    kube: Kube, cluster: LocalCluster
) -> AsyncIterator[tuple[Fleet, str]]:
    """Two robots on version 1, of which one, by name, runs version 2."""
    await kube.create(JOBS, training_job(**STAGED))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        for robot in ("r1", "r2") * 10:
            await fleet.end_episode(robot, success=True)
        await fleet.announce(2)
        (canary,) = trial(await fleet.until(lambda job: len(trial(job)) == 1))
        await fleet.until_runs(canary, 2)
        yield fleet, canary


async def test_a_good_version_is_tried_on_one_robot_and_then_given_to_all(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(**STAGED))
    await enroll(kube, "job", "r1", "r2", "r3")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2", "r3"]) as fleet:
        ready = await fleet.until(lambda job: condition(job, "Ready") == "True")
        assert ready["status"]["robots"]["connected"] == 3
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)
        await fleet.announce(2)
        seen = await fleet.until(lambda job: len(trial(job)) == 1)
        (canary,) = trial(seen)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 3)
        assert {r for r, p in fleet.active.items() if p.sequence == 2} == {canary}
        for _ in range(4):
            await fleet.end_episode(canary, success=True)
        await fleet.until(lambda job: stable(job) == 2)
        version = await kube.until(
            VERSIONS, "job-v2", lambda v: v["status"].get("phase") == "Promoted"
        )
        assert version["status"]["cohort"]["episodes"] == 4
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 3)
        assert {p.sequence for p in fleet.active.values()} == {2}


async def test_a_bad_version_is_taken_back_and_does_not_return(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with second_version_on_trial(kube, cluster) as (fleet, canary):
        for _ in range(4):
            await fleet.end_episode(canary, success=False)
        job = await fleet.until(lambda job: job["status"]["rolledBack"] == [2])
        assert stable(job) == 1
        version = await kube.until(
            VERSIONS, "job-v2", lambda v: v["status"].get("phase") == "RolledBack"
        )
        assert condition(version, "RolledBack") == "True"
        assert "reach: 0 of" in version["status"]["message"]
        await fleet.until_runs(canary, 1)
        assert fleet.assignment is not None
        assert len(fleet.assignment.denied) == 1
        await fleet.announce(2)  # the learner says it again
        await fleet.announce(3)
        (next_one,) = trial(await fleet.until(lambda job: len(trial(job)) == 1))
        await fleet.until_runs(next_one, 3)
        await fleet.trip_guard(next_one)
        job = await fleet.until(lambda job: job["status"]["rolledBack"] == [2, 3])
        for reason in ("FirstVersion", "CanaryStarted", "WorseThanStable", "GuardTripped"):
            await kube.event("job", reason)


async def test_an_operator_killed_in_a_trial_goes_on_and_counts_nothing_twice(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with second_version_on_trial(kube, cluster) as (fleet, canary):
        await fleet.end_episode(canary, success=True, episode="one")
        await fleet.end_episode(canary, success=True, episode="two")
        await fleet.until(lambda job: job["status"]["rollout"]["episodes"] == 2)
        before = fleet.assignment
        await operator.kill()
        await fleet.end_episode(canary, success=True, episode="two")
        await fleet.end_episode(canary, success=True, episode="three")
        await operator.start()
        job = await fleet.until(lambda job: job["status"]["rollout"]["episodes"] == 3)
        assert trial(job) == [canary]
        assert stable(job) == 1
        assert fleet.assignment == before
        await fleet.end_episode(canary, success=True, episode="four")
        await fleet.until(lambda job: stable(job) == 2)


async def test_in_mode_manual_people_press_the_buttons(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(rollout={"mode": "Manual"}))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)
        await fleet.announce(2)
        job = await fleet.until(
            lambda job: job["status"]["rollout"].get("candidate", {}).get("sequence") == 2
        )
        assert trial(job) == []
        await press(kube, "job", "promote@2#a")
        await fleet.until(lambda job: len(trial(job)) == 1)
        await press(kube, "job", "skip@2#b")
        job = await fleet.until(lambda job: stable(job) == 2)
        assert job["status"]["lastHandledRequest"] == "skip@2#b"


async def test_a_version_that_is_bad_on_the_fleet_is_given_back_after_its_promotion(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    rollout = STAGED["rollout"] | {"postPromotion": {"minEpisodes": 4}}
    await kube.create(JOBS, training_job(rollout=rollout))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        for robot in ("r1", "r2") * 10:
            await fleet.end_episode(robot, success=True)
        await fleet.announce(2)
        (canary,) = trial(await fleet.until(lambda job: len(trial(job)) == 1))
        await fleet.until_runs(canary, 2)
        for _ in range(4):
            await fleet.end_episode(canary, success=True)
        await fleet.until(lambda job: job["status"]["rollout"]["phase"] == "Watching")
        await kube.event("job", "WatchStarted")
        await operator.kill()
        for robot in ("r1", "r2"):
            await fleet.until_runs(robot, 2)
            for _ in range(4):
                await fleet.end_episode(robot, success=False)
        await operator.start()
        job = await fleet.until(lambda job: job["status"].get("rolledBack") == [2])
        assert stable(job) == 1
        for robot in ("r1", "r2"):
            await fleet.until_runs(robot, 1)
        await kube.until(VERSIONS, "job-v2", lambda v: v["status"]["phase"] == "RolledBack")
        await press(kube, "job", "retry@2#a")
        job = await fleet.until(lambda job: len(trial(job)) == 1)
        assert job["status"]["rollout"]["candidate"]["sequence"] == 2
        assert "once more" in job["status"]["rollout"]["answer"]
        for reason in ("WorseThanStable", "Retried"):
            await kube.event("job", reason)


async def test_a_frozen_namespace_begins_nothing_and_a_pause_needs_no_edit_of_the_job(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async def freeze(why: str) -> None:
        namespace = f"/api/v1/namespaces/{kube.namespace}"
        found = await kube.api.get(namespace)
        found["metadata"].setdefault("annotations", {})["fleetloop.dev/freeze"] = why
        await kube.api.update(namespace, found)

    await kube.create(JOBS, training_job(**STAGED))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)
        await freeze("fair week")
        await fleet.announce(2)
        job = await fleet.until(lambda job: job["status"]["rollout"]["reason"] == "FleetFrozen")
        assert "fair week" in job["status"]["rollout"]["message"]
        generation = job["metadata"]["generation"]
        await press(kube, "job", "pause@1#a")
        await fleet.until(lambda job: job["status"]["rollout"]["phase"] == "Paused")
        await freeze("false")
        await press(kube, "job", "resume@1#b")
        job = await fleet.until(lambda job: len(trial(job)) == 1)
        assert job["metadata"]["generation"] == generation
        await press(kube, "job", "rollback@2#c")
        await fleet.until(lambda job: "version 2 is on trial" in job["status"]["rollout"]["answer"])
        for reason in ("FleetFrozen", "Paused", "Resumed", "RequestRefused"):
            await kube.event("job", reason)
