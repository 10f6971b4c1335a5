"""A button pressed, then a sync from Git: neither repeats nor undoes it, and nobody sees a drift.

Argo CD and Flux apply on the server, as field managers of their own; kubectl applies by a patch of
what it applied last, or replaces.
"""

import asyncio
import json
from pathlib import Path

import pytest

from contract.conftest import Kubectl
from fleet_cli.local.cluster import LocalCluster
from fleet_contract.names import FIELD_MANAGER, Label
from gitops.states import Object
from helpers.control import JOBS, Fleet, Operator, candidate, enroll, press, training_job
from helpers.gitops import argocd_press, kstatus
from helpers.kube import Kube

SAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "samples").glob("*.yaml"))
SERVER_SIDE = ("apply", "--server-side", "--force-conflicts", "--field-manager")
ARGOCD, FLUX = (*SERVER_SIDE, "argocd-controller"), (*SERVER_SIDE, "kustomize-controller")
SYNCS = {
    "Argo CD": ARGOCD,
    "Flux": FLUX,
    "kubectl apply": ("apply",),
    "kubectl replace": ("replace",),
}
STAGED = {"steps": [{"robots": 1}, {"robots": 2}], "analysis": {"minSuccessRate": 0.5}}


def apply(kubectl: Kubectl, item: Object, sync: tuple[str, ...]) -> None:
    """Once; a replacement again, where the operator wrote between its reading and its writing."""
    while (result := kubectl.run(*sync, item=item)).returncode:
        assert "please apply your changes to the latest version" in result.stderr


def drift(kubectl: Kubectl, item: Object, sync: tuple[str, ...]) -> str:
    """What a sync would change, as a tool that heals sees it; empty where nothing."""
    how = sync[1:] if sync[0] == "apply" else ()
    result = kubectl.run("diff", *how, item=item)
    assert result.returncode in (0, 1), result.stderr
    return result.stdout


async def press_in_argocd(kubectl: Kubectl, verb: str) -> str:
    """Press a button as Argo CD does: run its script, send the difference. Returns the request."""
    pressed = argocd_press(verb, kubectl.get("ftj", "job"))
    request: str = pressed["metadata"]["annotations"][Label.REQUEST]
    patch = json.dumps({"metadata": {"annotations": {Label.REQUEST: request}}})
    await asyncio.to_thread(kubectl, "patch", "ftj", "job", "--type=merge", f"--patch={patch}")
    return request


async def test_a_button_is_neither_repeated_nor_undone_by_a_sync_from_git(
    operator: Operator, cluster: LocalCluster, kube: Kube, kubectl: Kubectl
) -> None:
    git = training_job(rollout=STAGED)
    kubectl(*ARGOCD, item=git)
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        for back, (tool, sync) in enumerate(SYNCS.items()):
            version = back + 2
            await fleet.announce(version)
            await fleet.until(lambda job, v=version: candidate(job) == v)  # type: ignore[misc]
            request = await press_in_argocd(kubectl, "abort")
            job = await fleet.until(
                lambda job, r=request: job["status"]["lastHandledRequest"] == r  # type: ignore[misc]
            )
            expected = list(range(2, version + 1))
            assert job["status"]["rolledBack"] == expected, tool
            assert not drift(kubectl, git, sync), tool
            generation = job["metadata"]["generation"]
            for _ in range(2):
                apply(kubectl, git, sync)
            job = kubectl.get("ftj", "job")
            kept = job["metadata"].get("annotations", {}).get(Label.REQUEST)
            assert kept == (None if tool == "kubectl replace" else request), tool
            assert job["metadata"]["generation"] == generation, tool
            assert kstatus(job) == "Current", tool
        await fleet.announce(9)  # the operator has had its turns by then
        job = await fleet.until(lambda job: candidate(job) == 9)
        assert job["status"]["rolledBack"] == [2, 3, 4, 5]
        assert job["status"]["handledRequests"] == sorted(job["status"]["handledRequests"])
        assert len(job["status"]["handledRequests"]) == len(SYNCS)
        assert {one.sequence for one in fleet.active.values()} <= {1, 9}


