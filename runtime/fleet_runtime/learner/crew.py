"""The ranks of one learner over torch.distributed; the only room that knows it.

They meet without a Service and without names: the first rank opens a port and writes its address
into the claim of its epoch, which the others find in the job's store. So it works alike in a
cluster and on a node that has no DNS, a broker that is away delays nothing, and whoever reads a
newer epoch has met the newer learner.

CPU tensors travel by gloo, CUDA tensors by NCCL. Gloo tells at once that a process at the other end
has ended; a machine that vanished is noticed after `PATIENCE`. The traffic is not encrypted.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from fleet_contract.errors import FleetError, Retry
from fleet_runtime.algorithms.ranks import Order, Ranks
from fleet_runtime.learner import epoch as office

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fleet_runtime.artifacts import Store

log = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=30)
"""How long a rank may keep the others waiting: reading a long journal takes time."""
CONNECT = timedelta(seconds=2)
POLL = 0.1
"""Seconds between two looks for who has come."""
STRIDE = 8
"""Updates between two orders: what is agreed on costs a fraction of one of them."""
_GO = "go"
_NONE = Order()


class Deserted(FleetError):
    """Another rank is gone: none trains alone, all start again from the last checkpoint."""


class Crew(Ranks):
    """This process among its companions; every call waits for all of them. Raises `Deserted`."""

    stride = STRIDE

    def __init__(self, store: TCPStore, number: int, count: int) -> None:
        self.number, self.count = number, count
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, store=store, rank=number, world_size=count, timeout=PATIENCE
        )
        self._store = store  # the first rank's is the server: it lives as long as the crew

    def close(self) -> None:
        """Leave; the others notice."""
        dist.destroy_process_group()

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """As in `Ranks`, in one message."""
        if not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _noticing():
            dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """As in `Ranks`; every rank has as many rows."""
        found = [torch.empty_like(rows) for _ in range(self.count)]
        with _noticing():
            dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    def mean(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """As in `Ranks`."""
        there = np.isfinite(table)
        sums = torch.from_numpy(np.stack([np.where(there, table, 0.0), there]))
        with _noticing():
            dist.all_reduce(sums)
        total, count = sums.numpy()
        means: NDArray[np.float64] = np.full(table.shape, np.nan)
        np.divide(total, count, out=means, where=count > 0)
        return means

    def agree(self, order: Order = _NONE, *, leave: bool = False) -> tuple[Order, bool]:
        """As in `Ranks`: only the first rank's order counts, anybody's wish to leave does."""
        told = order if self.number == 0 else _NONE
        sums = torch.tensor([*map(int, told), int(leave)], dtype=torch.int64)
        with _noticing():
            dist.all_reduce(sums)
        updates, online, through, stop, leavers = sums.tolist()
        return Order(updates, bool(online), through, bool(stop)), leavers > 0

    def share(self, data: bytes = b"") -> bytes:
        """The first rank's bytes, at every rank."""
        size = torch.tensor([len(data)])
        with _noticing():
            dist.broadcast(size, 0)
            if self.number == 0:
                dist.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0)
                return data
            found = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(found, 0)
        return found.numpy().tobytes()


class Meeting:
    """Where the first rank awaits the others."""

    def __init__(self, host: str, count: int) -> None:
        """Open a port on every address; `host` is what the others reach this process by."""
        self._count = count
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        self.address = f"{host}:{self._store.port}"

    def crew(self, stop: threading.Event) -> Crew | None:
        """The crew once all have come; None at stop."""
        log.info("waiting for %d other ranks at %s", self._count - 1, self.address)
        while not self._store.check([_name(number) for number in range(1, self._count)]):
            if stop.wait(POLL):
                return None
        self._store.set(_GO, "")
        with _noticing():
            crew = Crew(self._store, 0, self._count)
        self._store.delete_key(_GO)  # who comes from now on waits for the next learner
        log.info("%d ranks have met", self._count)
        return crew


def join(
    store: Store, job_uid: str, number: int, count: int, stop: threading.Event
) -> tuple[int, Crew] | None:
    """The newest learner's epoch and its crew, once it takes us in; None at stop."""
    said = ""
    while not stop.wait(POLL):
        try:
            found = office.newest(store, job_uid)
        except Retry as fault:
            log.warning("waiting for the store: %s", fault)
            stop.wait(1.0)
            continue
        if found is None or not found.address:
            continue
        if found.address != said:
            log.info("joining learner epoch %d at %s", found.epoch, found.address)
            said = found.address
        host, _, port = found.address.rpartition(":")
        try:
            meeting = TCPStore(host, int(port), is_master=False, timeout=CONNECT)
            meeting.set(_name(number), "")
            while not meeting.check([_GO]):
                if stop.wait(POLL):
                    return None
            return found.epoch, Crew(meeting, number, count)
        except RuntimeError as fault:  # it has ended, or does not listen yet
            log.debug("not at %s: %s", found.address, fault)
    return None


def _name(number: int) -> str:
    return f"rank-{number}"


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as fault:
        raise Deserted(
            f"another rank of this learner is gone ({str(fault).splitlines()[0]}): no rank trains "
            "alone; all start again from the last checkpoint"
        ) from fault
