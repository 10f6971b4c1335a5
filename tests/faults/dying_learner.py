"""The learner's program, which ends by kill -9 at the n-th step of its publications.

    python dying_learner.py N STEPS

An object of a version has four steps: before it, half of its bytes written, all written and not
yet in its place, in its place; an announcement two. STEPS gets a line for each that was reached.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from fleet_contract import names
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import main as learner
from fleet_runtime.wire import Wire
from helpers.learner import JOB, JOB_UID, NAMESPACE

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


def plant(step: Steps) -> None:
    create, store = Store._create_file, Wire.store

    def dying_create(self: Store, path: Path, data: bytes) -> bool:
        root = Path(self._root)
        if not str(path.relative_to(root)).startswith(FOLDERS):
            return create(self, path, data)
        name = f"{path.parent.name}/{path.name[:24]}"
        step(f"before {name}")
        temporary = root / ".tmp" / secrets.token_hex(12)
        for share in ("half of", "all of"):
            temporary.write_bytes(data[: len(data) // 2] if share == "half of" else data)
            step(f"{share} {name}")
        temporary.unlink()
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

    Store._create_file = dying_create  # type: ignore[method-assign]
    Wire.store = dying_store  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(Steps(int(sys.argv[1]), Path(sys.argv[2])))
    sys.exit(learner.main())
