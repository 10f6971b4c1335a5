"""A kubeconfig of one context alone, so that nothing after it can take another by mistake."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from fleet_cli.setup import ask

if TYPE_CHECKING:
    from pathlib import Path

ANSWERS_WITHIN = "10s"


def pinned(kubectl: Path, context: str, folder: Path) -> Path:
    """Write it, credentials included, into a folder that is ours alone.

    Raises ``RuntimeError``: no such context, or its cluster does not answer.
    """
    known = _config(kubectl, "get-contexts", "--output=name").split()
    if context not in known:
        there = f"there are {', '.join(known)}" if known else "it names no cluster"
        raise RuntimeError(f"no context {context!r} in your kubeconfig: {there}")
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    shown = ("view", "--raw", "--minify", "--flatten", "--context", context)
    path.write_text(_config(kubectl, *shown))
    try:
        ask(kubectl, path, "version", f"--request-timeout={ANSWERS_WITHIN}")
    except RuntimeError as fault:
        words = str(fault).splitlines()[-1].removeprefix("error: ")
        raise RuntimeError(
            f"the cluster of context {context!r} does not answer ({words}): start it, or log in"
        ) from fault
    return path


def _config(kubectl: Path, *words: str) -> str:
    command = [str(kubectl), "config", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
    return result.stdout
