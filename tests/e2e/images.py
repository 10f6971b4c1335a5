"""The images of the suite, without a registry: ours from the Dockerfile, stand-ins for upstream's.

Built with buildah below the cache, so that a second run builds only what changed.
"""

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

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
TORCH_INDEX = os.environ.get("TORCH_INDEX", "")
FOLDER = binaries.cache_root() / "e2e"  # gigabytes, all of which can be made again
BUILDAH = ["buildah", "--root", f"{FOLDER}/storage", "--runroot", f"{FOLDER}/run"]


def build() -> None:
    """Build what changed.

    Mounts of a build that was killed stay: call this in a mount namespace of its own.
    """
    _base()
    with TemporaryDirectory() as context:
        _tiny(Path(context), PAUSE, BASE, ["sleep", "infinity"])
        for name, program in STAND_INS.items():
            shutil.copy(binaries.resolve(program)[program], context)
            _tiny(Path(context), name, "scratch", [f"/{program}"])
    for target in OURS:
        began = time.monotonic()
        _buildah(
            *("build", "--layers", "--isolation", "chroot", "--network", "host", "--pull-never"),
            *(f"--volume={path}:{path}:ro" for path in TRUST),
            *("--build-arg", f"BASE={BASE}", "--build-arg", f"TORCH_INDEX={TORCH_INDEX}"),
            *("--target", target, "--tag", f"fleetloop-{target}", str(ROOT)),
        )
        print(f"e2e: image {target} in {time.monotonic() - began:.0f} s", flush=True)


def ids() -> str:
    """Differs where an image does."""
    line = "{{.Name}}:{{.Tag}} {{.ID}}"
    return _buildah("images", "--no-trunc", "--filter", "dangling=false", "--format", line)


def send(output: IO[bytes]) -> None:
    """Write all of them as `docker save` does: layers that several share pass once.

    The short names stay as they are: who imports them completes them like those in a manifest.
    """
    entries: list[dict[str, Any]] = []
    passed: set[str] = set()
    with tarfile.open(fileobj=output, mode="w|") as sent:
        for name in (PAUSE, *STAND_INS, *(f"fleetloop-{target}:latest" for target in OURS)):
            for member, content in _saved(name):
                if member.name == "manifest.json":
                    entries += [entry | {"RepoTags": [name]} for entry in json.load(content)]
                elif member.name not in passed:
                    passed.add(member.name)
                    sent.addfile(member, content)
        listing = json.dumps(entries).encode()
        last = tarfile.TarInfo("manifest.json")
        last.size = len(listing)
        sent.addfile(last, io.BytesIO(listing))


def _saved(name: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """The files of one image as they come, without touching the disk."""
    reading, writing = os.pipe()
    words = ["push", "--quiet", name, f"docker-archive:/dev/fd/{writing}"]
    with os.fdopen(reading, "rb") as pipe:
        process = subprocess.Popen([*BUILDAH, *words], pass_fds=[writing])
        os.close(writing)
        with tarfile.open(fileobj=pipe, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None:  # the rest is for readers of an older form
                    yield member, content
        pipe.read()
        if process.wait():
            raise RuntimeError(f"buildah {' '.join(words)} failed")


def _base() -> None:
    """Debian with its Python, in place of the image that the Dockerfile names."""
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return
    with TemporaryDirectory() as context:
        packages = "--include=python3,python3-venv,ca-certificates"
        tree = Path(context) / "base.tar"
        # As slim images are made: nobody reads manuals in there.
        lean = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "locale", "man")]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", packages, *lean]
        command += ["bookworm", str(tree)]
        subprocess.run(command, check=True)
        (Path(context) / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        _buildah("build", "--tag", BASE, context)


def _tiny(context: Path, name: str, base: str, entry: list[str]) -> None:
    copied = f"COPY {entry[0].lstrip('/')} /\n" if base == "scratch" else ""
    text = f"FROM {base}\n{copied}ENTRYPOINT {json.dumps(entry)}\n"
    (context / "Dockerfile").write_text(text)
    _buildah("build", "--layers", "--pull-never", "--tag", name, str(context))


def _buildah(*words: str) -> str:
    """Raises ``RuntimeError`` with the end of what it said."""
    done = subprocess.run([*BUILDAH, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {' '.join(words)}: {done.stderr[-3000:]}{done.stdout[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    build()
