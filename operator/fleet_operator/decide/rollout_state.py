"""What a rollout is made of: what persists, what was seen, what was decided."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.names import Reason, policy_version
from fleet_contract.resources import (
    FleetTrainingJobStatus,
    PolicyPhase,
    RolloutStatus,
    VersionRef,
)
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.phases import UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet_contract.messages import Assignment
    from fleet_contract.resources import GateStatus, PolicyVersion
    from fleet_operator.decide import cohort
    from fleet_operator.decide.gates import Gate

MAX_KNOWN_GOOD = 5
NOTHING_BEFORE = "the first version, nothing to compare with"
_REF = {"sequence", "digest", "uri"}


class State(NamedTuple):
    """The rollout's part of the job's status: all it needs to go on after a restart."""

    stable: VersionRef | None = None
    rollout: RolloutStatus = RolloutStatus()
    rolled_back: tuple[int, ...] = ()
    last_sequence: int = 0
    last_handled_request: str = ""
    known_good: tuple[VersionRef, ...] = ()

    @classmethod
    def of(cls, status: FleetTrainingJobStatus) -> State:
        return cls(
            status.stable,
            status.rollout,
            tuple(status.rolled_back),
            status.last_sequence,
            status.last_handled_request,
            tuple(status.last_known_good),
        )

    def recovered(
        self,
        job: str,
        versions: Sequence[PolicyVersion],
        assignment: Assignment | None,
        gate_run: int = 0,
    ) -> State:
        """Where somebody wiped the job's status: from its versions and the last document.

        The fleet keeps what it runs, and what was taken back stays so. A trial that was under way
        begins anew while its version is the newest, else it is over. ``gate_run``: the greatest
        number of a gate's run there is anything left of.
        """
        if self.rollout.last_gate_run < gate_run:
            rollout = self.rollout.model_copy(update={"last_gate_run": gate_run})
            return self._replace(rollout=rollout).recovered(job, versions, assignment)
        if self.last_sequence:
            return self
        denied = frozenset(assignment.denied) if assignment else frozenset()
        runs = assignment.fallback if assignment else None
        stable = None
        if runs is not None:
            stable = VersionRef(name=policy_version(job, runs.sequence), **runs.model_dump())
        back = {
            one.spec.sequence
            for one in versions
            if one.status.phase is PolicyPhase.ROLLED_BACK or one.spec.digest in denied
        }
        ended = {one.spec.sequence for one in versions if one.status.phase not in UNDER_WAY}
        if stable:
            ended.add(stable.sequence)
        good = (
            VersionRef(name=one.metadata.name, **one.spec.model_dump(include=_REF))
            for one in sorted(versions, key=lambda one: one.spec.sequence)
            if one.status.phase is PolicyPhase.PROMOTED and one.spec.sequence not in back
        )
        return self._replace(
            stable=stable,
            known_good=tuple(one for one in good if one != stable)[-MAX_KNOWN_GOOD:],
            rolled_back=tuple(sorted(back)),
            last_sequence=max(ended | back, default=0),
        )

    def unsaid(self, before: State, versions: Sequence[PolicyVersion]) -> tuple[Move, ...]:
        """The first version's promotion, where an operator died between document and job's status.

        Its Event comes between the two statuses: a version that says it was the first may not have
        been told of. ``before``: what the job's status says, of which this state was recovered.
        """
        first = self.stable
        untold = (one.spec.sequence for one in versions if _unread(one) or _says_first(one))
        if before.last_sequence or first is None or self.known_good or first.sequence not in untold:
            return ()
        message = f"Version {first.sequence} promoted: {NOTHING_BEFORE}."
        return (Move(first, PolicyPhase.PROMOTED, Reason.FIRST_VERSION, message),)

    def elapsed(self, since: str | None, now: float) -> float:
        """Seconds, without the time for which clocks stand now; 0 where it has not begun."""
        stood = self.rollout.paused_at
        until = datetime.fromisoformat(stood).timestamp() if stood else now
        return until - datetime.fromisoformat(since).timestamp() if since else 0.0

    @property
    def candidate(self) -> VersionRef | None:
        return self.rollout.candidate

    @property
    def started(self) -> bool:
        """Whether robots run the candidate; one that waits has no stage yet."""
        return self.candidate is not None and self.rollout.started_at is not None

    @property
    def gated(self) -> bool:
        """Whether the candidate stands at its gates, or waits behind them for its first stage."""
        return self.candidate is not None and not self.started and bool(self.rollout.gates)


def _unread(version: PolicyVersion) -> bool:
    return version.status.observed_generation < 0


def _says_first(version: PolicyVersion) -> bool:
    return any(one.reason == Reason.FIRST_VERSION for one in version.status.conditions)


class Known(NamedTuple):
    """A PolicyVersion there is, and what was last written of it."""

    ref: VersionRef
    phase: PolicyPhase


class Observed(NamedTuple):
    """What was seen."""

    announced: VersionRef | None = None
    robots: tuple[cohort.Robot, ...] = ()
    evidence: Evidence = Evidence()  # of the candidate's cohort in its stage, or of the watch
    last_event: int = 0  # newest sequence of the events stream
    request: str = ""  # the annotation people press buttons with
    known: Mapping[int, Known] = MappingProxyType({})  # by sequence
    freeze: str = ""  # why the whole namespace is frozen; empty: it is not
    gates: tuple[Gate, ...] = ()  # those that are asked for, in the order in which they are passed
    suspended: bool = False  # the job, as spec.suspend says


class Move(NamedTuple):
    """One version's new phase, and why."""

    version: VersionRef
    phase: PolicyPhase
    reason: Reason
    message: str
    evidence: Evidence | None = None  # of the trial that ended or goes on; None: none was held
    robots: int = 0
    gates: tuple[GateStatus, ...] | None = None  # None: what was written of them stands


class Note(NamedTuple):
    """An Event that is no version's move."""

    reason: Reason
    message: str
    warning: bool = False


class Hold(NamedTuple):
    """Why the rollout waits, and what to do; ``opens_at``: Unix seconds, if it waits for a time."""

    reason: Reason
    message: str
    opens_at: float | None = None


class Decision(NamedTuple):
    """What shall be. Versions that moved are written before the assignment, ``state`` last."""

    state: State
    moves: tuple[Move, ...]
    notes: tuple[Note, ...] = ()
    gates: tuple[GateStatus, ...] = ()  # those that ended in this turn
