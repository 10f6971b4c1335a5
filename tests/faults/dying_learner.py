"""The learner's program, which ends by kill -9 at the n-th step of its publications.

    python dying_learner.py N STEPS

An object of a version has four steps: before it, half of its bytes written, all written and not
yet in its place, in its place; an announcement two. STEPS gets a line for each that was reached.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from fleet_contract import names
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import main as learner
from fleet_runtime.wire import Wire
from helpers.learner import JOB, JOB_UID, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = tuple(f"{names.job_root(JOB_UID)}/{folder}/" for folder in ("blobs", "versions"))


class Steps:
    """Counts, and dies."""

    def __init__(self, dies_at: int, told: Path) -> None:
        self._dies_at, self._told = dies_at, told
        self._count = 0

    def __call__(self, what: str) -> None:
        self._count += 1
        with self._told.open("a") as file:
            file.write(f"{what}\n")
        if self._count == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


class Halves:
    """A file that is written in two steps, by the program's own hand."""

    def __init__(self, file: IO[bytes], step: Steps, name: str) -> None:
        self._file, self._step, self._name = file, step, name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> None:
        half = len(data) // 2
        for share, part in (("half of", data[:half]), ("all of", data[half:])):
            self._file.write(part)
            self._file.flush()
            self._step(f"{share} {self._name}")


class Writing(threading.local):
    """What this thread writes, where that is of a version."""

    name = ""

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        self.name = name
        try:
            yield
        finally:
            self.name = ""


def plant(step: Steps) -> None:
    create, store, opened, writing = Store._create_file, Wire.store, Path.open, Writing()

    def dying_open(self: Path, mode: str = "r", *args: Any, **over: Any) -> Any:
        file = opened(self, mode, *args, **over)
        return Halves(file, step, writing.name) if writing.name and mode in {"wb", "xb"} else file

    def dying_create(self: Store, path: Path, data: bytes) -> bool:
        root = Path(self._root)
        if not str(path.relative_to(root)).startswith(FOLDERS):
            return create(self, path, data)
        name = f"{path.parent.name}/{path.name[:24]}"
        step(f"before {name}")
        with writing.of(name):
            made = create(self, path, data)
        step(f"after {name}")
        return made

    async def dying_store(self: Wire, subject: str, data: bytes, **over: Any) -> int:
        if subject != names.announce_subject(NAMESPACE, JOB):
            return await store(self, subject, data, **over)
        step("before the announcement")
        sequence = await store(self, subject, data, **over)
        step("after the announcement")
        return sequence

    Path.open = dying_open  # type: ignore[method-assign]
    Store._create_file = dying_create  # type: ignore[method-assign]
    Wire.store = dying_store  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(Steps(int(sys.argv[1]), Path(sys.argv[2])))
    sys.exit(learner.main())
