"""A real cluster, and an operator in the test's namespace."""

from collections.abc import AsyncIterator

import pytest

from fleet_cli.local.cluster import LocalCluster
from helpers.control import Operator
from helpers.kube import Kube
from helpers.nats import drop_streams


@pytest.fixture
async def operator(
    kinds: None, cluster: LocalCluster, kube: Kube, request: pytest.FixtureRequest
) -> AsyncIterator[Operator]:
    """Running in the test's own namespace, with the variables of an indirect parameter."""
    running = await Operator(cluster, kube.namespace, **getattr(request, "param", {})).start()
    yield running
    await running.stop()
    await drop_streams(cluster.nats_url, kube.namespace)
