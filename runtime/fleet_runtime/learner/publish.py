"""From a snapshot of the policy to an announced version, in steps that may each be the last.

files by content → manifest (its creation claims the sequence) → announcement. A manifest exists
only after all it names, an announcement only after its manifest; so dying anywhere leaves the old
version or the new one, and a manifest nobody heard of is announced by the next learner.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import TYPE_CHECKING

import torch

from fleet_contract import names
from fleet_contract.errors import Fenced, FleetError, Reject, Retry, Untrusted
from fleet_contract.messages import (
    Announcement,
    FileRef,
    Interface,
    Lineage,
    Manifest,
    PolicyRef,
    TensorRef,
    digest_of,
)
from fleet_contract.names import Stream
from fleet_runtime.artifacts import Exists
from fleet_runtime.learner import epoch as office
from fleet_runtime.policies.bundle import to_files
from fleet_runtime.wire import backoff

if TYPE_CHECKING:
    from fleet_runtime.artifacts import Store
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.wire import Wire

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A policy nobody changes any more, and where it comes from."""

    policy: Policy
    step: int
    metrics: dict[str, float]
    lineage: Lineage


@dataclasses.dataclass(frozen=True)
class Pace:
    """When a version is due. Pure."""

    every_steps: int
    min_interval: float  # seconds

    def due(self, steps: int, elapsed: float, *, first: bool) -> bool:
        """`steps` updates and `elapsed` s after the last version; the first one is due at once."""
        return first or (steps >= self.every_steps and elapsed >= self.min_interval)


@dataclasses.dataclass(frozen=True)
class Version:
    """A version whose manifest exists."""

    manifest: Manifest
    ref: PolicyRef


class Versions:
    """The published versions of a job in its store. Methods block."""

    def __init__(self, store: Store, job_uid: str, epoch: int, control_hz: float) -> None:
        self._store = store
        self._job_uid = job_uid
        self._epoch = epoch
        self._control_hz = control_hz
        self.last: Version | None = None
        """The newest version there is, ours or an earlier learner's."""
        self.floor = 0
        """A sequence known to be used, from a checkpoint or an announcement."""

    def recover(self) -> Version | None:
        """Find the newest version; broken manifests only spend their number. Raises `Retry`."""
        prefix = names.version_key(self._job_uid, 0).rsplit("/", 1)[0] + "/"
        for key in reversed(self._store.list(prefix)):
            sequence = int(key.rsplit("/", 1)[1].removesuffix(".json"))
            self.floor = max(self.floor, sequence)
            try:
                data = self._store.get(key)
                self.last = Version(Manifest.open(data), _ref(self._job_uid, sequence, data))
            except (Untrusted, Reject) as fault:
                log.warning("%s is no manifest: %s; its number stays spent", key, fault)
                continue
            return self.last
        return None

    def publish(self, snapshot: Snapshot) -> Version:
        """Store the bundle, then claim a sequence for it; repeatable after `Retry`.

        Raises:
            Retry: the store is unreachable.
            Fenced: a newer learner has claimed its epoch or published.
            FleetError: a weight is not finite; nothing was published.
        """
        tensors = snapshot.policy.tensors()
        _demand_finite(tensors, snapshot.step)
        files = to_files(snapshot.policy)
        refs = tuple(FileRef(name=n, digest=digest_of(d), size=len(d)) for n, d in files.items())
        for ref in refs:
            self._store.create(names.blob_key(self._job_uid, ref.digest), files[ref.name])
        tensor_refs = tuple(_tensor_ref(name, tensor) for name, tensor in tensors.items())
        office.guard(self._store, self._job_uid, self._epoch)
        while True:
            manifest = self._manifest(snapshot, refs, tensor_refs)
            data = manifest.seal()
            try:
                self._store.create(names.version_key(self._job_uid, manifest.sequence), data)
            except Exists:
                self._lost(manifest.sequence)
                continue
            self.last = Version(manifest, _ref(self._job_uid, manifest.sequence, data))
            return self.last

    def _manifest(
        self, snapshot: Snapshot, files: tuple[FileRef, ...], tensors: tuple[TensorRef, ...]
    ) -> Manifest:
        spaces = snapshot.policy.spaces
        last = self.last
        return Manifest(
            job_uid=self._job_uid,
            learner_epoch=self._epoch,
            sequence=max(self.floor, last.ref.sequence if last else 0) + 1,
            parent=last.ref.digest if last else None,
            step=snapshot.step,
            interface=Interface(
                observation=spaces.observation_size,
                action=spaces.action_size,
                low=tuple(map(repr, spaces.action_low)),
                high=tuple(map(repr, spaces.action_high)),
                control_hz=repr(self._control_hz),
            ),
            architecture=snapshot.policy.architecture,
            tasks=spaces.tasks,
            files=files,
            tensors=tensors,
            lineage=snapshot.lineage,
            created_at_ms=time.time_ns() // 1_000_000,
        )

    def _lost(self, sequence: int) -> None:
        """Somebody else's manifest stands at our number: give way, or take the next."""
        data = self._store.get(names.version_key(self._job_uid, sequence))
        self.floor = max(self.floor, sequence)
        try:
            theirs = Manifest.open(data)
        except Untrusted:
            return
        if theirs.learner_epoch > self._epoch:
            raise Fenced(
                f"version {sequence} is of learner epoch {theirs.learner_epoch}, "
                f"this one holds {self._epoch}: a newer learner is at work"
            )
        self.last = Version(theirs, _ref(self._job_uid, sequence, data))


