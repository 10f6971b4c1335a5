"""Row 2: the power fails under a broker, a learner's store or a robot's spool. Wants root.

A disk is an ext4 file system in a file. Its end is `EXT4_IOC_SHUTDOWN` without a flush of its log:
what nobody had synced is gone, as after a power cut; torn sectors and lying disks are not played.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import random
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from faults.losses import struck
from fleet_contract.errors import Retry
from fleet_contract.messages import digest_of
from fleet_runtime.robot.spool import Spool
from helpers.records import draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.stream import Plane

MIB = 4096  # sparse; the broker wants room for what its streams reserve
_SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
_NO_LOG_FLUSH = 2
CASES = ("broker", "learner", "robot")


def possible() -> bool:
    """Whether this machine lets us mount."""
    return os.geteuid() == 0 and os.path.exists("/dev/loop-control")  # noqa: PTH110


class Disk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._image = path.with_name(f"{path.name}.img")
        self._lives = itertools.count(1)
        self._shut = struct.pack("I", _NO_LOG_FLUSH)

    def make(self) -> None:
        self.path.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(MIB * 2**20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def cut(self) -> None:
        """The power is off: nothing written reaches the disk any more."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, self._shut)
        finally:
            os.close(folder)

    def again(self) -> None:
        """The power is back. Whoever had files open there must be gone."""
        self.unmount()
        # A container that was begun meanwhile has the mount in a namespace of its own and keeps the
        # file system alive, shut as it is: what lies on the disk is mounted as another disk.
        other = self._image.with_suffix(f".{next(self._lives)}")
        _run("cp", "--sparse=always", str(self._image), str(other))
        self._image.unlink()
        self._image = other
        self.mount()

    def unmount(self) -> None:
        end = time.monotonic() + 20
        while subprocess.run(
            ["umount", str(self.path)], capture_output=True, check=False
        ).returncode:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.path} is still in use")
            time.sleep(0.05)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[Disk]:
    made = Disk(path)
    made.make()
    try:
        yield made
    finally:
        made.unmount()


async def power_cuts(folder: Path, case: str, seed: int, records: int) -> dict[str, Any]:
    """One of `CASES`, twice in so many records; the robot's is of its spool alone."""
    if case == "robot":
        return await asyncio.to_thread(spool_without_power, folder, seed, records)
    with disk(folder / {"broker": "nats", "learner": "store"}[case]) as on:

        async def broker(here: Plane, rng: random.Random) -> str:
            on.cut()
            here.broker.kill()
            await asyncio.to_thread(on.again)
            here.broker.start()
            return "broker"

        async def learner(here: Plane, rng: random.Random) -> str:
            await asyncio.sleep(rng.uniform(0, 0.3))
            on.cut()
            here.learner.kill()
            await asyncio.to_thread(on.again)
            await here.learner.start()
            return "learner"

        return await struck(
            folder, seed, records, [{"broker": broker, "learner": learner}[case]] * 2
        )


def spool_without_power(folder: Path, seed: int, records: int) -> dict[str, Any]:
    """All that `append` has returned for is there again, and no number comes twice."""
    rng = random.Random(seed)
    kept: dict[int, str] = {}
    settled: set[int] = set()
    wrong: list[str] = []
    with disk(folder / "spool") as on:
        for _ in range(2):
            spool = Spool(on.path, job_uid="uid-1")
            wrong += _missing(spool, kept, settled)
            timer = threading.Timer(rng.uniform(0.5, 4.0), on.cut)
            timer.start()
            with contextlib.suppress(Retry, OSError):
                while len(kept) < records:
                    payload = rng.randbytes(rng.randrange(1, 20_000))
                    n = spool.append(draft(payload, f"e{len(kept)}"), payload).n
                    if n in kept:
                        wrong.append(f"number {n} comes twice")
                    kept[n] = digest_of(payload)
                    if rng.random() < 0.3:
                        done = rng.sample(sorted(kept), 1)
                        settled.update(done)
                        spool.settle(done)
            timer.join()
            spool.close()
            on.again()
        spool = Spool(on.path, job_uid="uid-1")
        wrong += _missing(spool, kept, settled)
        spool.close()
    return {"wrong": wrong, "records": len(kept), "settled_before": len(settled)}


def _missing(spool: Spool, kept: dict[int, str], settled: set[int]) -> list[str]:
    here = set(spool.pending())
    wrong = [f"record {n} is gone" for n in sorted(kept.keys() - settled - here)]
    for n in sorted(here & kept.keys()):
        record, payload = spool.read(n)
        if record.evicted or digest_of(payload) != kept[n]:
            wrong.append(f"record {n} is not what it was")
    return wrong
