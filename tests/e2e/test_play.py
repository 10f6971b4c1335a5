"""The demo as people type it on a cluster of theirs: it brings all it needs, and takes it away."""

import asyncio
import os
import re
import sys
from pathlib import Path

from e2e.kubectl import Kubectl
from e2e.node import RealCluster

WITHIN = 1500.0  # seconds; the measurements share two cores with the fleet
# The fleet learns until a broken version can be told from a good one.
LEARNS = ("--minutes", "12", "--goal", "0.4", "--episodes", "5")


async def test_the_play_installs_itself_takes_a_bad_version_back_and_goes(
    cluster: RealCluster, kubectl: Kubectl, volumes: None, tmp_path: Path
) -> None:
    context = kubectl("config", "current-context").strip()
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("fleet")), "demo", "--context", context),
        *(*LEARNS, "--output", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    finally:
        if process.returncode is None:
            process.terminate()
    lines = said.decode().splitlines()
    print(*lines[-12:], sep="\n")
    assert process.returncode == 0, said.decode()
    assert re.fullmatch(r"base=\d\.\d\d final=\d\.\d\d minutes=\d+\.\d", lines[-1])
    assert "fleet-demo" not in kubectl("get", "namespaces", "--output=name")
