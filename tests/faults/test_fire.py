"""The smoke of `make torture`: some faults at some writes, some sequences of edits, one bug."""

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from faults import applied, injections, verdict
from faults.bench import Bench, Ground
from faults.cases import Case
from faults.oracle import Ledger
from faults.scenario import PATIENCE, STAGED, Patient, on_trial
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api
from fleet_contract import names
from fleet_contract.names import Stream
from helpers.control import JOBS, ROBOTS, VERSIONS, Fleet, enroll, stable, training_job
from helpers.kinds import install
from helpers.kube import Kube
from helpers.nats import drop_streams, lose_streams, make_streams
from helpers.proxy import Answer, ApiProxy, Call, Cut, Fault

SAMPLE = (
    Case(5, "kill after", 34),
    Case(6, "410 answer", 21),
    Case(7, "empty lists", 47),
)


@pytest.fixture
async def ground(cluster: LocalCluster, api: Api, tmp_path: Path) -> Ground:
    await install(api)
    return Ground(cluster, api, tmp_path)


async def test_under_faults_the_end_is_the_same_and_then_nothing_is_written(
    ground: Ground,
) -> None:
    alone, reference = await verdict.run(ground, quiet=0)
    assert alone.wrong == []
    found = await asyncio.gather(
        *(verdict.run(ground, fault=case.make, reference=reference, quiet=6) for case in SAMPLE)
    )
    for case, (said, _) in zip(SAMPLE, found, strict=True):
        assert said.wrong == [], case
        assert said.hit, case


async def test_after_a_sequence_of_edits_all_is_as_if_the_last_had_been_applied_alone(
    ground: Ground,
) -> None:
    found = await applied.run(ground, seed=1)
    assert found.wrong == [], found.did


async def test_a_stream_that_goes_and_comes_again_is_counted(ground: Ground, kube: Kube) -> None:
    url = ground.cluster.nats_url
    uid = (await kube.create(JOBS, training_job()))["metadata"]["uid"]
    async with Ledger.of(kube, url) as ledger:
        await make_streams(url, "job", uid, kube.namespace)
        await lose_streams(url, uid)
        await make_streams(url, "job", uid, kube.namespace)
        async with asyncio.timeout(60):
            while sum(made for made, _ in ledger.counts().values()) <= 2 * len(Stream):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # one connection hears later what another did
    counts = ledger.counts()
    assert counts.pop(f"{JOBS} job") == [1, 0]
    assert counts == {f"stream fleet--{kind.value}": [2, 1] for kind in Stream}
    await drop_streams(url, kube.namespace)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ("/api/v1/namespaces/here", "get namespaces here"),
        ("/api/v1/namespaces", "list namespaces"),
        ("/api/v1/namespaces/here/pods", "list pods"),
        ("/api/v1/namespaces/here/pods?watch=true", "watch pods"),
        ("/api/v1/namespaces/here/pods/one", "get pods one"),
        ("/api/v1/namespaces/here/pods/one/status", "get pods/status one"),
    ],
)
def test_a_call_is_known_by_its_path(cluster: LocalCluster, asked: str, what: str) -> None:
    """One object that is taken for a list would come without what it holds."""
    assert str(ApiProxy(cluster)._read(make_mocked_request("GET", asked), b"")) == what


async def first_version(bench: Bench, fault: Fault) -> Patient:
    """Under a fault a job gets its first version."""
    kube = Patient(bench.kube.api, bench.kube.namespace)
    bench.proxy.fault = fault
    await kube.create(JOBS, training_job())
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, bench.nats_url, "job", ["r1"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: stable(job) == 1)
    return kube


class EventsRefused(Fault):
    """503 for Events, as where their etcd is one of its own and is away; all else works."""

    async def before(self, call: Call) -> Answer | None:
        return injections.REFUSALS["503"] if call.resource == "events" else None


async def test_where_events_cannot_be_written_work_goes_on_and_people_are_told_later(
    ground: Ground,
) -> None:
    async with Bench.of(ground) as bench:
        kube = await first_version(bench, EventsRefused())
        assert (await kube.get("events", fieldSelector="reason=FirstVersion"))["items"] == []
        bench.proxy.fault = Fault()
        told = await kube.event("job", "FirstVersion")
    assert told["message"].startswith("Version 1 promoted")


