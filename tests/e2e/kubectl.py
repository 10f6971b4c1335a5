"""kubectl as people use it."""

import subprocess

from e2e.images import ROOT
from e2e.node import RealCluster

NAMESPACE = "fleetloop"  # the overlay's
WITHIN = "180s"  # for pods to start
AT_WORK = ("statefulset/nats", "statefulset/s3", "deployment/fleetloop-operator")


class Kubectl:
    """The program, told where the cluster is and nothing else."""

    def __init__(self, cluster: RealCluster) -> None:
        self._command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
        self._command += ["--namespace", NAMESPACE]

    def __call__(self, *words: str, stdin: str = "") -> str:
        """What it prints; fails with its own words."""
        done = self._run(words, stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def refused(self, *words: str, stdin: str = "") -> str:
        """Why it failed; fails where it did not."""
        done = self._run(words, stdin)
        assert done.returncode != 0, f"kubectl {' '.join(words)} was accepted: {done.stdout}"
        return done.stderr

    def _run(self, words: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, cwd=ROOT, check=False
        )
