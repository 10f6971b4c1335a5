"""A large object comes in pieces, and what has come stays on the disk until the whole is here.

A link that breaks, or a program that ends, costs the piece that was on its way. One object at a
time is kept so, under its digest: whatever else lies here is of a fetch that nobody goes on with.
Pieces are checked by nothing but the digest of the whole, before anybody reads it.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from typing import TYPE_CHECKING

from fleet_contract.errors import Retry
from fleet_contract.messages import digest_of
from fleet_runtime.robot.files import full, remedy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet_runtime.artifacts import Objects

WHOLE = 2**20
"""Bytes up to which an object comes in one request and leaves nothing here."""
LEAST, FIRST, MOST = 2**16, 2**22, 2**25
"""Bytes of a piece: halved when one does not come, doubled when one does."""


class Parts:
    """The folder of one robot. Methods block; one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._piece = FIRST

    def fetch(
        self, store: Objects, key: str, digest: str, size: int, came: Callable[[int], None]
    ) -> bytes:
        """The object of this digest and size; `came` is told bytes as they come.

        Raises:
            Missing: no such object.
            Retry: unreachable, other bytes, or a disk without room; call again to go on.
        """
        path = self._folder / digest.replace(":", "-")
        self.clear(but=path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            have = path.stat().st_size if path.exists() else 0
            if have > size:  # of another size than it was signed for: not what it says
                path.unlink()
                have = 0
            if (free := shutil.disk_usage(self._folder).free) < size - have:
                raise OSError(errno.ENOSPC, f"{free} bytes are free")  # noqa: TRY301 - one end
            with path.open("ab") as file:
                while have < size:
                    data = self._next(store, key, have, min(have + self._piece, size))
                    came(len(data))
                    file.write(data)
                    file.flush()
                    have += len(data)
            whole = path.read_bytes()
        except OSError as fault:
            self.clear()
            what = "no room for" if full(fault) else "nothing can be kept of"
            raise Retry(
                f"{what} the {size} bytes of {key} in {self._folder} ({fault}): {remedy(fault)}"
            ) from fault
        # Right or wrong, nobody goes on with it. Whoever keeps it needs the room.
        self.clear()
        if digest_of(whole) != digest:
            raise Retry(f"{key} in {store.url} has digest {digest_of(whole)}, wanted {digest}")
        return whole

    def clear(self, but: Path | None = None) -> None:
        """Leave nothing, or one."""
        for path in self._folder.glob("*"):
            if path != but:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _next(self, store: Objects, key: str, start: int, end: int) -> bytes:
        try:
            data = store.read(key, start, end)
        except Retry:
            self._piece = max(LEAST, self._piece // 2)
            raise
        if len(data) != end - start:
            self.clear()
            raise Retry(f"{key} in {store.url} ends before byte {end}")
        self._piece = min(MOST, self._piece * 2)
        return data
