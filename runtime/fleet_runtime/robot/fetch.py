"""From a policy's reference to a policy in memory: every byte checked before it is parsed.

Digests chain: the assignment names the manifest's, the manifest its files'. What was fetched is
kept beside the spool, so a robot that restarts without a network drives what it drove before, and
the next version can be made from it and a delta. A robot on a metered link takes a whole policy
only while it has none.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import FleetError, Reject, Retry, Untrusted
from fleet_contract.messages import Manifest, PolicyRef, digest_of
from fleet_contract.names import Traffic
from fleet_runtime.artifacts import Exists, Missing, Store
from fleet_runtime.policies.bundle import from_files
from fleet_runtime.robot import parts, rebuild
from fleet_runtime.robot.files import remedy, write_whole
from fleet_runtime.robot.swap import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleet_contract.messages import FileRef, Verifier
    from fleet_runtime.artifacts import Objects
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.robot.env import RobotSpec

log = logging.getLogger(__name__)

MAX_MANIFEST = 16 * 2**20
MAX_BUNDLE = 16 * 2**30
"""Bytes of all files of a bundle together."""
MAX_FILES = 64
LOOKED_BACK = 2
"""Versions before those at work that a robot on a metered link keeps, to go back without bytes."""


class Misfit(Untrusted):
    """It is what it says, but for another robot or without one of the tasks."""


class Library:
    """The job's published policies, as one robot may use them. Methods block."""

    def __init__(
        self,
        store: Objects,
        folder: Path,
        *,
        job_uid: str,
        spec: RobotSpec,
        tasks: Collection[str],
        verify: Verifier | None = None,
        metered: bool = False,
        risk: Callable[[PolicyRef, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
        received: Callable[[Traffic, int], None] = lambda *_: None,
    ) -> None:
        """Args:
        store: the job's objects.
        folder: where what was fetched is kept.
        job_uid: nothing of another job is taken.
        spec: the robot; a policy for another one is refused.
        tasks: those it must know.
        verify: checks the manifest's signature.
        metered: take no whole policy while there is another to drive.
        risk: entered while a policy is built, with the assignment's epoch.
        received: told the bytes that came over the network, and what for.
        """
        self._store = store
        self._cache = Store(f"file://{folder}")
        self._parts = parts.Parts(folder / "parts")
        self._root = names.job_root(job_uid)
        self._job_uid = job_uid
        self._spec = spec
        self._tasks = tasks
        self._verify = verify
        self._metered = metered
        self._risk = risk
        self._received = received
        self._before: deque[PolicyRef] = deque(maxlen=LOOKED_BACK + 1 if metered else 0)
        self._told = ""

    def load(self, ref: PolicyRef, epoch: int) -> Loaded:
        """Fetch, verify and build one policy.

        Raises:
            Retry: the store is away or gave other bytes; try again.
            Untrusted: it is not what it says, or not for this robot; keep what you have.
        """
        try:
            manifest = self._manifest(ref)
            files = self._files(ref, manifest)
        except Reject as fault:
            raise Untrusted(f"policy {ref.sequence}: {fault}") from fault
        with self._risk(ref, epoch):
            policy = from_files(files)
        _demand_the_same(ref, manifest, policy)
        if reason := self._spec.mismatch(policy.spaces):
            raise Misfit(f"policy {ref.sequence} is for another robot: {reason}")
        if missing := sorted(set(self._tasks) - set(policy.spaces.tasks)):
            raise Misfit(f"policy {ref.sequence} does not know the tasks {missing}")
        if ref not in self._before:
            self._before.append(ref)
        return Loaded(ref, policy, epoch, manifest.created_at_ms / 1000)

    def keep(self, refs: Collection[PolicyRef]) -> None:
        """Forget everything kept but these."""
        kept: set[str] = set()
        for ref in {*refs, *self._before}:
            try:
                manifest = self._manifest(ref)
            except (Retry, Untrusted, Reject):
                continue
            kept.add(ref.uri)
            kept |= {self._key(file) for file in manifest.files}
        for key in self._cache.list(self._root):
            if key not in kept:
                self._cache.delete(key)

    def _files(self, ref: PolicyRef, manifest: Manifest) -> dict[str, bytes]:
        """The bundle, in the way that costs fewer bytes."""
        missing = sum(f.size for f in manifest.files if not self._cache.exists(self._key(f)))
        held = self._held() if missing else {}
        held.pop(ref.digest, None)
        why = "no delta leads there in fewer bytes from a version that is here"
        if held:
            try:
                if (files := self._rebuilt(manifest, held, missing)) is not None:
                    return files
            except FleetError as fault:
                why = str(fault)
                self._say(f"version {ref.sequence} does not come as a delta: {why}")
        if held and self._metered:
            raise Retry(
                f"version {ref.sequence} would come whole, {missing} bytes, over a metered link "
                f"({why}): it waits for one that a delta leads to, or for spec.link: Normal"
            )
        return {file.name: self._file(file) for file in manifest.files}

    def _rebuilt(
        self, manifest: Manifest, held: dict[str, Manifest], below: int
    ) -> dict[str, bytes] | None:
        """The bundle by deltas; None where whole files cost less. Raises as `load` and `Reject`."""
        steps = rebuild.route(manifest, held, below, self._manifest)
        if not steps:
            return None
        base = held[steps[0].delta.base.digest]
        files = rebuild.rebuild(
            {file.name: self._own(file) for file in base.files},
            steps,
            lambda part: self._file(part, Traffic.DELTA),
            {file.name: file.digest for file in base.files},
        )
        for file in manifest.files:
            self._keep(self._key(file), files[file.name])
        return files

    def _own(self, file: FileRef) -> bytes:
        """A kept file; one that the disk garbled is dropped. Raises `Retry` and `Missing`."""
        try:
            return self._cache.get(self._key(file), file.digest, max_bytes=file.size)
        except Retry as fault:
            log.warning("kept copy dropped: %s", fault)
            self._cache.delete(self._key(file))
            raise

    def _held(self) -> dict[str, Manifest]:
        """Versions that are here as a whole, by their manifest's digest."""
        found = {}
        for key in self._cache.list(names.version_key(self._job_uid, 0).rpartition("/")[0]):
            with contextlib.suppress(FleetError):
                data = self._cache.get(key, max_bytes=MAX_MANIFEST)
                manifest = Manifest.open(data, self._verify)
                if all(self._cache.exists(self._key(file)) for file in manifest.files):
                    found[digest_of(data)] = manifest
        return found

    def _say(self, fault: str) -> None:
        """Warn, once: the same version is asked for again and again while it cannot be had."""
        if fault != self._told:
            log.warning("%s", fault)
        self._told = fault

    def _key(self, file: FileRef) -> str:
        return names.blob_key(self._job_uid, file.digest)

    def _manifest(self, ref: PolicyRef) -> Manifest:
        if not ref.uri.startswith(f"{self._root}/"):
            raise Untrusted(f"policy {ref.sequence} lies at {ref.uri}, outside {self._root}")
        manifest = Manifest.open(self._got(ref.uri, ref.digest, MAX_MANIFEST), self._verify)
        if (manifest.job_uid, manifest.sequence) != (self._job_uid, ref.sequence):
            raise Untrusted(
                f"{ref.uri} is version {manifest.sequence} of job {manifest.job_uid},"
                f" not {ref.sequence} of {self._job_uid}"
            )
        if len(manifest.files) > MAX_FILES or sum(f.size for f in manifest.files) > MAX_BUNDLE:
            raise Untrusted(f"policy {ref.sequence} has too many files or bytes")
        return manifest

    def _file(self, file: FileRef, kind: Traffic = Traffic.POLICY) -> bytes:
        key, size = self._key(file), file.size
        if size <= parts.WHOLE:
            return self._got(key, file.digest, size, kind)
        came = functools.partial(self._received, kind)
        return self._kept_or(
            key,
            file.digest,
            size,
            lambda: self._parts.fetch(self._store, key, file.digest, size, came),
        )

    def _got(self, key: str, digest: str, max_bytes: int, kind: Traffic = Traffic.POLICY) -> bytes:
        def fetch() -> bytes:
            data = self._store.get(key, digest, max_bytes=max_bytes)
            self._received(kind, len(data))
            return data

        return self._kept_or(key, digest, max_bytes, fetch)

    def _kept_or(self, key: str, digest: str, max_bytes: int, fetch: Callable[[], bytes]) -> bytes:
        try:
            return self._cache.get(key, digest, max_bytes=max_bytes)
        except Missing:
            pass
        except (Reject, Retry) as fault:  # of another size, or other bytes
            log.warning("kept copy dropped: %s", fault)
            self._cache.delete(key)
        try:
            data = fetch()
        except Missing as fault:
            raise Retry(f"{fault}; it may still be on its way") from fault
        self._keep(key, data)
        return data

    def _keep(self, key: str, data: bytes) -> None:
        try:
            self._cache.create(key, data)
        except (Retry, Exists) as fault:  # a full disk only costs the next start a download
            log.warning("not kept for the next start: %s", fault)


def _demand_the_same(ref: PolicyRef, manifest: Manifest, policy: Policy) -> None:
    """What was built is what its learner signed: files of another kind make another policy."""
    told, spaces = manifest.interface, policy.spaces
    signed = (manifest.architecture, told.observation, told.action)
    built = (policy.architecture, spaces.observation_size, spaces.action_size)
    if signed != built:
        raise Untrusted(
            f"policy {ref.sequence} is {built} by its files, its manifest says {signed}"
            " (architecture, observation, action)"
        )


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
            raise Retry(f"{self._path}: {fault}; {remedy(fault)}") from fault
