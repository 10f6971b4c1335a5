"""A job's surroundings in a namespace of its own."""

import asyncio
from collections.abc import Mapping

import pytest

from fleet_cli.demo import agents
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.setup import install, run_operator
from fleet_contract.names import Env
from helpers.kube import Kube


@pytest.fixture
def told() -> Mapping[Env, str]:
    """Variables of the operator beside its usual ones."""
    return {}


@pytest.fixture
async def operator(cluster: LocalCluster, kube: Kube, told: Mapping[Env, str]) -> None:
    """The operator as a pod of the test's own namespace."""
    await asyncio.to_thread(install, cluster.kubectl, cluster.kubeconfig, kube.namespace)
    await asyncio.to_thread(run_operator, cluster, kube.namespace, told)


@pytest.fixture
async def dataset(cluster: LocalCluster, kube: Kube) -> str:
    """Two demonstrations of an opened drawer."""
    folder = f"datasets/{kube.namespace}"
    store = agents.Store(cluster.storage_url)
    assert await agents.record(store, folder, ["drawer-open"], 2, seed=1) == 2
    return f"{cluster.storage_url}/{folder}"
