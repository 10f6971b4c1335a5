"""The images of the suite, without a registry: ours from the Dockerfile, stand-ins for upstream's.

Built with buildah below the cache, so that a second run builds only what changed.
"""

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet_cli.local import binaries

ROOT = Path(__file__).parents[2]
BASE = "localhost/python:3.11-slim"
PAUSE = "localhost/pause:1"
OURS = ("operator", "learner", "robot")
# Upstream's names and entry points; what is inside are the programs that the tests build anyway.
STAND_INS = {
    "nats:2.15.2": "nats-server",
    "versity/versitygw:v1.8.0": "versitygw",
}
# What a build needs of this machine to reach the package index that pip is set up for here.
TRUST = [path for path in ("/etc/ssl/certs", "/etc/pip.conf") if Path(path).exists()]


def folder() -> Path:
    """Below the cache; gigabytes, all of which can be made again."""
    return binaries.cache_root() / "e2e"


def archive() -> Path:
    """The images, as a container runtime imports them."""
    return folder() / "images.tar"


def build(targets: Sequence[str] = OURS) -> None:
    """Make the archive anew where an image changed.

    Mounts of a build that was killed stay: call this in a mount namespace of its own.
    """
    _base()
    with TemporaryDirectory() as context:
        _tiny(Path(context), PAUSE, BASE, ["sleep", "infinity"])
        for name, program in STAND_INS.items():
            shutil.copy(binaries.resolve(program)[program], context)
            _tiny(Path(context), name, "scratch", [f"/{program}"])
    for target in targets:
        began = time.monotonic()
        _buildah(
            *("build", "--layers", "--isolation", "chroot", "--network", "host", "--pull-never"),
            *(f"--volume={path}:{path}:ro" for path in TRUST),
            *("--build-arg", f"BASE={BASE}", "--build-arg", f"TORCH_INDEX={_torch_index()}"),
            *("--target", target, "--tag", f"fleetloop-{target}", str(ROOT)),
        )
        print(f"e2e: image {target} in {time.monotonic() - began:.0f} s", flush=True)
    _archive([PAUSE, *STAND_INS, *(f"fleetloop-{target}:latest" for target in targets)])


def _torch_index() -> str:
    return os.environ.get("TORCH_INDEX", "")


def _base() -> None:
    """Debian with its Python, in place of the image that the Dockerfile names."""
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return
    with TemporaryDirectory() as context:
        packages = "--include=python3,python3-venv,ca-certificates"
        tree = Path(context) / "base.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(tree)]
        subprocess.run(command, check=True)
        (Path(context) / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        _buildah("build", "--tag", BASE, context)


def _tiny(context: Path, name: str, base: str, entry: list[str]) -> None:
    copied = f"COPY {entry[0].lstrip('/')} /\n" if base == "scratch" else ""
    text = f"FROM {base}\n{copied}ENTRYPOINT {json.dumps(entry)}\n"
    (context / "Dockerfile").write_text(text)
    _buildah("build", "--layers", "--pull-never", "--tag", name, str(context))


def _archive(names: Sequence[str]) -> None:
    """All of them in one file as `docker save` writes it: what several share is in it once.

    The short names stay as they are: who imports it completes them like those in a manifest.
    """
    ids = _buildah("images", "--no-trunc", "--format", "{{.Name}}:{{.Tag}} {{.ID}}")
    stamp = folder() / "images.txt"
    if archive().exists() and stamp.exists() and stamp.read_text() == ids:
        return
    stamp.unlink(missing_ok=True)
    entries = []
    with tarfile.open(archive(), "w") as tar:
        for name in names:
            pushed = folder() / "pushed"
            _buildah("push", "--disable-compression", name, f"dir:{pushed}")
            entries.append(_add(tar, pushed, name))
            shutil.rmtree(pushed)
        listing = folder() / "manifest.json"
        listing.write_text(json.dumps(entries))
        tar.add(listing, listing.name)
    stamp.write_text(ids)


def _add(tar: tarfile.TarFile, pushed: Path, name: str) -> dict[str, Any]:
    manifest = json.loads((pushed / "manifest.json").read_text())
    parts = [manifest["config"], *manifest["layers"]]
    config, *layers = [str(part["digest"]).partition(":")[2] for part in parts]
    for blob in {config, *layers} - set(tar.getnames()):
        tar.add(pushed / blob, blob)
    return {"Config": config, "RepoTags": [name], "Layers": layers}


def _buildah(*words: str) -> str:
    """Raises ``RuntimeError`` with the end of what it said."""
    store = ["--root", str(folder() / "storage"), "--runroot", str(folder() / "run")]
    done = subprocess.run(["buildah", *store, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {' '.join(words)}: {done.stderr[-3000:]}{done.stdout[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    build()
