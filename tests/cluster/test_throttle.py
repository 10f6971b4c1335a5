"""An API server that asks for a pause gets it, from every worker of the operator."""

import time
from pathlib import Path

import pytest
from kubernetes.aio.config import kube_config

from faults.injections import REFUSALS
from fleet_cli.local.cluster import LocalCluster
from fleet_contract.errors import Retry
from fleet_operator.cluster import LONGEST_WAIT, Cluster, retry_after
from helpers.kube import Kube
from helpers.proxy import Answer, ApiProxy, Call, Fault

ASKED = 1.0  # second, as the refusal's Retry-After says


class Overloaded(Fault):
    """The first request is one too many."""

    refused_at = 0.0

    async def before(self, call: Call) -> Answer | None:
        if self.refused_at:
            return None
        self.refused_at = time.monotonic()
        return REFUSALS["429"]


async def test_after_a_refusal_that_says_when_to_come_again_nothing_comes_before(
    cluster: LocalCluster, kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    async with ApiProxy.before(cluster, kubeconfig) as proxy:
        proxy.fault = fault = Overloaded()
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
        async with Cluster(kube.namespace) as ours:
            with pytest.raises(Retry, match="429"):
                await ours.list("Pod")
            assert await ours.list("Pod") == []
            assert time.monotonic() - fault.refused_at >= ASKED


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        (None, 0.0),
        ("", 0.0),
        ("2", 2.0),
        ("86400", LONGEST_WAIT),
        ("-1", 0.0),
        ("soon", 0.0),
        ("Fri, 15 Jan 2027 08:00:07 GMT", 7.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 09:00:00 GMT", LONGEST_WAIT),
        ("Fri, 32 Jan 2027 09:00:00 GMT", 0.0),
    ],
)
def test_when_to_come_again_is_told_in_seconds_or_as_a_date(said: str | None, wait: float) -> None:
    assert retry_after(said, 1_800_000_000.0) == wait
