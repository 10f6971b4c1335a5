"""A cluster with one real node, and kubectl as people use it."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e import runtime
from e2e.kubectl import AT_WORK, NAMESPACE, WITHIN, Kubectl
from e2e.node import RealCluster
from fleet_cli.local.node.api import Api
from helpers.kube import Kube


@pytest.fixture(scope="session")
def cluster() -> Iterator[RealCluster]:
    runtime.restore()
    with RealCluster(Path(os.environ["FLEET_E2E_DIR"])) as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(cluster: RealCluster) -> Kubectl:
    return Kubectl(cluster)


@pytest.fixture(scope="session")
def volumes(cluster: RealCluster, kubectl: Kubectl) -> None:
    """What a cluster's storage class would make for the two claims of the dev component, twice."""
    for name in ("first", "second", "third", "fourth"):
        folder = cluster.dir / "volumes" / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        kubectl(
            *("apply", "--server-side", "-f", "-"),
            stdin=f"""
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {{storage: 10Gi}}
  hostPath: {{path: {folder}}}
""",
        )


@pytest.fixture(scope="session")
def installed(kubectl: Kubectl, volumes: None) -> None:
    """The one command of the docs, and all that it installs at work."""
    kubectl("apply", "--server-side", "-k", "manifests/overlays/kind")
    for name in AT_WORK:
        kubectl("rollout", "status", name, f"--timeout={WITHIN}")


@pytest.fixture
async def kube(cluster: RealCluster) -> AsyncIterator[Kube]:
    async with Api(cluster.kubeconfig) as api:
        yield Kube(api, NAMESPACE)
