"""From a container's spec to a process: what it needs from its pod, and how it is started."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_cli.local.node.environment import command, container_env
from fleet_cli.local.node.probes import Target
from fleet_cli.local.processes import die_with

if TYPE_CHECKING:
    import signal
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping

    from fleet_cli.local.node.api import Api, Json
    from fleet_cli.local.node.volumes import Volumes

WORDS_MOST, LOG_MOST, LOG_LINES = 4096, 2048, 80  # bytes, bytes, lines: as a kubelet has it


@dataclass
class Surroundings:
    """What a container gets from its pod."""

    api: Api
    pod: Json
    folder: Path
    ip: str
    base: Mapping[str, str]
    volumes: Volumes
    stopping: asyncio.Event
    replaced: asyncio.Event  # set and cleared at each new version of the pod
    changed: Callable[[], None]
    tell: Callable[[str, str, str], None]  # event: type, reason, message
    grace: Callable[[], float]


@dataclass(frozen=True)
class Launch:
    """A command line with everything looked up."""

    line: list[str]
    target: Target

    async def start(self, log: Path) -> Process:
        """The process, its output at the end of the log file."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.line,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=self.target.env,
                cwd=self.target.cwd,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )


async def prepare(spec: Json, around: Surroundings) -> Launch:
    """Look up what the spec refers to; a ConfigError says what is missing."""
    paths = around.volumes.mounts(spec, around.base)
    env = await container_env(around.api, around.pod, spec, around.ip, paths, around.base)
    paths = around.volumes.mounts(spec, env)  # subPathExpr may name any of them
    cwd = _working_directory(paths.rewrite(spec.get("workingDir") or ""), around.folder)
    named = [port for port in spec.get("ports", []) if "name" in port]
    ports = {port["name"]: port["containerPort"] for port in named}
    return Launch(command(spec, env, paths), Target(around.ip, ports, env, cwd, paths))


def last_words(spec: Json, said: Path, log: Path, code: int) -> str:
    """What a process says at its end: the file it was given, or the end of its log if it failed."""
    words = _tail(said, WORDS_MOST)
    if not words and code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        words = "\n".join(_tail(log, LOG_MOST).splitlines()[-LOG_LINES:])
    return words


def _tail(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def signal_group(pid: int, sign: signal.Signals) -> None:
    """Each container leads a session of its own: its shell's children end with the shell."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, sign)


def _working_directory(wanted: str, pod_folder: Path) -> Path:
    if not wanted:
        return pod_folder / "home"
    path = Path(wanted)
    if path.is_dir():
        return path
    # A folder of the image, which is not there: an empty one of the pod's own.
    own = pod_folder / "root" / wanted.lstrip("/")
    own.mkdir(parents=True, exist_ok=True)
    return own
