"""What every room's tests may ask for: a real cluster, and a namespace of one's own in it."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api
from fleet_cli.setup import install_kinds
from helpers.audit import AuditedCluster
from helpers.kube import Kube

# Workers share the cores: threads of torch would wait for each other, spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How fast examples come says how busy the machine is, and nothing about the code.
settings.register_profile("fleetloop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleetloop")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first: no worker shall be left alone with it."""
    items.sort(key=lambda item: {"ring", "faults"}.isdisjoint(item.path.parts))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedCluster]:
    """One for the whole session: what a test leaves behind stays in its namespace."""
    with AuditedCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def kinds(cluster: LocalCluster) -> None:
    """The three kinds, once a cluster: the API server takes a second of a core to hear of them."""
    install_kinds(cluster.kubectl, cluster.kubeconfig)


@pytest.fixture
async def api(cluster: LocalCluster) -> AsyncIterator[Api]:
    """The API server as the administrator sees it, plain JSON."""
    async with Api(cluster.kubeconfig) as client:
        yield client


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[Kube]:
    """A fresh namespace and the verbs to use it; it is deleted, but not awaited, at the end."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    kube = Kube(api, namespace)
    # Before it exists, the API server refuses every pod.
    await kube.until("serviceaccounts", "default", lambda _: True)
    yield kube
    await api.delete(f"/api/v1/namespaces/{namespace}", {})


@pytest.fixture
def namespace(kube: Kube) -> str:
    return kube.namespace
