"""Prometheus and its promtool, for tests and benchmarks: where they are found, and how got.

Looked for in the project's cache and on PATH (new enough only), and then taken out of Debian's
package, without root: apt reads its indexes into a folder of ours, and nothing is installed.
``python -m fleet_cli.local.prometheus`` does this beforehand.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet_cli.local.binaries import cache_root
from fleet_cli.local.progress import Progress

PROGRAMS = ("prometheus", "promtool")
MINIMUM = (2, 42)  # Debian 12's
SECONDS = 10
ADVICE = "put prometheus and promtool {}.{} or newer on PATH".format(*MINIMUM)


def resolve() -> dict[str, Path]:
    """Both programs, fetched where need be.

    Raises:
        RuntimeError: they are not at hand and cannot be had; the message says what to do.
    """
    folder = cache_root() / "debian" / "prometheus"
    if not folder.is_dir():
        on_path = {name: path for name in PROGRAMS if (path := _on_path(name))}
        if len(on_path) == len(PROGRAMS):
            return on_path
        _fetch(folder)
    return {name: folder / "usr" / "bin" / name for name in PROGRAMS}


def _on_path(name: str) -> Path | None:
    path = shutil.which(name)
    if path is None:
        return None
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    # promtool 2.42 tells on stdout, others on stderr.
    version = re.search(rf"{name}, version (\d+)\.(\d+)", answer.stdout + answer.stderr)
    return Path(path) if version and (int(version[1]), int(version[2])) >= MINIMUM else None


def _fetch(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        Progress() as progress,
        progress.step("fetching Debian's prometheus", SECONDS),
        TemporaryDirectory(dir=target.parent) as scratch,
    ):
        folder = Path(scratch)
        for below in ("state/lists/partial", "cache/archives/partial"):
            (folder / below).mkdir(parents=True)
        apt = ["apt-get", "--quiet", "-o", f"Dir::State={folder}/state"]
        apt += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        apt += ["-o", f"Dir::Cache={folder}/cache", "-o", "APT::Sandbox::User=root"]
        _run([*apt, "update"], folder)
        _run([*apt, "download", "prometheus"], folder)
        (package,) = folder.glob("prometheus_*.deb")
        _run(["dpkg", "-x", str(package), "unpacked"], folder)
        with contextlib.suppress(OSError):  # somebody else was as fast
            (folder / "unpacked").rename(target)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise RuntimeError(f"no {command[0]} here to fetch Prometheus with: {ADVICE}") from None
    except subprocess.CalledProcessError as fault:
        last = "\n".join(fault.stderr.splitlines()[-5:])
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{last}\n{ADVICE}") from fault


if __name__ == "__main__":
    try:
        resolve()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
