"""Which processes are a pod's, for whoever wants to kill one and see what happens."""

from __future__ import annotations

import os
import signal

from fleet_cli.local.node.guard import marked

POD_MARK = "FLEETLOOP_POD"
"""In the environment of every process of a pod: the pod's UID, so no namesake is taken for it."""


def main_processes(uid: str) -> list[int]:
    """The first process of each running container of a pod: each leads a session of its own."""
    return [pid for pid in marked(f"{POD_MARK}={uid}") if _leads(pid)]


def kill_pod_processes(uid: str) -> list[int]:
    """SIGKILL to them all; returns who was killed, nobody where none runs."""
    killed = main_processes(uid)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    return killed


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:  # it ended meanwhile
        return False
