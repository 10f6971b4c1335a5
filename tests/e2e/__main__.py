"""``make e2e``: makes what the suite needs, then runs it apart from the rest of this machine.

Processes, links, packet rules and mounts live in namespaces of their own and go with them,
whatever happens; what is left on disk is one folder, which goes too, and the cache.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e import images
from e2e.node import CGROUP, NODE, RealPlane
from fleet_cli.local import binaries

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}
APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
SETTING = " && ".join(
    (
        # Tools of a node write there, wherever else they are told to.
        *(f"mount -t tmpfs tmpfs {folder}" for folder in ("/run", "/var/log")),
        "ip link set lo up",
        f"ip address add {NODE}/32 dev lo",
        "echo 1 >/proc/sys/net/ipv4/ip_forward",
        'exec "$@"',
    )
)
ALONE = [*APART, "--net", "sh", "-c", SETTING, "sh"]


def main() -> int:
    if os.geteuid() != 0:
        sys.exit("error: a node that runs containers needs root; `make test` needs none")
    images.FOLDER.mkdir(parents=True, exist_ok=True)
    lock = (images.FOLDER / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # the layers are one run's at a time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order, and nothing stays
    began = time.monotonic()
    _install()
    binaries.resolve()
    binaries.resolve("versitygw", *RealPlane.programs)
    subprocess.run([*APART, sys.executable, "-m", "e2e.images"], check=True)
    subprocess.run([*ALONE, sys.executable, "-m", "e2e.runtime"], check=True)
    print(f"e2e: programs and images after {time.monotonic() - began:.0f} s", flush=True)
    with _cgroups(), TemporaryDirectory(prefix="fleetloop-e2e-") as folder:
        told = os.environ | {"FLEET_E2E_DIR": folder}
        suite = [*ALONE, sys.executable, "-m", "pytest", "tests/e2e", *sys.argv[1:]]
        code = subprocess.run(suite, env=told, cwd=images.ROOT, check=False).returncode
        _keep_logs(Path(folder))
    print(f"e2e: {time.monotonic() - began:.0f} s in all", flush=True)
    return code


def _install() -> None:
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if missing:
        print(f"e2e: apt-get install {' '.join(missing)}", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "--quiet", "--quiet", *words], check=True, env=environment)


def _keep_logs(folder: Path) -> None:
    kept = images.ROOT / "out" / "e2e"
    shutil.rmtree(kept, ignore_errors=True)
    for name in ("logs", "pods"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, kept / name)


@contextmanager
def _cgroups() -> Iterator[None]:
    """A group for the node in every hierarchy, since namespaces do not take theirs along."""
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    hierarchies = {root} if unified else {path.resolve() for path in root.iterdir()}
    tops = [path / CGROUP.strip("/") for path in hierarchies if path.is_dir()]
    for top in tops:
        top.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # empty at first, and then nothing may enter
            if (top / name).exists():
                (top / name).write_text((top.parent / name).read_text())
    try:
        yield
    finally:
        for top in tops:
            for path in sorted(top.glob("**/"), reverse=True):
                path.rmdir()


if __name__ == "__main__":
    sys.exit(main())
