"""What a running cluster leaves in its folder for other shells: ``cluster.json`` and a lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from fleet_cli.local.processes import ProcessId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class State:
    """The cluster's processes and ports; a process is known by its id and its start."""

    owner: ProcessId
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, ProcessId] = field(default_factory=dict)
    ready: bool = False

    def write(self, folder: Path) -> None:
        path = folder / "cluster.json"
        temporary = path.with_name(f".cluster.json.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(path)


def read_state(folder: Path) -> State | None:
    """The state last written, of a cluster that runs or ran; None where none ever did."""
    path = folder / "cluster.json"
    try:
        document = json.loads(path.read_text())
        return State(
            owner=ProcessId(**document["owner"]),
            ports=document["ports"],
            processes={name: ProcessId(**of) for name, of in document["processes"].items()},
            ready=document["ready"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is damaged ({error}): end what runs there by hand, then remove the file"
        raise RuntimeError(message) from error


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Held while a cluster runs in the folder; the kernel frees it with the process."""
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            state = read_state(folder)
            who = f" (process {state.owner.pid})" if state else ""
            message = f"a cluster already runs in {folder}{who}: use it, or `fleet down` first"
            raise RuntimeError(message) from error
        yield
