"""From a policy's reference to a policy in memory: every byte checked before it is parsed.

Digests chain: the assignment names the manifest's, the manifest its files'. What was fetched is
kept beside the spool, so a robot that restarts without a network drives what it drove before.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import Reject, Retry, Untrusted
from fleet_contract.messages import Manifest, PolicyRef
from fleet_runtime.artifacts import Exists, Missing, Store
from fleet_runtime.policies.bundle import from_files
from fleet_runtime.robot.files import write_whole
from fleet_runtime.robot.swap import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from fleet_contract.messages import Verifier
    from fleet_runtime.robot.env import RobotSpec

log = logging.getLogger(__name__)

MAX_MANIFEST = 16 * 2**20
MAX_BUNDLE = 16 * 2**30
"""Bytes of all files of a bundle together."""
MAX_FILES = 64


class Misfit(Untrusted):
    """It is what it says, but for another robot or without one of the tasks."""


class Library:
    """The job's published policies, as one robot may use them. Methods block."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        job_uid: str,
        spec: RobotSpec,
        tasks: Collection[str],
        verify: Verifier | None = None,
        received: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Args:
        store: the job's objects.
        folder: where what was fetched is kept.
        job_uid: nothing of another job is taken.
        spec: the robot; a policy for another one is refused.
        tasks: those it must know.
        verify: checks the manifest's signature.
        received: told the bytes that came over the network.
        """
        self._store = store
        self._cache = Store(f"file://{folder}")
        self._root = names.job_root(job_uid)
        self._job_uid = job_uid
        self._spec = spec
        self._tasks = tasks
        self._verify = verify
        self._received = received

    def load(self, ref: PolicyRef, epoch: int) -> Loaded:
        """Fetch, verify and build one policy.

        Raises:
            Retry: the store is away or gave other bytes; try again.
            Untrusted: it is not what it says, or not for this robot; keep what you have.
        """
        try:
            manifest = self._manifest(ref)
            files = {
                file.name: self._get(
                    names.blob_key(self._job_uid, file.digest), file.digest, file.size
                )
                for file in manifest.files
            }
        except Reject as fault:
            raise Untrusted(f"policy {ref.sequence}: {fault}") from fault
        policy = from_files(files)
        if reason := self._spec.mismatch(policy.spaces):
            raise Misfit(f"policy {ref.sequence} is for another robot: {reason}")
        if missing := sorted(set(self._tasks) - set(policy.spaces.tasks)):
            raise Misfit(f"policy {ref.sequence} does not know the tasks {missing}")
        return Loaded(ref, policy, epoch, manifest.created_at_ms / 1000)

    def keep(self, refs: Collection[PolicyRef]) -> None:
        """Forget everything kept but these."""
        kept: set[str] = set()
        for ref in refs:
            try:
                manifest = self._manifest(ref)
            except (Retry, Untrusted, Reject):
                continue
            kept.add(ref.uri)
            kept |= {names.blob_key(self._job_uid, file.digest) for file in manifest.files}
        for key in self._cache.list(self._root):
            if key not in kept:
                self._cache.delete(key)

    def _manifest(self, ref: PolicyRef) -> Manifest:
        if not ref.uri.startswith(f"{self._root}/"):
            raise Untrusted(f"policy {ref.sequence} lies at {ref.uri}, outside {self._root}")
        manifest = Manifest.open(self._get(ref.uri, ref.digest, MAX_MANIFEST), self._verify)
        if (manifest.job_uid, manifest.sequence) != (self._job_uid, ref.sequence):
            raise Untrusted(
                f"{ref.uri} is version {manifest.sequence} of job {manifest.job_uid},"
                f" not {ref.sequence} of {self._job_uid}"
            )
        if len(manifest.files) > MAX_FILES or sum(f.size for f in manifest.files) > MAX_BUNDLE:
            raise Untrusted(f"policy {ref.sequence} has too many files or bytes")
        return manifest

    def _get(self, key: str, digest: str, max_bytes: int) -> bytes:
        try:
            return self._cache.get(key, digest, max_bytes=max_bytes)
        except Missing:
            pass
        except Retry as fault:
            log.warning("kept copy dropped: %s", fault)
            self._cache.delete(key)
        try:
            data = self._store.get(key, digest, max_bytes=max_bytes)
        except Missing as fault:
            raise Retry(f"{fault}; it may still be on its way") from fault
        self._received(len(data))
        try:
            self._cache.create(key, data)
        except (Retry, Exists) as fault:  # a full disk only costs the next start a download
            log.warning("not kept for the next start: %s", fault)
        return data


class Memory:
    """What a robot must know over restarts: the order it holds and the policy that drives."""

    def __init__(self, path: Path) -> None:
        """Read the file, where there is one; a garbled one counts as none."""
        self._path = path
        self._guard = threading.Lock()  # both threads write
        self.order: tuple[int, int] | None = None
        self.active: PolicyRef | None = None
        self.epoch = 0
        try:
            found = json.loads(path.read_bytes())
            generation, epoch = found["order"]
            self.order = (int(generation), int(epoch))
            self.epoch = int(found["epoch"])
            if found["active"] is not None:
                self.active = PolicyRef.model_validate(found["active"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as fault:
            log.error("%s is unreadable (%s); the next assignment sets it right", path, fault)  # noqa: TRY400

    def hold(self, order: tuple[int, int]) -> None:
        """Refuse anything older from now on. Raises `Retry` when the disk does not take it."""
        with self._guard:
            if order != self.order:
                self.order = order
                self._write()

    def drive(self, loaded: Loaded | None) -> None:
        """This policy drives from now on. Raises `Retry` as above."""
        with self._guard:
            self.active = loaded.ref if loaded else None
            self.epoch = loaded.epoch if loaded else 0
            self._write()

    def _write(self) -> None:
        active = self.active.model_dump(mode="json", by_alias=True) if self.active else None
        order = list(self.order or (-1, -1))
        try:
            write_whole(
                self._path,
                json.dumps({"order": order, "active": active, "epoch": self.epoch}).encode(),
            )
        except OSError as fault:
            raise Retry(f"{self._path}: {fault}; free the disk") from fault
