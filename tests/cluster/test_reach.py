"""How the operator comes to its API server."""

import pytest
from kubernetes.aio.config import kube_config

from fleet_cli.local.cluster import LocalCluster
from fleet_operator.cluster import Cluster
from helpers.kube import Kube

NOBODY = "http://127.0.0.1:9"


async def test_a_proxy_of_the_environment_is_not_asked_as_kopf_would_not_ask_it(
    cluster: LocalCluster, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(cluster.kubeconfig))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOBODY)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    async with Cluster(kube.namespace) as ours:
        assert await ours.list("Pod") == []
