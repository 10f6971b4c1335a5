"""The programs of the local cluster: which versions, and where each one is found.

Looked for in KUBEBUILDER_ASSETS, the project's cache, PATH (the pinned version only), and then
built with Go. ``python -m fleet_cli.local.binaries`` does this beforehand for all that a cluster
needs, and for those named as arguments.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"


@dataclass(frozen=True)
class Program:
    """One binary: the Go module folder that pins it, its package, how it tells its version."""

    name: str
    module: str  # folder below tools/
    requirement: str  # the line of go.mod that holds the version
    package: str
    version_arguments: tuple[str, ...]
    seconds: int  # a cold build on two cores, in the order below: an estimate to show, no limit
    kit: str = "cluster"  # those of another kit are built only when asked for by name

    @property
    def gcflags(self) -> str:
        """How it is compiled. Nobody debugs these programs, so no debugger's tables are made.

        Inlining takes a third of a build, and kube-apiserver a fifth more processor time without
        it: most idle through their few minutes, so it is left out where nothing is measured.
        """
        return "all=-dwarf=false" if self.module == "nats" else "all=-dwarf=false -l"

    @property
    def folder(self) -> Path:
        return TOOLS / self.module

    @property
    def version(self) -> str:
        """As pinned in go.mod, with its leading v."""
        text = (self.folder / "go.mod").read_text()
        found = re.search(
            rf"^(?:require)?\s*{re.escape(self.requirement)} (v\S+)", text, re.MULTILINE
        )
        if found is None:
            message = f"{self.folder / 'go.mod'} does not require {self.requirement}: restore it"
            raise LookupError(message)
        return found[1]

    @property
    def ldflags(self) -> str:
        if self.module == "versitygw":
            return f"-s -w -X main.Version={self.version}"
        if self.name == "helm":
            # Charts ask which Kubernetes they are for; without a cluster helm answers by itself.
            capabilities = "helm.sh/helm/v3/pkg/chartutil.k8sVersion"
            return (
                f"-s -w -X helm.sh/helm/v3/internal/version.version={self.version}"
                f" -X {capabilities}Major=1 -X {capabilities}Minor=36"
            )
        if self.requirement != "k8s.io/kubernetes":
            return "-s -w"
        # Without these the programs call themselves v0.0.0-master, and kubectl warns of a skew.
        major, minor = self.version.removeprefix("v").split(".")[:2]
        version = "k8s.io/component-base/version"
        return (
            f"-s -w -X {version}.gitVersion={self.version}"
            f" -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
            f" -X k8s.io/client-go/pkg/version.gitVersion={self.version}"
        )


def _kubernetes(
    name: str,
    seconds: int,
    *version_arguments: str,
    module: str = "kubernetes",
    kit: str = "cluster",
) -> Program:
    package = f"k8s.io/kubernetes/cmd/{name}"
    return Program(
        name,
        module,
        "k8s.io/kubernetes",
        package,
        version_arguments or ("--version",),
        seconds,
        kit,
    )


# In the order of building: the short ones first, so that something is seen to happen.
PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "nats-server",
            "nats",
            "github.com/nats-io/nats-server/v2",
            "github.com/nats-io/nats-server/v2",
            ("--version",),
            25,
        ),
        Program(
            "etcd",
            "kubernetes",
            "go.etcd.io/etcd/server/v3",
            "go.etcd.io/etcd/server/v3",
            ("--version",),
            25,
        ),
        _kubernetes("kube-apiserver", 180),
        _kubernetes("kube-controller-manager", 50),
        _kubernetes("kube-scheduler", 5),
        _kubernetes("kubectl", 20, "version", "--client"),
        Program(  # an S3 server, for tests
            "versitygw",
            "versitygw",
            "github.com/versity/versitygw",
            "github.com/versity/versitygw/cmd/versitygw",
            ("--version",),
            95,
            kit="storage",
        ),
        Program(  # what Flux and Argo CD make of an object, for tests
            "gitops-judge",
            "gitops",
            "github.com/fluxcd/cli-utils",
            ".",
            ("--version",),
            5,
            kit="gitops",
        ),
        Program(  # Flux itself, for `make flux`
            "kustomize-controller",
            "flux",
            "github.com/fluxcd/kustomize-controller",
            "github.com/fluxcd/kustomize-controller",
            ("--version",),
            150,
            kit="flux",
        ),
        Program(  # what people install charts with, for `make charts`
            "helm",
            "charts",
            "helm.sh/helm/v3",
            "helm.sh/helm/v3/cmd/helm",
            ("version", "--short"),
            110,
            kit="charts",
        ),
        # A node that runs containers, for the end-to-end suite.
        _kubernetes("kubelet", 100, module="node", kit="node"),
        _kubernetes("kube-proxy", 10, module="node", kit="node"),
        Program(
            "coredns",
            "coredns",
            "github.com/coredns/coredns",
            "github.com/coredns/coredns",
            ("--version",),
            140,
            kit="node",
        ),
        Program(  # holds that node's pods to NetworkPolicies
            "kube-network-policies",
            "policies",
            "sigs.k8s.io/kube-network-policies",
            "sigs.k8s.io/kube-network-policies/cmd",
            ("--version",),
            60,
            kit="policies",
        ),
    )
}


def cache_root() -> Path:
    """What can be made again, shared by all clusters of this user."""
    if chosen := os.environ.get("FLEET_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fleetloop"


@cache
def bin_folder(kit: str = "cluster") -> Path:
    """The cache's folder for exactly these pins: a new pin never meets an old binary.

    Each kit has one of its own, so that no cluster is built anew because of another's pins.
    """
    programs = [program for program in PROGRAMS.values() if program.kit == kit]
    pins = hashlib.sha256(platform.machine().encode())
    sources = ("go.*", "main.go")  # of a program of ours its code, too
    folders = {program.folder for program in programs}
    for path in sorted(path for one in folders for name in sources for path in one.glob(name)):
        pins.update(path.read_bytes())
    for program in programs:
        pins.update((program.gcflags + program.ldflags).encode())
    return cache_root() / "bin" / pins.hexdigest()[:12]


def find(name: str) -> Path | None:
    """The binary where it is at hand without a build."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        path = Path(assets) / name
        if path.is_file():  # named by the user: taken as it is
            return path
    path = bin_folder(PROGRAMS[name].kit) / name
    if path.is_file():
        return path
    on_path = shutil.which(name)
    if on_path is not None and _is_pinned(PROGRAMS[name], on_path):
        return Path(on_path)
    return None


