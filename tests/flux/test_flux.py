"""The samples for Flux and Argo CD, and what Flux itself makes of our objects."""

from dataclasses import replace
from typing import Any

import yaml

from contract.conftest import Kubectl
from fleet_cli.local.cluster import LocalCluster
from fleet_contract import names
from fleet_contract.names import Kind, Label
from flux.conftest import NAMESPACE, Source
from helpers import gitops
from helpers.control import JOBS, Fleet, Operator, press, training_job
from helpers.kube import Kube

KUSTOMIZATIONS = "kustomize.toolkit.fluxcd.io/v1/kustomizations"


def robot(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.ROBOT_ACTOR.value,
        "metadata": {"name": name},
        "spec": {"job": "job", "mode": "External", **spec},
    }


def sync(item: dict[str, Any]) -> tuple[str, str, str]:
    """Of a Kustomization: whether it is Ready, why, and of which commit."""
    status = item.get("status", {})
    for one in status.get("conditions", []):
        if one["type"] == "Ready":
            return one["status"], one["reason"], status.get("lastAttemptedRevision", "")[-1:]
    return "", "", ""


async def test_flux_waits_for_the_fleet_fails_on_a_fault_and_leaves_buttons_alone(
    operator: Operator, cluster: LocalCluster, kube: Kube, source: Source
) -> None:
    there = Kube(kube.api, NAMESPACE)

    async def until(*wanted: str) -> dict[str, Any]:
        return await there.until(KUSTOMIZATIONS, "fleet", lambda item: sync(item) == wanted, 90)

    sample = list(yaml.safe_load_all((gitops.FLUX / "fleet.yaml").read_text()))
    sample[1]["spec"] |= {"targetNamespace": kube.namespace, "retryInterval": "2s"}
    for item in sample:
        source.kubectl("apply", item=item)
    git = {"fleet/all.yaml": [training_job(), robot("arm-1"), robot("arm-2")]}
    source.commit(git)
    await until("Unknown", "Progressing", "1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["arm-1"]) as fleet:
        # The job is Ready by one robot; the other is switched off, which is no failure.
        await until("True", "ReconciliationSucceeded", "1")
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"].get("stable"))
        request = "pause@1#button"
        await press(kube, "job", request)
        await fleet.until(lambda job: job["status"]["lastHandledRequest"] == request)
        source.commit({"fleet/all.yaml": [*git["fleet/all.yaml"], robot("arm-3", job="nowhere")]})
        failed = await until("False", "HealthCheckFailed", "2")
        assert "RobotActor" in str(failed["status"]["conditions"])
        job = await kube.get(JOBS, "job")
        assert job["metadata"]["annotations"][Label.REQUEST] == request
        assert job["status"]["rollout"]["paused"] is True
        assert job["metadata"]["generation"] == 1
        source.commit(git)
        await until("True", "ReconciliationSucceeded", "3")
    source.kubectl("delete", "kustomization", "fleet")
    await kube.until_gone(JOBS, "job")


def test_the_samples_apply_as_they_stand(kubectl: Kubectl) -> None:
    argocd = replace(kubectl, namespace="argocd")
    for there, sample in (
        (kubectl, gitops.FLUX / "one-job.yaml"),
        (kubectl, gitops.FLUX / "fleet.yaml"),
        (argocd, gitops.ARGOCD / "application.yaml"),
    ):
        there("apply", "--dry-run=server", "-f", str(sample))
    argocd("create", "configmap", "argocd-cm", "--from-literal=url=mine")
    customizations = str(gitops.ARGOCD / "customizations")
    argocd("apply", "--server-side", "--field-manager=fleetloop", "-k", customizations)
    kept = argocd.get("configmap", "argocd-cm")["data"]
    assert kept["url"] == "mine"
    assert len(kept) == 5
