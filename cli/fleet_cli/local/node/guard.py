"""Ends what a killed node leaves behind: ``python -m fleet_cli.local.node.guard NAME=VALUE``.

The kernel kills the node's own children with it, but not theirs (a shell's, torchrun's). This
process waits until the node's end of a pipe closes, for whatever reason, and then kills every
process that carries the node's mark in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROUNDS = 20  # a process may fork while we look: look until a round finds none


def start(mark: str) -> subprocess.Popen[bytes]:
    """The guard of this process; it ends when we do."""
    return subprocess.Popen(
        # Isolated and without site: nothing but the standard library is needed, and it stays small.
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        start_new_session=True,  # no Ctrl-C ends it before its work is done
    )


def marked(mark: str) -> list[int]:
    """The processes of ours that carry the mark."""
    wanted = mark.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # not ours, or gone
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def main() -> None:
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for _ in range(ROUNDS):
        left = marked(sys.argv[1])
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
