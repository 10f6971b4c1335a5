"""What the operator's image leaves out of the Kubernetes library is never asked for."""

import subprocess
import sys
from pathlib import Path

from fleet_cli.local.cluster import LocalCluster

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"

# As in the image: the packages' own first file is there, nothing below it is.
LEFT_OUT = """
import asyncio, re, sys

class LeftOut:
    def find_spec(self, name, path=None, target=None):
        if re.match(r"kubernetes(\\.aio)?\\.client\\.(api$|api\\.|models\\.)", name):
            raise ModuleNotFoundError(f"not in the image: {name}", name=name)

sys.meta_path.insert(0, LeftOut())
import fleet_cli.kube, fleet_cli.kubeconfig, fleet_cli.main, fleet_operator.main
from fleet_operator.cluster import Cluster

async def main():
    async with Cluster("default") as cluster:
        print([one["metadata"]["name"] for one in await cluster.list("ConfigMap")])

asyncio.run(main())
"""


def test_the_operator_works_without_what_its_image_leaves_out(cluster: LocalCluster) -> None:
    assert "models/__init__*' -delete" in DOCKERFILE.read_text()
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OUT],
        env={"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "kube-root-ca.crt" in done.stdout, done.stderr
