"""Versions on their way through a fleet, against a real API server and a real broker."""

from typing import Any

from fleet_cli.local.cluster import LocalCluster
from helpers.control import JOBS, ROBOTS, VERSIONS, Fleet, Operator, training_job
from helpers.kube import Kube, condition

STAGED: dict[str, Any] = {
    "rollout": {
        "steps": [{"robots": 1, "minEpisodes": 4}],
        "analysis": {"minSuccessRate": 0.5},
    }
}


def stable(job: dict[str, Any]) -> int:
    return int(job["status"].get("stable", {}).get("sequence", 0))


def trial(job: dict[str, Any]) -> list[str]:
    robots: list[str] = job["status"].get("rollout", {}).get("robots", [])
    return robots


async def enroll(kube: Kube, job: str, *robots: str) -> None:
    for name in robots:
        robot = {"metadata": {"name": name}, "spec": {"job": job, "mode": "External"}}
        body = {"apiVersion": "fleetloop.dev/v1alpha1", "kind": "RobotActor", **robot}
        await kube.create(ROBOTS, body)


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
        version = await kube.until(VERSIONS, "job-v2", lambda v: v["status"]["phase"] == "Promoted")
        assert version["status"]["cohort"]["episodes"] == 4
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 3)
        assert {p.sequence for p in fleet.active.values()} == {2}