async def test_an_old_request_that_git_writes_anew_counts_no_more(
    operator: Operator, cluster: LocalCluster, kube: Kube, kubectl: Kubectl
) -> None:
    git = training_job(rollout={**STAGED, "mode": "Manual"})
    await kube.create(JOBS, git)
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        await fleet.announce(2)
        await fleet.until(lambda job: candidate(job) == 2)
        git["metadata"]["annotations"] = {Label.REQUEST.value: "promote@2#git"}
        kubectl(*ARGOCD, item=git)
        await fleet.until(lambda job: job["status"]["rollout"].get("startedAt"))
        await press(kube, "job", "promote@7#other")
        await fleet.until(lambda job: job["status"]["lastHandledRequest"] == "promote@7#other")
        kubectl(*ARGOCD, item=git)  # which heals what the button wrote
        await enroll(kube, "job", "r3")
        job = await fleet.until(lambda job: job["status"]["robots"]["desired"] == 3)
        assert job["metadata"]["annotations"][Label.REQUEST] == "promote@2#git"
        assert job["status"]["lastHandledRequest"] == "promote@7#other"
        assert job["status"]["handledRequests"] == ["promote@2#git", "promote@7#other"]
        assert (candidate(job), job["status"]["rollout"]["step"]) == (2, 0)


async def test_the_operator_owns_status_and_nothing_else(
    operator: Operator, cluster: LocalCluster, kube: Kube, kubectl: Kubectl
) -> None:
    kubectl(*ARGOCD, item=training_job(replicas=1, rollout=STAGED))
    async with Fleet.of(kube, cluster.nats_url, "job", []) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"].get("stable"))
    found = kubectl.get("ftj,ract,polv", "--show-managed-fields")["items"]
    assert {one["kind"] for one in found} == {"FleetTrainingJob", "RobotActor", "PolicyVersion"}
    owned = {
        (one["kind"], by.get("subresource", ""))
        for one in found
        for by in one["metadata"]["managedFields"]
        if by["manager"] == FIELD_MANAGER and by["operation"] == "Apply"
    }
    assert owned == {(one["kind"], "status") for one in found}
    for child in found:
        if child["kind"] != "FleetTrainingJob":
            assert not any("argocd" in key for key in child["metadata"].get("labels", {}))


async def test_a_pin_in_git_holds_a_version_and_its_revert_gives_the_stable_one_back(
    operator: Operator, cluster: LocalCluster, kube: Kube, kubectl: Kubectl
) -> None:
    free: Object = {"strategy": "Broadcast"}
    kubectl(*ARGOCD, item=training_job(rollout=free))
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as fleet:
        for version in (1, 2):
            await fleet.announce(version)
            await fleet.until_runs("r1", version)
        kubectl(*ARGOCD, item=training_job(rollout={"mode": "Pinned", "pinnedVersion": 1}))
        await fleet.until_runs("r1", 1)
        kubectl(*ARGOCD, item=training_job(rollout=free))
        await fleet.until_runs("r1", 2)


async def test_replicas_that_git_leaves_out_stay_with_who_scales(
    kube: Kube, kubectl: Kubectl
) -> None:
    git = training_job(replicas=2)
    kubectl(*ARGOCD, item=git)
    kubectl("scale", "ftj", "job", "--replicas=5")  # an autoscaler does the same
    del git["spec"]["robots"]["simulated"]["replicas"]
    for _ in range(2):
        kubectl(*ARGOCD, item=git)
        assert kubectl.get("ftj", "job")["spec"]["robots"]["simulated"]["replicas"] == 5
    assert not drift(kubectl, git, ARGOCD)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("sync", [ARGOCD, SYNCS["kubectl apply"]], ids=["server", "client"])
def test_a_sample_that_was_applied_shows_no_drift(
    kubectl: Kubectl, sample: Path, sync: tuple[str, ...]
) -> None:
    kubectl(*sync, "-f", str(sample))
    assert not kubectl("diff", *sync[1:], "-f", str(sample))
