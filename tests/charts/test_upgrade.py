"""From objects that an earlier operator stored to an empty cluster, by way of today's.

`previous/` holds the kinds as they were before gates and keys, and what that day's operator left
behind with a version on trial: two simulated robots, one of a site's own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from fleet_cli import setup
from fleet_cli.crds import render
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api, ApiError, Json
from helpers.audit import documents
from helpers.control import JOBS, ROBOTS, VERSIONS, Fleet, candidate, edit, stable
from helpers.kube import Kube, condition
from helpers.manifests import MANIFESTS, moved, rendered

PREVIOUS = Path(__file__).with_name("previous")
RESOURCES = {"FleetTrainingJob": JOBS, "RobotActor": ROBOTS, "PolicyVersion": VERSIONS}
GONE = 120.0  # seconds


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """One of its own: other tests of this session need today's kinds."""
    with LocalCluster(tmp_path / "cluster") as running:
        yield running


@pytest.fixture
async def kube(cluster: LocalCluster) -> AsyncIterator[Kube]:
    async with Api(cluster.kubeconfig) as api:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "fleet"}})
        kube = Kube(api, "fleet")
        await kube.until("serviceaccounts", "default", lambda _: True)
        yield kube


async def ask(cluster: LocalCluster, *words: str, stdin: str = "") -> str:
    at = (cluster.kubectl, cluster.kubeconfig)
    return await asyncio.to_thread(setup.ask, *at, *words, stdin=stdin)


async def restore(kube: Kube) -> list[tuple[str, str]]:
    """As they were stored, under the identity that a new cluster gives the job."""
    uids: dict[str, str] = {}
    made = []
    for item in documents(PREVIOUS / "objects.yaml"):
        metadata, resource = item["metadata"], RESOURCES[item["kind"]]
        before = metadata.pop("uid")
        for owner in metadata.get("ownerReferences", []):
            owner["uid"] = uids[owner["uid"]]
        if "jobUid" in item["spec"]:
            item["spec"]["jobUid"] = uids[item["spec"]["jobUid"]]
        found = await kube.create(resource, item)
        uids[before] = found["metadata"]["uid"]
        path = kube.path(resource, metadata["name"]) + "/status"
        await kube.api.update(path, found | {"status": item["status"]})
        made.append((resource, metadata["name"]))
    return made


async def test_what_an_earlier_operator_stored_goes_on_and_then_all_of_it_goes(
    cluster: LocalCluster, kube: Kube
) -> None:
    kinds = [str(path) for path in sorted(PREVIOUS.glob("*s.yaml")) if path.stem != "objects"]
    await ask(cluster, "apply", "--server-side", *(f"--filename={path}" for path in kinds))
    await ask(cluster, "wait", "--for=condition=Established", *(f"--filename={p}" for p in kinds))
    lacking = partial(setup.unknown_kinds, cluster.kubectl, cluster.kubeconfig)
    while await asyncio.to_thread(lacking):  # noqa: ASYNC110 - discovery tells nobody
        await asyncio.sleep(0.1)
    stored = await restore(kube)
    await asyncio.to_thread(setup.install_kinds, cluster.kubectl, cluster.kubeconfig)
    # Of docs/install.md: gates were booleans, and a field of another type stops every write.
    without = '{"spec":{"rollout":{"gates":null}}}'
    await ask(cluster, "patch", "ftj", "job", "-n", "fleet", "--type=merge", f"--patch={without}")
    robots = ["job-sim-0", "job-sim-1", "arm"]
    async with Fleet.of(kube, cluster.nats_url, "job", robots) as fleet:  # first: it only listens
        await asyncio.to_thread(setup.run_operator, cluster, kube.namespace)
        job = await fleet.until(lambda job: condition(job, "Ready") == "True", within=90)
        assert (stable(job), candidate(job)) == (2, 3)
        await fleet.until_runs("arm", 3, within=60)
        for _ in range(10):
            await fleet.end_episode("arm", success=True)
        await fleet.until(lambda job: stable(job) == 3)
        await fleet.announce(4)
        await kube.until(VERSIONS, "job-v4", lambda _: True)
    for resource, name in stored:
        await edit(kube, resource, name, touch)
    await remove(cluster, kube)


def touch(found: Json) -> None:
    """Any write: the API server looks at the whole object by today's schema."""
    found["metadata"].setdefault("annotations", {})["seen"] = "yes"


async def remove(cluster: LocalCluster, kube: Kube) -> None:
    """All of it at once, with a job at work: nothing waits for somebody who is gone already."""
    everything = moved(rendered(cluster.kubectl, MANIFESTS / "overlays" / "install"), "fleet")
    text = "---\n".join(map(render, everything))
    words = ("delete", "--ignore-not-found", "--wait", f"--timeout={GONE:.0f}s", "-f", "-")
    await ask(cluster, *words, stdin=text)
    with pytest.raises(ApiError, match='"fleet" not found'):
        await kube.api.get("/api/v1/namespaces/fleet")
    assert "fleetloop" not in await ask(cluster, "get", "crds,clusterroles", "--output=name")
    assert (await kube.api.get("/api/v1/pods"))["items"] == []
