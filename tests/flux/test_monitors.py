"""The monitoring component, before the kinds of the Prometheus operator itself."""

import time
from pathlib import Path

from contract.conftest import Kubectl
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.setup import DISCOVERED_WITHIN
from flux.conftest import module

COMPONENT = Path(__file__).parents[2] / "manifests" / "components" / "monitoring"
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KINDS = ("podmonitors", "prometheusrules")


def test_rules_and_monitors_are_taken_field_by_field(cluster: LocalCluster) -> None:
    kubectl = Kubectl(cluster, "default")
    for kind in KINDS:
        crd = (
            module(OPERATOR) / f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        )
        kubectl("apply", "--server-side", "-f", str(crd))
    deadline = time.monotonic() + DISCOVERED_WITHIN
    while kubectl.run("get", ",".join(KINDS)).returncode:
        assert time.monotonic() < deadline, "the Prometheus operator's kinds are not served"
        time.sleep(0.1)  # nothing tells that kubectl would find them now
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k")
    said = kubectl(*words, str(COMPONENT)).splitlines()
    assert len(said) == 5  # the dashboards' ConfigMap, the rules, three monitors
