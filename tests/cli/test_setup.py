"""What a fresh cluster is given: the kinds, the permissions, an operator that knows the way."""

import json
import os
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path

import pytest

from fleet_cli import setup
from fleet_cli.local.cluster import LocalCluster

BASE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: stand-in}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: stand-in}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: stand-in}
subjects: [{kind: ServiceAccount, name: stand-in}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: stand-in}
spec:
  selector: {matchLabels: {app: stand-in}}
  template:
    metadata: {labels: {app: stand-in}}
    spec:
      serviceAccountName: stand-in
      containers:
      - name: operator
        image: any
        command: [tail, -f, /dev/null]
        env: [{name: FLEET_NATS_URL, value: "nats://nats:4222"}, {name: OTHER, value: stays}]
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "all.yaml").write_text(BASE)
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\n")
    monkeypatch.setattr(setup, "BASE", tmp_path)
    return tmp_path


@pytest.fixture
def home(cluster: LocalCluster) -> str:
    return f"setup-{uuid.uuid4().hex[:8]}"


def ask(cluster: LocalCluster, namespace: str, *words: str) -> str:
    target = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]
    return subprocess.check_output([str(cluster.kubectl), *target, *words], text=True)


@pytest.mark.usefixtures("base")
def test_an_operator_runs_in_its_namespace_and_is_told_where_nats_and_objects_are(
    cluster: LocalCluster, home: str
) -> None:
    setup.run_operator(cluster, home)
    setup.run_operator(cluster, home)  # again is harmless
    deployment = json.loads(ask(cluster, home, "get", "deployment", "stand-in", "-o", "json"))
    assert deployment["status"]["readyReplicas"] == 1
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]} == {
        "OTHER": "stays",
        "FLEET_NATS_URL": cluster.nats_url,
        "FLEET_STORAGE_URL": cluster.storage_url,
    }
    binding = json.loads(ask(cluster, home, "get", "rolebinding", "stand-in", "-o", "json"))
    assert binding["subjects"][0]["namespace"] == home
    ask(cluster, home, "delete", "namespace", home, "--wait=false")


@pytest.mark.usefixtures("base")
def test_permissions_alone_start_no_operator(cluster: LocalCluster, home: str) -> None:
    setup.install(cluster.kubectl, cluster.kubeconfig, home)
    names = ask(cluster, home, "get", "serviceaccount,rolebinding,deployment", "-o", "name")
    assert "serviceaccount/stand-in" in names
    assert "rolebinding.rbac.authorization.k8s.io/stand-in" in names
    assert "deployment" not in names
    ask(cluster, home, "delete", "namespace", home, "--wait=false")


def test_without_manifests_the_kinds_are_installed_and_an_operator_is_an_error(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "BASE", tmp_path / "nowhere")
    setup.install(cluster.kubectl, cluster.kubeconfig)
    with pytest.raises(RuntimeError, match="a wheel and a checkout"):
        setup.run_operator(cluster, "default")


def test_what_kubectl_refuses_is_told_in_its_words(cluster: LocalCluster) -> None:
    with pytest.raises(RuntimeError, match='no matches for kind "Nothing"'):
        setup.apply(
            cluster.kubectl,
            cluster.kubeconfig,
            "apiVersion: fleetloop.dev/v1alpha1\nkind: Nothing\nmetadata: {name: x}\n",
        )


def test_a_wheel_carries_the_manifests_of_the_operator(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    told = subprocess.check_output(
        [sys.executable, "-c", "from fleet_cli import setup; print(setup.BASE, setup.at_hand())"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        text=True,
    )
    assert told.split() == [str(tmp_path / "site" / "fleet_cli" / "manifests" / "base"), "True"]
