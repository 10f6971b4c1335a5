"""From a snapshot of the policy to an announced version, in steps that may each be the last.

files and deltas by content → manifest (its creation claims the sequence) → announcement. A manifest
exists only after all it names, an announcement only after its manifest; so dying anywhere leaves
the old version or the new one, and a manifest nobody heard of is announced by the next learner.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from fleet_contract import names
from fleet_contract.errors import Fenced, FleetError, Reject, Untrusted
from fleet_contract.messages import (
    FileRef,
    Interface,
    Lineage,
    Manifest,
    PolicyRef,
    TensorRef,
    digest_of,
)
from fleet_contract.resources.learning import Weights
from fleet_runtime.artifacts import Exists
from fleet_runtime.learner import epoch as office
from fleet_runtime.learner.deltas import Bases
from fleet_runtime.policies.bundle import to_files, weights
from fleet_runtime.policies.networks import finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet_contract.messages import Delta, Signer, Verifier
    from fleet_runtime.artifacts import Store
    from fleet_runtime.learner.deltas import Told
    from fleet_runtime.policies.base import Policy

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A policy nobody changes any more, and where it comes from."""

    policy: Policy
    step: int
    metrics: dict[str, float]
    lineage: Lineage
    fresh: tuple[tuple[str, float], ...] = ()
    """Episodes that no version before learned from, the newest, and since when (Unix seconds) they
    could be; for traces only."""


@dataclasses.dataclass(frozen=True)
class Version:
    """A version whose manifest exists."""

    manifest: Manifest
    ref: PolicyRef

    @property
    def delta_size(self) -> int | None:
        """Bytes of its smallest delta."""
        return min((delta.size for delta in self.manifest.deltas), default=None)


class Versions:
    """The published versions of a job in its store. Methods block."""

    def __init__(
        self,
        store: Store,
        job_uid: str,
        epoch: int,
        control_hz: float,
        precision: Weights = Weights.FLOAT32,
        *,
        sign: Signer | None = None,
        verify: Verifier | None = None,
    ) -> None:
        """`sign` what is published; `verify` what an earlier learner of the job left."""
        self.sign = sign
        self._verify = verify
        self._store = store
        self._precision = precision
        self._bases = Bases(store)
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
                self.last = Version(
                    Manifest.open(data, self._verify), _ref(self._job_uid, sequence, data)
                )
            except (Untrusted, Reject) as fault:
                log.warning("%s is no manifest: %s; its number stays spent", key, fault)
                continue
            return self.last
        return None

    def publish(self, snapshot: Snapshot, at_work: Iterable[PolicyRef] = ()) -> Version:
        """Store the bundle, then claim a sequence for it; repeatable after `Retry`.

        `at_work` are versions that robots hold, to tell the difference from.

        Raises:
            Retry: the store is unreachable.
            Fenced: a newer learner has claimed its epoch or published.
            FleetError: a weight is not finite; nothing was published.
        """
        tensors = weights(snapshot.policy, self._precision)
        _demand_finite(tensors, snapshot.step)
        files = to_files(snapshot.policy, tensors)
        ours = [ref for ref in at_work if ref.uri == names.version_key(self._job_uid, ref.sequence)]
        refs = tuple(FileRef(name=n, digest=digest_of(d), size=len(d)) for n, d in files.items())
        with ThreadPoolExecutor(2, "bundle") as aside:
            whole = aside.submit(self._keep, refs, files)
            # Reckoned while the whole bundle travels.
            hashed = aside.submit(lambda: tuple(_tensor_ref(*named) for named in tensors.items()))
            told = self._told(files, ours)
            tensor_refs = hashed.result()
            whole.result()
        office.guard(self._store, self._job_uid, self._epoch)
        while True:
            for delta, parts in told:
                self._keep(delta.files, parts)
            deltas = tuple(one.delta for one in told)
            manifest = self._manifest(snapshot, refs, tensor_refs, deltas)
            data = manifest.seal(self.sign)
            try:
                self._store.create(names.version_key(self._job_uid, manifest.sequence), data)
            except Exists:
                self._lost(manifest.sequence)
                told = self._told(files, ours)
                continue
            self.last = Version(manifest, _ref(self._job_uid, manifest.sequence, data))
            self._bases.hold(self.last.ref, manifest, files)
            return self.last

    def _told(self, files: dict[str, bytes], at_work: list[PolicyRef]) -> list[Told]:
        parent = [self.last.ref] if self.last else []
        return self._bases.deltas(files, [*parent, *at_work])

    def _keep(self, refs: Iterable[FileRef], files: Mapping[str, bytes]) -> None:
        for ref in refs:
            self._store.create(names.blob_key(self._job_uid, ref.digest), files[ref.name])

    def _manifest(
        self,
        snapshot: Snapshot,
        files: tuple[FileRef, ...],
        tensors: tuple[TensorRef, ...],
        deltas: tuple[Delta, ...],
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
            deltas=deltas,
            lineage=snapshot.lineage,
            created_at_ms=time.time_ns() // 1_000_000,
        )

    def _lost(self, sequence: int) -> None:
        """Somebody else's manifest stands at our number: give way, or take the next."""
        data = self._store.get(names.version_key(self._job_uid, sequence))
        self.floor = max(self.floor, sequence)
        try:
            theirs = Manifest.open(data, self._verify)
        except Untrusted:
            return
        if theirs.learner_epoch > self._epoch:
            raise Fenced(
                f"version {sequence} is of learner epoch {theirs.learner_epoch}, "
                f"this one holds {self._epoch}: a newer learner is at work"
            )
        self.last = Version(theirs, _ref(self._job_uid, sequence, data))


def _ref(job_uid: str, sequence: int, data: bytes) -> PolicyRef:
    uri = names.version_key(job_uid, sequence)
    return PolicyRef(sequence=sequence, digest=digest_of(data), uri=uri)


def _tensor_ref(name: str, tensor: torch.Tensor) -> TensorRef:
    raw = tensor.detach().reshape(-1).contiguous().view(torch.uint8)  # numpy knows no bfloat16
    return TensorRef(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        digest=digest_of(raw.numpy().data),
    )


def _demand_finite(tensors: dict[str, torch.Tensor], step: int) -> None:
    for name, tensor in tensors.items():
        if not finite(tensor):
            raise FleetError(
                f"{name} holds a number that is not finite at step {step}; nothing is published. "
                "Training diverged: lower the learning rate; a restart resumes the last checkpoint"
            )
