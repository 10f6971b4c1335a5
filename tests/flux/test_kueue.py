"""The GPU overlay and its queue, before Kueue's own kinds."""

import time

from contract.conftest import Kubectl
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.setup import DISCOVERED_WITHIN
from flux.conftest import module
from helpers.manifests import MANIFESTS, NAMESPACE

KUEUE = "sigs.k8s.io/kueue@v0.17.0"
KINDS = ("resourceflavors", "clusterqueues", "localqueues")


def test_the_overlay_for_gpus_is_taken_field_by_field(cluster: LocalCluster, kinds: None) -> None:
    kubectl = Kubectl(cluster, NAMESPACE)
    crds = module(KUEUE) / "config" / "components" / "crd" / "bases"
    for kind in KINDS:
        kubectl("apply", "--server-side", "-f", str(crds / f"kueue.x-k8s.io_{kind}.yaml"))
    deadline = time.monotonic() + DISCOVERED_WITHIN
    while kubectl.run("get", ",".join(KINDS)).returncode:
        assert time.monotonic() < deadline, "Kueue's kinds are not served"
        time.sleep(0.1)  # nothing tells that kubectl would find them now
    kubectl("create", "namespace", NAMESPACE)
    try:
        words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k")
        said = kubectl(*words, str(MANIFESTS / "overlays" / "gpu"))
        queues = [line for line in said.splitlines() if "kueue" in line]
        assert len(queues) == len(KINDS), said
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