class Publisher:
    """Publishes in the background what the training thread offers, one version at a time."""

    def __init__(
        self,
        *,
        versions: Versions,
        pace: Pace,
        progress: Progress,
        namespace: str,
        job: str,
        job_uid: str,
    ) -> None:
        self._versions = versions
        self._pace = pace
        self._progress = progress
        self._subject = names.announce_subject(namespace, job)
        self._stream = names.stream(job_uid, Stream.CONTROL)
        self._loop = asyncio.get_running_loop()
        self._offered = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._parent: int | None = None
        self._last_step = 0
        self._last_time = 0.0
        self._first = True
        self.busy = False

    def resume(self, last: Version | None, step: int) -> None:
        """Start counting at this step; the first version is due at once unless there is one."""
        self._first, self._last_step = last is None, step
        self._parent = last.ref.sequence if last else None

    def due(self, step: int, now: float) -> bool:
        """Whether to offer a snapshot now (monotonic seconds); cheap, from the training thread."""
        elapsed = now - self._last_time
        steps = step - self._last_step
        return not self.busy and self._pace.due(steps, elapsed, first=self._first)

    def offer(self, snapshot: Snapshot, now: float) -> None:
        """Hand over a snapshot; from the training thread, when `due`."""
        self.busy, self._first = True, False
        self._last_step, self._last_time, self._snapshot = snapshot.step, now, snapshot
        self._loop.call_soon_threadsafe(self._offered.set)

    async def run(self, wire: Wire) -> None:
        """Until cancelled; start it once the versions were recovered.

        Raises `Fenced`, and FleetError for weights that are not finite.
        """
        await self._announce_unheard(wire)
        while True:
            await self._offered.wait()
            self._offered.clear()
            if (snapshot := self._snapshot) is None:
                continue
            version = await self._stored(snapshot)
            await self._announce(wire, version, snapshot.metrics, self._parent)
            self._snapshot, self.busy = None, False

    async def _stored(self, snapshot: Snapshot) -> Version:
        pause = backoff()
        while True:
            try:
                return await asyncio.to_thread(self._versions.publish, snapshot)
            except Retry as fault:
                log.warning("version of step %d waits for the store: %s", snapshot.step, fault)
                await anext(pause)

    async def _announce_unheard(self, wire: Wire) -> None:
        """Announce the newest version if the control stream does not know it."""
        pause = backoff()
        while True:
            try:
                data = await wire.last(self._stream, self._subject)
                break
            except Retry as fault:
                log.warning("the last announcement cannot be read yet: %s", fault)
                await anext(pause)
        heard = 0
        if data is not None:
            try:
                heard = Announcement.decode(data).policy.sequence
            except Reject as fault:
                log.warning("the last announcement is unreadable: %s", fault)
        last = self._versions.last
        self._versions.floor = max(self._versions.floor, heard)
        if last is not None and heard < last.ref.sequence:
            await self._announce(wire, last, {}, None)

    async def _announce(
        self, wire: Wire, version: Version, metrics: dict[str, float], parent: int | None
    ) -> None:
        manifest = version.manifest
        size = sum(file.size for file in manifest.files)
        announcement = Announcement(
            job_uid=manifest.job_uid,
            learner_epoch=manifest.learner_epoch,
            policy=version.ref,
            parent=parent,
            step=manifest.step,
            size=size,
            metrics=metrics,
            lineage=manifest.lineage,
            published_at=time.time(),
        )
        pause = backoff()
        while True:
            try:
                await wire.store(self._subject, announcement.encode(), stream=self._stream)
                break
            except Retry as fault:
                log.warning("version %d waits to be announced: %s", manifest.sequence, fault)
                await anext(pause)
        self._parent = manifest.sequence
        self._progress.published = manifest.sequence
        self._progress.bytes_published += size
        log.info("version %d of step %d is out, %d bytes", manifest.sequence, manifest.step, size)


def _ref(job_uid: str, sequence: int, data: bytes) -> PolicyRef:
    uri = names.version_key(job_uid, sequence)
    return PolicyRef(sequence=sequence, digest=digest_of(data), uri=uri)


def _tensor_ref(name: str, tensor: torch.Tensor) -> TensorRef:
    raw = tensor.detach().reshape(-1).contiguous().view(torch.uint8)  # numpy knows no bfloat16
    return TensorRef(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        digest=digest_of(raw.numpy().tobytes()),
    )


def _demand_finite(tensors: dict[str, torch.Tensor], step: int) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FleetError(
                f"{name} holds a number that is not finite at step {step}; nothing is published. "
                "Training diverged: lower the learning rate; a restart resumes the last checkpoint"
            )
