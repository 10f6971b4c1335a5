"""What a node goes through: its pods are taken off it, or its power fails."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from e2e.kubectl import WITHIN, Kubectl
from e2e.node import CGROUP, RealCluster

NODE = "local"
SHIM = "containerd-shim"


def drain(kubectl: Kubectl) -> None:
    """As before an upgrade of the node: every pod is evicted, and none comes until it is over."""
    kubectl("drain", NODE, "--delete-emptydir-data", f"--timeout={WITHIN}")
    kubectl("uncordon", NODE)


def crash(cluster: RealCluster) -> None:
    """No process of the node lives on but what only carries packets; then it is started anew.

    From the thread that started the cluster.
    """
    for name in ("kubelet", "containerd"):
        program = cluster.children[name].process
        assert program is not None
        program.kill()
        program.wait()
    killed = [process for process in _processes() if _of_a_pod(process)]
    for process in killed:
        with suppress(ProcessLookupError):  # it went with another
            os.kill(int(process.name), signal.SIGKILL)
    assert killed
    for name in ("containerd", "kubelet"):
        cluster.restart(name)


def _processes() -> Iterator[Path]:
    return Path("/proc").glob("[0-9]*")


def _of_a_pod(process: Path) -> bool:
    """Also of what containerd leaves beside each, so that a pod outlives containerd."""
    try:
        within, name = (process / "cgroup").read_text(), (process / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False
    return CGROUP in within or name.startswith(SHIM)
