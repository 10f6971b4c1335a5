"""The learner's memory across restarts: one object, created whole or not at all.

Safetensors with a JSON document in its metadata. It holds no experience, only how far the journal
was; the replay is rebuilt from the whole journal, so an older checkpoint loses updates, never data.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_contract import names
from fleet_contract.errors import Fenced, Reject, Retry
from fleet_runtime.artifacts import Exists, Missing
from fleet_runtime.experience.spaces import Spaces  # noqa: TC001 (pydantic reads it)
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.artifacts import Store

log = logging.getLogger(__name__)

_KEY = "fleetloop"
_LENGTH = struct.Struct("<Q")


class Saved(BaseModel):
    """What a checkpoint says in JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    V: ClassVar[int] = 1

    v: int = 1
    learner_epoch: int
    algorithm: str
    step: int
    sequence: int
    """Last published; the next is greater, whatever the store shows."""
    journal_position: int
    journal_first: int = 0
    """Segments before it hold nothing that the replay does."""
    spaces: Spaces
    sampler: dict[str, Any]


Tensors: TypeAlias = dict[str, torch.Tensor]


def pack(saved: Saved, tensors: Tensors) -> bytes:
    """One object's bytes."""
    return safetensors.torch.save(tensors, metadata={_KEY: saved.model_dump_json()})


def unpack(data: bytes) -> tuple[Saved, Tensors]:
    """The inverse of `pack`; raises ValueError saying what is wrong with the bytes."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        saved = Saved.model_validate_json(header["__metadata__"][_KEY])
        tensors: Tensors = safetensors.torch.load(data)
    except ValidationError as fault:
        raise ValueError(f"its document: {fault.errors(include_url=False)[0]['msg']}") from fault
    except (struct.error, ValueError, KeyError, TypeError, safetensors.SafetensorError) as fault:
        raise ValueError(f"not a checkpoint: {fault!r}") from fault
    if saved.v != Saved.V:
        raise ValueError(f"checkpoint v{saved.v}; this learner reads v{Saved.V}")
    return saved, tensors


Loaded = TypeVar("Loaded")


class Checkpoints:
    """A job's checkpoints. Methods block."""

    def __init__(self, store: Store, job_uid: str, epoch: int, keep: int) -> None:
        self._store = store
        self._job_uid = job_uid
        self._epoch = epoch
        self._keep = keep
        self._own: str | None = None  # the newest of our own making: no need to read it back
        self._prefix = names.checkpoint_key(job_uid, 0).rsplit("/", 1)[0] + "/"

    def newest(self, use: Callable[[Saved, Tensors], Loaded]) -> Loaded | None:
        """What `use` makes of the newest checkpoint it can use; None where there is none.

        A checkpoint that cannot be read, or from which `use` raises ValueError, KeyError, TypeError
        or RuntimeError, is reported and the one before it is tried. Raises `Retry`.
        """
        for key in reversed(self._store.list(self._prefix)):
            try:
                return use(*unpack(self._store.get(key)))
            except (Missing, Reject, ValueError, KeyError, TypeError, RuntimeError) as fault:
                log.warning("checkpoint %s is of no use: %s; trying the one before", key, fault)
        return None

    def save(self, saved: Saved, tensors: Tensors) -> int:
        """Commit a checkpoint and drop those beyond the limit; returns its position.

        Raises:
            Retry: the store is unreachable; may be repeated.
            Fenced: a newer learner has saved.
        """
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name} holds a number that is not finite; nothing was saved")
        data = pack(saved, tensors)
        while True:
            keys = self._store.list(self._prefix)
            position = int(keys[-1].rsplit("/", 1)[1]) + 1 if keys else 0
            if keys and keys[-1] != self._own:
                self._fence(keys[-1])
            key = names.checkpoint_key(self._job_uid, position)
            try:
                self._store.create(key, data)
            except Exists:
                continue
            break
        self._own = key
        for old in keys[: max(0, len(keys) + 1 - self._keep)]:
            self._store.delete(old)
        return position

    def _fence(self, key: str) -> None:
        try:
            saved, _ = unpack(self._store.get(key))
        except (Missing, ValueError):
            return
        if saved.learner_epoch > self._epoch:
            raise Fenced(f"{key} is of learner epoch {saved.learner_epoch}, this is {self._epoch}")


class Checkpointer:
    """Saves in the background what the training thread hands it."""

    def __init__(self, checkpoints: Checkpoints, interval: float) -> None:
        self._checkpoints = checkpoints
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._offered = asyncio.Event()
        self._saving = asyncio.Lock()  # the last flush may meet one that is under way
        self._snapshot: tuple[Saved, Tensors] | None = None
        self._last = time.monotonic()
        self.busy = False
        self.retain: Callable[[Saved], None] | None = None
        """What follows a checkpoint, in a thread: nothing depends on it, so it may fail."""

    def due(self, now: float) -> bool:
        """Whether to take a snapshot now (monotonic seconds)."""
        return not self.busy and now - self._last >= self._interval

    def offer(self, saved: Saved, tensors: Tensors, now: float) -> None:
        """Hand over a snapshot nobody else will change; from the training thread."""
        self.busy, self._last, self._snapshot = True, now, (saved, tensors)
        self._loop.call_soon_threadsafe(self._offered.set)

    async def run(self) -> None:
        """Until cancelled. Raises `Fenced`."""
        while True:
            await self._offered.wait()
            self._offered.clear()
            await self.flush()

    async def flush(self) -> None:
        """Save what was handed over and is not saved yet."""
        pause = backoff()
        async with self._saving:
            while (snapshot := self._snapshot) is not None:
                saved, tensors = snapshot
                try:
                    position = await asyncio.to_thread(self._checkpoints.save, saved, tensors)
                except Retry as fault:
                    log.warning("checkpoint waits for the store: %s", fault)
                    await anext(pause)
                    continue
                if self._snapshot is snapshot:
                    self._snapshot, self.busy = None, False
                log.info("checkpoint %d saved at step %d", position, saved.step)
                if self.retain is not None:
                    try:
                        await asyncio.to_thread(self.retain, saved)
                    except Retry as fault:
                        log.warning("what the replay dropped stays in the store: %s", fault)
