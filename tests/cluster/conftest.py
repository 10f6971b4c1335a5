"""The three kinds in a real cluster, and an operator in the test's namespace."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api, ApiError, Json
from helpers.control import Operator
from helpers.kube import Kube
from helpers.nats import drop_streams

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture
async def kinds(api: Api) -> None:
    """The CRDs, established; the first test pays for it."""
    root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for path in sorted(CRDS.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        try:
            await api.create(root, crd)
        except ApiError as error:
            if error.status != 409:
                raise
        name = crd["metadata"]["name"]
        async for _, seen in api.watch(root, fieldSelector=f"metadata.name={name}"):
            found = seen.get("items", [seen])
            if any("Established" in _true(one) for one in found):
                break


@pytest.fixture
async def operator(kinds: None, cluster: LocalCluster, kube: Kube) -> AsyncIterator[Operator]:
    """Running in the test's own namespace."""
    running = await Operator(cluster, kube.namespace).start()
    yield running
    await running.stop()
    await drop_streams(cluster.nats_url, kube.namespace)


def _true(document: Json) -> set[str]:
    conditions = document.get("status", {}).get("conditions") or []  # null while it is fresh
    return {one["type"] for one in conditions if one["status"] == "True"}
