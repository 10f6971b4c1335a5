"""The chart on Helm itself: what it renders, what it refuses, and one release from start to end."""

import asyncio
import subprocess
from pathlib import Path

import pytest
import yaml

from fleet_cli import setup
from fleet_cli.local import binaries
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from helpers.control import JOBS, training_job
from helpers.kube import Kube, condition
from helpers.manifests import MANIFESTS, NAMESPACE, rendered

CHART = MANIFESTS / "chart"
KEEP = "helm.sh/resource-policy"
NAME = "fleetloop"


def helm(*words: str, at: LocalCluster | None = None) -> str:
    """What it prints; raises ``CalledProcessError`` with its words in ``stderr``."""
    target = ["--kubeconfig", str(at.kubeconfig)] if at else []
    command = [str(binaries.resolve("helm")["helm"]), *words, *target]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def template(*words: str) -> dict[tuple[str, str], Json]:
    """What it renders, by kind and name."""
    text = helm("template", NAME, str(CHART), "--namespace", NAMESPACE, *words)
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def refused(*words: str) -> str:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        template(*words)
    return str(failure.value.stderr)


def operator(items: dict[tuple[str, str], Json]) -> Json:
    pod: Json = items["Deployment", "fleetloop-operator"]["spec"]["template"]
    return pod


def test_by_default_it_is_the_overlay_for_servers_of_ones_own(cluster: LocalCluster) -> None:
    overlay = rendered(cluster.kubectl, MANIFESTS / "overlays" / "install")
    expected = {(one["kind"], one["metadata"]["name"]): one for one in overlay}
    del expected["Namespace", NAMESPACE]  # `--create-namespace`
    found = template()
    for (kind, _), item in found.items():
        if kind == "CustomResourceDefinition":
            assert item["metadata"].pop("annotations") == {KEEP: "keep"}
    assert found == expected


def test_it_lints_and_its_package_holds_what_the_links_lead_to(tmp_path: Path) -> None:
    helm("lint", "--strict", str(CHART))
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()
    assert yaml.safe_load(helm("show", "values", str(package)))["image"]["tag"] == "latest"
    packed = list(yaml.safe_load_all(helm("template", NAME, str(package))))
    assert len(packed) == len(template())


def test_values_reach_the_operator() -> None:
    values = {
        "image.repository": "example.test/operator",
        "image.digest": "sha256:" + 64 * "a",
        "nats.url": "nats://broker:4222",
        "storage.url": "s3://bucket",
        "storage.secret": "store",
        "learnerImage": "example.test/learner:1",
        "env.FLEET_WORKERS": "8",
        "env.OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "podLabels.team": "arms",
        "resources.limits.memory": "1Gi",
        "nodeSelector.pool": "fleet",
    }
    pod = operator(
        template(*(word for key in values for word in ("--set", f"{key}={values[key]}")))
    )
    (container,) = pod["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert container["image"] == f"example.test/operator@{values['image.digest']}"
    assert env == {
        "FLEET_NAMESPACE": None,
        "FLEET_BIND_ADDRESS": None,
        "FLEET_NATS_URL": "nats://broker:4222",
        "FLEET_STORAGE_URL": "s3://bucket",
        "FLEET_STORAGE_SECRET": "store",
        "FLEET_LEARNER_IMAGE": "example.test/learner:1",
        "FLEET_WORKERS": "8",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
    }
    assert container["resources"] == {"limits": {"memory": "1Gi"}}
    assert pod["spec"]["nodeSelector"] == {"pool": "fleet"}
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/name": NAME + "-operator",
        "team": "arms",
    }


def test_a_further_namespace_leaves_out_what_is_the_clusters() -> None:
    off = [
        word
        for part in ("crds", "people", "network")
        for word in ("--set", f"{part}.install=false")
    ]
    assert {kind for kind, _ in template(*off)} == {
        *("ServiceAccount", "Role", "RoleBinding", "Deployment")
    }


def test_ports_of_ones_own_may_be_called() -> None:
    items = template("--set", "network.ports={4333}")
    for name in ("fleetloop-operator", "fleetloop-agents"):
        assert {"ports": [{"port": 4333}]} in items["NetworkPolicy", name]["spec"]["egress"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("imgae.tag=1", "imgae"),
        ("image.digest=latest", "image/digest"),
        ("nats.url=broker:4222", "nats/url"),
        ("storage.url=/var/lib", "storage/url"),
        ("env.NATS_URL=x", "NATS_URL"),
        ("network.ports={http}", "network/ports"),
        ("crds.install=maybe", "crds/install"),
    ],
)
def test_a_slip_in_the_values_is_refused(value: str, words: str) -> None:
    assert words in refused("--set", value)


async def test_a_release_is_installed_upgraded_and_taken_away(
    cluster: LocalCluster, kube: Kube
) -> None:
    """A job lives through the upgrade, and the kinds through the end."""
    at = ("--namespace", kube.namespace)
    told = ("--set", f"nats.url={cluster.nats_url}", "--set", f"storage.url={cluster.storage_url}")
    wait = ("--wait", "--timeout", "2m")
    await asyncio.to_thread(helm, "install", NAME, str(CHART), *at, *told, *wait, at=cluster)
    await kube.create(JOBS, training_job())
    job = await kube.until(JOBS, "job", lambda job: condition(job, "Ready") == "True")
    more = ("--set", "env.FLEET_WORKERS=2")
    await asyncio.to_thread(helm, "upgrade", NAME, str(CHART), *at, *told, *more, *wait, at=cluster)
    after = await kube.get(JOBS, "job")
    assert (after["metadata"]["uid"], condition(after, "Ready")) == (job["metadata"]["uid"], "True")
    await kube.delete(JOBS, "job")
    await kube.until_gone(JOBS, "job")
    await kube.until_gone("batch/v1/jobs", "job-learner-1", within=90)
    await asyncio.to_thread(helm, "uninstall", NAME, *at, *wait, at=cluster)
    left = ("deployments,roles,rolebindings,networkpolicies", "--output=name", *at)
    asked = (cluster.kubectl, cluster.kubeconfig, "get", *left)
    assert await asyncio.to_thread(setup.ask, *asked) == ""
    assert (await kube.get(JOBS))["items"] == []
