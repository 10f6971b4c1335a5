"""A real cluster with the three kinds, an operator in the test's namespace, and kubectl."""

from collections.abc import AsyncIterator

import pytest

from contract.conftest import Kubectl
from fleet_cli.local.cluster import LocalCluster
from helpers.control import Operator
from helpers.kube import Kube
from helpers.nats import drop_streams


@pytest.fixture
def kubectl(kinds: None, cluster: LocalCluster, kube: Kube) -> Kubectl:
    """In the test's own namespace."""
    return Kubectl(cluster, kube.namespace)


@pytest.fixture
async def operator(kinds: None, cluster: LocalCluster, kube: Kube) -> AsyncIterator[Operator]:
    running = await Operator(cluster, kube.namespace).start()
    yield running
    await running.stop()
    await drop_streams(cluster.nats_url, kube.namespace)
