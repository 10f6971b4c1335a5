"""The real apiserver with our kinds in it, asked through kubectl as people do."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.setup import install

Object = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """kubectl in a namespace of its own."""

    cluster: LocalCluster
    namespace: str

    def run(self, *words: str, item: Object | None = None) -> subprocess.CompletedProcess[str]:
        """Whatever comes of it; the item goes to standard input, asked for by ``-f -``."""
        target = ["--kubeconfig", str(self.cluster.kubeconfig), "--namespace", self.namespace]
        stdin = "" if item is None else json.dumps(item)
        files = () if item is None else ("-f", "-")
        return subprocess.run(
            [str(self.cluster.kubectl), *target, *words, *files],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def __call__(self, *words: str, item: Object | None = None) -> str:
        """What it prints; it must succeed."""
        result = self.run(*words, item=item)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refusal(self, *words: str, item: Object | None = None) -> str:
        """What it says on stderr; it must fail."""
        result = self.run(*words, item=item)
        assert result.returncode != 0, f"accepted: {result.stdout}"
        return result.stderr

    def create(self, item: Object) -> Object:
        made: Object = json.loads(self("create", "-o", "json", item=item))
        return made

    def get(self, *words: str) -> Object:
        found: Object = json.loads(self("get", "-o", "json", *words))
        return found


@pytest.fixture(scope="session")
def kubectl(cluster: LocalCluster) -> Iterator[Kubectl]:
    install(cluster.kubectl, cluster.kubeconfig)
    kubectl = Kubectl(cluster, f"contract-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
