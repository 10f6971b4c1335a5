"""Policies on the wire: references, manifests, announcements, the assignment."""

from enum import StrEnum
from typing import Self

from fleet_contract.messages.envelope import (
    Digest,
    Document,
    Message,
    Signer,
    Verifier,
    Wire,
    canonical,
)


class PolicyRef(Wire):
    """One published version, by the digest of its manifest."""

    sequence: int
    digest: Digest
    uri: str
    """Key of the manifest in the job's object store."""


class FileRef(Wire):
    """One file of a bundle."""

    name: str
    digest: Digest
    size: int


class TensorRef(Wire):
    """One tensor of the bundle, so that a delta can name what it changes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: Digest


class Interface(Wire):
    """Observation and action spaces of one embodiment; bounds are decimal strings."""

    observation: int
    action: int
    low: tuple[str, ...]
    high: tuple[str, ...]
    control_hz: str = ""


class Lineage(Wire):
    """The data a version was trained on: journal segments ``[first, through]``."""

    first: int
    through: int
    episodes: int


class Delta(Wire):
    """How to make this bundle from an older one; one of an encoding nobody knows is passed over."""

    base: PolicyRef
    """The version whose files it starts from."""
    encoding: str
    files: tuple[FileRef, ...]
    """The delta of each file that is another than the base's, by the file's name."""

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(file.size for file in self.files)


class Manifest(Document):
    """What a learner says of one version it published."""

    KIND = "Manifest"

    job_uid: str
    learner_epoch: int
    sequence: int
    parent: Digest | None = None
    step: int
    interface: Interface
    architecture: str
    tasks: tuple[str, ...]
    files: tuple[FileRef, ...]
    tensors: tuple[TensorRef, ...]
    deltas: tuple[Delta, ...] = ()
    """Ways to save bytes; all of `files` can be fetched whole too."""
    lineage: Lineage
    created_at_ms: int

    @property
    def size(self) -> int:
        """Bytes of the whole bundle."""
        return sum(file.size for file in self.files)


class Announcement(Message):
    """Learner → operator: a version exists. The stream keeps only the latest."""

    job_uid: str
    learner_epoch: int
    policy: PolicyRef
    parent: int | None = None
    step: int
    size: int
    """Bytes of the whole bundle."""
    delta_size: int | None = None
    """Bytes of the smallest delta; absent where there is none."""
    metrics: dict[str, float] = {}
    lineage: Lineage
    published_at: float
    """Unix seconds; for latency figures only, never for order."""
    key_id: str = ""
    sig: str = ""
    """Of ``signed``; what is not in there decides nothing."""

    @property
    def signed(self) -> bytes:
        """The bytes that a signature is for. Named one by one: a field of tomorrow changes none."""
        body = self.model_dump(
            mode="json",
            by_alias=True,
            exclude_none=True,
            include={
                "job_uid": True,
                "learner_epoch": True,
                "policy": {"sequence", "digest", "uri"},
                "parent": True,
                "step": True,
                "size": True,
                "delta_size": True,
                "lineage": {"first", "through", "episodes"},
            },
        )
        return canonical({"kind": "Announcement", "v": self.v, "body": body})

    def sealed(self, sign: Signer) -> Self:
        """Itself, signed."""
        key_id, sig = sign(self.signed)
        return self.model_copy(update={"key_id": key_id, "sig": sig})

    def check(self, verify: Verifier) -> None:
        """Raises ``Untrusted`` unless it is signed as it stands here."""
        verify(self.key_id, self.signed, self.sig)


class Kept(Document):
    """Operator → learner: which versions somebody may still want; of no others are objects kept.

    What is not named here will not be again: a PolicyVersion is made of the newest announcement
    only, and one that went does not come back. So an older document, sent again, does no harm.
    """

    KIND = "Kept"

    job_uid: str
    before: int
    """Of this sequence and greater ones nothing is said yet: they are kept."""
    versions: tuple[int, ...] = ()
    """Kept of the lesser ones: in history, at work, on trial, pinned, held by a robot."""
    specs: tuple[str, ...] = ()
    """Of what is at work the PolicyVersions' specs as JSON: the operator's note to its successor,
    for one that somebody deletes while no operator looks."""

    def keeps(self, sequence: int) -> bool:
        return sequence >= self.before or sequence in self.versions


class AssignmentState(StrEnum):
    """What robots may do with the document: take versions up, stay as they are, go home."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CLOSED = "closed"


class AssignmentRole(StrEnum):
    """What a robot does with the policy a rule gives it."""

    LIVE = "live"
    SHADOW = "shadow"
    EVAL = "eval"


class Rule(Wire):
    """These robots run this policy in this role."""

    robots: tuple[str, ...]
    manifest: PolicyRef
    role: AssignmentRole = AssignmentRole.LIVE


class Assignment(Document):
    """Operator → fleet: who runs what. One per job; a rollback is a new epoch."""

    KIND = "Assignment"

    job_uid: str
    term: int = 0
    generation: int = 0
    epoch: int
    issued_at_ms: int
    expires_at_ms: int
    state: AssignmentState = AssignmentState.ACTIVE
    rules: tuple[Rule, ...] = ()
    default: PolicyRef | None = None
    fallback: PolicyRef | None = None
    denied: tuple[Digest, ...] = ()

    @property
    def order(self) -> tuple[int, int]:
        """Robots refuse a document that compares lower than the one they hold."""
        return (self.generation, self.epoch)

    def policy_for(
        self, robot: str, role: AssignmentRole = AssignmentRole.LIVE
    ) -> PolicyRef | None:
        """First rule that names the robot, else the default (live only); never a denied one."""
        for rule in self.rules:
            if rule.role is role and robot in rule.robots:
                return None if rule.manifest.digest in self.denied else rule.manifest
        if role is not AssignmentRole.LIVE or self.default is None:
            return None
        return None if self.default.digest in self.denied else self.default
