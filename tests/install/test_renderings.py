"""Everything that people may apply, before a real API server that knows every field."""

import asyncio

import pytest

from fleet_cli import setup
from fleet_cli.crds import render
from fleet_cli.local.cluster import LocalCluster
from fleet_contract.names import Label
from helpers.audit import documents
from helpers.kube import Kube
from helpers.manifests import MANIFESTS, NAMESPACE, moved, rendered

KIND = "CustomResourceDefinition"


async def test_the_overlay_that_holds_everything_is_taken_as_it_is(
    kinds: None, cluster: LocalCluster, kube: Kube
) -> None:
    items = rendered(cluster.kubectl, MANIFESTS / "overlays" / "kind")
    assert {one["metadata"].get("namespace", NAMESPACE) for one in items} == {NAMESPACE}
    # Other tests install the kinds as they are.
    items = [one for one in moved(items, kube.namespace) if one["kind"] != KIND]
    text = "---\n".join(map(render, items))
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    ask = (cluster.kubectl, cluster.kubeconfig, *words)
    told = await asyncio.to_thread(setup.ask, *ask, stdin=text)
    assert len(told.splitlines()) == len(items)
    wrong = text.replace("  replicas: 1\n", "  replica: 1\n")
    with pytest.raises(RuntimeError, match="replica"):
        await asyncio.to_thread(setup.ask, *ask, stdin=wrong)


def test_the_overlay_for_gpus_has_one_queue_and_the_sample_comes_to_it(
    cluster: LocalCluster,
) -> None:
    items = rendered(cluster.kubectl, MANIFESTS / "overlays" / "gpu")
    queues = {one["kind"]: one for one in items if "kueue" in one["apiVersion"]}
    assert queues.keys() == {"ResourceFlavor", "ClusterQueue", "LocalQueue"}
    (group,) = queues["ClusterQueue"]["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert flavor["name"] == queues["ResourceFlavor"]["metadata"]["name"]
    assert [one["name"] for one in flavor["resources"]] == group["coveredResources"]
    (sample,) = documents(MANIFESTS / "samples" / "gpu.yaml")
    asked = sample["spec"]["learner"]["resources"]
    assert {*asked["requests"], *asked["limits"]} == set(group["coveredResources"])
    queue = sample["metadata"]["labels"][Label.KUEUE_QUEUE]
    assert queue == queues["LocalQueue"]["metadata"]["name"]


def test_the_overlay_for_servers_of_ones_own_holds_no_secret_and_no_server(
    cluster: LocalCluster,
) -> None:
    kinds = {one["kind"] for one in rendered(cluster.kubectl, MANIFESTS / "overlays" / "install")}
    assert kinds.isdisjoint({"Secret", "StatefulSet", "Service"})
