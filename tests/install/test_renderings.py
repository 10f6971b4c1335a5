"""Everything that people may apply, before a real API server that knows every field."""

import asyncio

import pytest

from fleet_cli import setup
from fleet_cli.crds import render
from fleet_cli.local.cluster import LocalCluster
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


def test_the_overlay_for_servers_of_ones_own_holds_no_secret_and_no_server(
    cluster: LocalCluster,
) -> None:
    kinds = {one["kind"] for one in rendered(cluster.kubectl, MANIFESTS / "overlays" / "install")}
    assert kinds.isdisjoint({"Secret", "StatefulSet", "Service"})