def resolve(*names: str) -> dict[str, Path]:
    """Every named binary (all of a cluster by default), built where need be.

    Raises:
        RuntimeError: a build failed, or there is no such program; the message says what to do.
    """
    if unknown := set(names) - PROGRAMS.keys():
        message = (
            f"no program named {', '.join(sorted(unknown))}: choose from {', '.join(PROGRAMS)}"
        )
        raise RuntimeError(message)
    wanted = names or tuple(name for name, program in PROGRAMS.items() if program.kit == "cluster")
    found = {name: find(name) for name in wanted}
    for kit in dict.fromkeys(program.kit for program in PROGRAMS.values()):
        missing = [name for name in wanted if not found[name] and PROGRAMS[name].kit == kit]
        if missing:
            from fleet_cli.local.building import build

            folder = bin_folder(kit)
            build([PROGRAMS[name] for name in missing], folder)
            found |= {name: folder / name for name in missing}
    return {name: path for name, path in found.items() if path is not None}


def _is_pinned(program: Program, path: str) -> bool:
    try:
        answer = subprocess.run(
            [path, *program.version_arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.escape(program.version.removeprefix("v"))
    return re.search(rf"(?<![\d.])v?{version}(?![\w.+-])", answer.stdout) is not None


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            resolve(*sys.argv[1:])
        resolve()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