class VersionsUnlisted(Fault):
    """Lists of versions are as they were before there was any."""

    async def after(self, call: Call, answer: Answer) -> Answer:
        listed = (call.verb, call.resource) == ("list", "policyversions")
        return injections.emptied(answer) if listed else answer


async def test_a_version_says_why_it_was_taken_back_although_no_list_showed_it_then(
    ground: Ground,
) -> None:
    async with Bench.of(ground) as bench:
        kube = Patient(bench.kube.api, bench.kube.namespace)
        await kube.create(JOBS, training_job(rollout=STAGED))
        await enroll(kube, "job", "r1")
        async with Fleet.of(kube, bench.nats_url, "job", ["r1"]) as fleet:
            await fleet.announce(1)
            await fleet.until(lambda job: stable(job) == 1, PATIENCE)
            await fleet.announce(2)
            canary = await on_trial(fleet, 2)
            bench.proxy.fault = VersionsUnlisted()
            await fleet.trip_guard(canary)
            await fleet.until(lambda job: job["status"].get("rolledBack") == [2], PATIENCE)
            bench.proxy.fault = Fault()
            version = await kube.until(
                VERSIONS, "job-v2", lambda one: one["status"].get("phase") == "RolledBack"
            )
    assert version["status"]["message"] == "Version 2 taken back: 1 guard trips in its trial."
    assert version["status"]["cohort"]["guardTrips"] == 1


class Unsaid(VersionsUnlisted):
    """The operator dies when it is about to tell of the first version; its successor may be shown
    lists of before."""

    def __init__(self, bench: Bench, *, unlisted: bool) -> None:
        self.bench, self.unlisted = bench, unlisted

    async def before(self, call: Call) -> Answer | None:
        if call.resource == "events" and b"FirstVersion" in call.body and not self.bench.hit:
            await self.bench.crash(str(call))
            raise Cut
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        return await super().after(call, answer) if self.unlisted and self.bench.hit else answer


@pytest.mark.parametrize("unlisted", [False, True], ids=["", "no list shows the version to it"])
async def test_an_operator_that_dies_instead_of_telling_leaves_the_telling_to_the_next_one(
    ground: Ground, *, unlisted: bool
) -> None:
    async with Bench.of(ground) as bench:
        kube = await first_version(bench, Unsaid(bench, unlisted=unlisted))
        assert bench.hit
        told = await kube.event("job", "FirstVersion")
    assert told["message"].startswith("Version 1 promoted")


class RobotGoes(Fault):
    """Deleted, with its pod, between the operator's looks at the one and the other."""

    def __init__(self, kube: Patient) -> None:
        self.kube, self.done = kube, asyncio.Event()

    async def before(self, call: Call) -> Answer | None:
        if (call.verb, call.resource, call.name) != ("get", "pods", "mine-robot"):
            return None
        if not self.done.is_set():
            await self.kube.delete(ROBOTS, "mine", propagationPolicy="Background")
            await self.kube.until_gone("pods", "mine-robot")
            self.done.set()
        return None


async def test_a_robot_that_goes_while_it_is_looked_at_gets_no_other_pod(
    ground: Ground,
) -> None:
    async with Bench.of(ground) as bench:
        kube = Patient(ground.api, bench.kube.namespace)
        await kube.create(JOBS, training_job())
        kind = {"apiVersion": names.API_VERSION, "kind": "RobotActor"}
        mine = {"metadata": {"name": "mine"}, "spec": {"job": "job", "mode": "Simulated"}}
        await kube.create(ROBOTS, kind | mine)
        await kube.phase("mine-robot", "Running")
        bench.proxy.fault = goes = RobotGoes(kube)
        await asyncio.wait_for(goes.done.wait(), 60)
        await kube.create(ROBOTS, kind | mine)  # whatever was under way is over when it is seen
        await kube.phase("mine-robot", "Running")
        pods = [one for one in bench.proxy.writes if one.call.resource == "pods"]
        assert [one.call.verb for one in pods if one.call.verb == "create"] == ["create"] * 2
