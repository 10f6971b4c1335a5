"""The operator's program where it cannot work."""

import os
import subprocess
import sys
from pathlib import Path


def test_without_a_cluster_it_says_what_it_needs(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    environment.pop("KUBECONFIG", None)
    command = [sys.executable, "-m", "fleet_operator"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "set KUBECONFIG, or run as a pod" in ended.stderr
    assert "Traceback" not in ended.stderr
