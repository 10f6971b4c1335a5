"""Robots compute a candidate beside what they run, before any of them acts on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fleet_cli.local.cluster import LocalCluster
from helpers.control import (
    JOBS,
    ROBOTS,
    VERSIONS,
    Fleet,
    Operator,
    candidate,
    enroll,
    press,
    stable,
    training_job,
    trial,
)
from helpers.kube import Kube, condition


def job(**shadow: Any) -> dict[str, Any]:
    steps = [{"robots": 1, "minEpisodes": 2}]
    return training_job(rollout={"steps": steps, "gates": {"shadow": shadow}})


def gate(found: dict[str, Any]) -> dict[str, Any]:
    """Where the candidate stands with its shadow gate."""
    (told,) = found["status"]["rollout"].get("gates") or [{}]
    return dict(told)


@asynccontextmanager
async def at_its_gate(
    kube: Kube, cluster: LocalCluster, **shadow: Any
) -> AsyncIterator[tuple[Fleet, str]]:
    """Two robots on version 1, of which one, by name, computes version 2."""
    await kube.create(JOBS, job(**shadow))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)  # nothing acts yet: it is passed over
        await kube.event("job", "GateSkipped")
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        await fleet.announce(2)
        found = await fleet.until(lambda job: bool(gate(job).get("robots")))
        (robot,) = gate(found)["robots"]
        await fleet.until_computes(robot, 2)
        assert trial(found) == []
        yield fleet, robot


async def test_a_version_that_agrees_beside_the_stable_one_begins_its_stage_also_over_a_death(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with at_its_gate(kube, cluster, minEpisodes=3) as (fleet, robot):
        for episode in ("one", "two", "two"):
            await fleet.compute_episode(robot, episode=episode)
        found = await fleet.until(lambda job: "2 of 3 episodes" in gate(job)["message"])
        assert found["status"]["rollout"]["phase"] == "Gated"
        assert found["status"]["rollout"]["message"] == gate(found)["message"]
        assert "moves nothing" in gate(found)["message"]
        before = fleet.assignment
        await operator.kill()
        await fleet.compute_episode(robot, episode="two")
        await operator.start()
        await kube.until(ROBOTS, robot, lambda one: condition(one, "Connected") == "True")
        assert {ref.sequence for ref in fleet.active.values()} == {1}
        assert fleet.assignment == before  # neither once more nor another robot
        await fleet.compute_episode(robot, episode="three")
        found = await fleet.until(lambda job: bool(trial(job)))
        assert trial(found) == [robot]  # who computed it first acts on it first
        await fleet.until_runs(robot, 2)
        await fleet.until_computes(robot, 0)
        version = await kube.until(VERSIONS, "job-v2", lambda v: v["status"]["phase"] == "Staged")
        (told,) = version["status"]["gates"]
        assert (told["phase"], told["robots"]) == ("Passed", [robot])
        assert "3 of 3 episodes compared, disagreement 0.10" in told["message"]
        await kube.event("job", "GatePassed")


async def test_a_version_that_would_do_something_else_is_taken_back_and_nobody_acted_on_it(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with at_its_gate(kube, cluster, minEpisodes=2, maxDisagreement=0.3) as (fleet, robot):
        await fleet.compute_episode(robot, disagreement=0.9)
        await fleet.compute_episode(robot, disagreement=0.9)
        found = await fleet.until(lambda job: job["status"].get("rolledBack") == [2])
        assert stable(found) == 1
        version = await kube.until(
            VERSIONS, "job-v2", lambda v: v["status"].get("phase") == "RolledBack"
        )
        assert "disagreement 0.90 (at most 0.30)" in version["status"]["message"]
        await fleet.until_computes(robot, 0)
        # A single fault is enough for the next one, and the guard's word counts at once.
        await fleet.announce(3)
        found = await fleet.until(lambda job: candidate(job) == 3 and bool(gate(job).get("robots")))
        (other,) = gate(found)["robots"]
        await fleet.until_computes(other, 3)
        await fleet.compute_episode(other, trips={"bounds": 2})
        found = await fleet.until(lambda job: job["status"].get("rolledBack") == [2, 3])
        assert "2 bounds" in found["status"]["rollout"]["message"]
        assert {ref.sequence for ref in fleet.active.values()} == {1}
        assert fleet.assignment is not None
        assert len(fleet.assignment.denied) == 2
        await kube.event("job", "GateFailed")


async def test_silence_holds_the_version_and_people_say_how_it_goes_on(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    async with at_its_gate(kube, cluster, minEpisodes=2, deadline="1s") as (fleet, robot):
        await press(kube, "job", "pause@1#a")  # any turn of the job will do, and a pause is one
        await fleet.until(lambda job: job["status"]["rollout"]["phase"] == "Paused")
        await press(kube, "job", "resume@1#b")
        found = await fleet.until(lambda job: job["status"]["rollout"]["reason"] == "GateBlocked")
        assert condition(found, "Stalled") == "True"
        message = found["status"]["rollout"]["message"]
        assert "0 of 2 episodes" in message
        assert "retry@2" in message
        assert {ref.sequence for ref in fleet.active.values()} == {1}
        # Late is better than never: what was asked is there, so it goes on by itself.
        await fleet.compute_episode(robot)
        await fleet.compute_episode(robot)
        found = await fleet.until(lambda job: bool(trial(job)))
        assert condition(found, "Stalled") != "True"
