"""Who runs what: the one document of a job, and when a new one is due. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet_contract.messages import (
    Assignment,
    AssignmentRole,
    AssignmentState,
    Digest,
    PolicyRef,
    Rule,
    canonical,
)
from fleet_contract.resources import Rollout, RolloutMode, VersionRef
from fleet_contract.resources.job_status import AssignmentStatus
from fleet_operator.decide import shadow
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.rollout import State

LIFETIME = 24 * 3600.0  # seconds; an expired document forbids adopting, never running
RENEW_BEFORE = 6 * 3600.0
MAX_DENIED = 64


class Content(NamedTuple):
    """What a document says, without its number and its dates."""

    state: AssignmentState
    rules: tuple[Rule, ...] = ()
    default: PolicyRef | None = None
    fallback: PolicyRef | None = None
    denied: tuple[Digest, ...] = ()

    @classmethod
    def of(cls, document: Assignment) -> "Content":
        return cls(
            document.state, document.rules, document.default, document.fallback, document.denied
        )

    @property
    def hash(self) -> str:
        """Sixteen hex digits that differ where the content does."""
        parts = Assignment(job_uid="", epoch=0, issued_at_ms=0, expires_at_ms=0, **self._asdict())
        body = parts.model_dump(mode="json", by_alias=True, exclude_none=True)
        return hashlib.sha256(canonical(body)).hexdigest()[:16]


def content(
    spec: Rollout, state: State, robots: Sequence[Robot], versions: Mapping[int, VersionRef]
) -> Content:
    """Pins first, then the candidate's cohort, then the default for everyone else.

    Those who compute a candidate at its shadow gate get that beside what they run.

    A pin on a version that is not known gives the robot the default: it is never left without.
    """
    by_pin: dict[int, list[str]] = {}
    for robot in robots:
        if robot.pin in versions and robot.pin is not None:
            by_pin.setdefault(robot.pin, []).append(robot.name)
    rules = [
        Rule(robots=tuple(sorted(by_pin[pin])), manifest=ref(versions[pin]))
        for pin in sorted(by_pin)
    ]
    if state.candidate and state.rollout.robots:
        rules.append(Rule(robots=tuple(state.rollout.robots), manifest=ref(state.candidate)))
    beside = shadow.running(state)
    if state.candidate and beside and beside.robots:
        computes = AssignmentRole.SHADOW
        rules.append(
            Rule(robots=tuple(beside.robots), manifest=ref(state.candidate), role=computes)
        )
    stable = ref(state.stable) if state.stable else None
    pinned = versions.get(spec.pinned_version or 0) if spec.mode is RolloutMode.PINNED else None
    wanted = set(by_pin) | ({pinned.sequence} if pinned else set())
    denied = [
        versions[one].digest
        for one in sorted(state.rolled_back, reverse=True)
        if one in versions and one not in wanted
    ]
    paused = spec.paused or state.rollout.paused
    return Content(
        AssignmentState.FROZEN if paused else AssignmentState.ACTIVE,
        tuple(rules),
        ref(pinned) if pinned else stable,
        stable,
        tuple(denied[:MAX_DENIED]),
    )


def next_document(
    wanted: Content,
    last: Assignment | None,
    status: AssignmentStatus,
    job_uid: str,
    now: float,
) -> Assignment | None:
    """The document to publish now, or None while the last one says it and is not near its end.

    The epoch follows the greater of what the stream and the status know, so it outlives the
    loss of either. Nothing is published before there is something to assign.
    """
    now_ms = int(now * 1000)
    if last is None and wanted.default is None and not wanted.rules:
        return None
    if (
        last is not None
        and Content.of(last).hash == wanted.hash
        and last.epoch >= status.epoch
        and last.expires_at_ms > now_ms + RENEW_BEFORE * 1000
    ):
        return None
    known = [status.epoch, last.epoch] if last else [status.epoch]
    return Assignment(
        job_uid=job_uid,
        term=max(status.term, last.term if last else 0),
        generation=max(status.generation, last.generation if last else 0),
        epoch=max(known) + 1,
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + int(LIFETIME * 1000),
        **wanted._asdict(),
    )


def ref(version: VersionRef) -> PolicyRef:
    """As the wire names it."""
    return PolicyRef(sequence=version.sequence, digest=version.digest, uri=version.uri)
