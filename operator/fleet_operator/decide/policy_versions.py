"""PolicyVersions' statuses, from the job's decision: the job's reconcile is their one writer."""

from collections.abc import Iterable, Mapping

from fleet_contract.names import ConditionType as C
from fleet_contract.names import Reason
from fleet_contract.resources import CohortStatus, PolicyPhase, PolicyVersion, PolicyVersionStatus
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.conditions import Finding, settle
from fleet_operator.decide.phases import UNDER_WAY
from fleet_operator.decide.rollout import Decision, Move, State
from fleet_operator.decide.training_job import rate

SIGNED = "The learner's key {} signed its announcement, which names its manifest by digest."


def statuses(
    versions: Iterable[PolicyVersion],
    decision: Decision,
    evidence: Evidence,
    pinned: frozenset[int],
    now: float,
) -> Mapping[int, PolicyVersionStatus]:
    """The new status of each version that should read otherwise, by sequence."""
    moved = {move.version.sequence: move for move in decision.moves}  # the last one counts
    changed = {}
    for version in versions:
        sequence = version.spec.sequence
        last = moved.get(sequence) or _standing(version, decision.state, evidence, pinned)
        if last is None:
            continue
        fresh = _status(version, last, now)
        if fresh != version.status:
            changed[sequence] = fresh
    return changed


def only_counts(before: PolicyVersionStatus, after: PolicyVersionStatus) -> bool:
    """Whether the statuses differ in figures alone, and in the sentences that tell of them."""

    def meant(status: PolicyVersionStatus) -> PolicyVersionStatus:
        conditions = [one.model_copy(update={"message": ""}) for one in status.conditions]
        blank = {"cohort": CohortStatus(), "success_rate": "", "message": ""}
        return status.model_copy(update={**blank, "conditions": conditions})

    return meant(before) == meant(after)


def _standing(  # noqa: PLR0911 - a list of rules, the first wins
    version: PolicyVersion, state: State, evidence: Evidence, pinned: frozenset[int]
) -> Move | None:
    """What to say of a version that did not move in this turn; None: what was said stands."""
    sequence, phase = version.spec.sequence, version.status.phase
    candidate = state.candidate
    if candidate and candidate.sequence == sequence:
        awaited = Reason(state.rollout.reason or Reason.ANNOUNCED)
        message, gates = state.rollout.message, tuple(state.rollout.gates)
        if not state.started:
            waits = PolicyPhase.GATED if state.gated else PolicyPhase.CANDIDATE
            return Move(candidate, waits, awaited, message, gates=gates)
        robots = len(state.rollout.robots)
        return Move(candidate, PolicyPhase.STAGED, awaited, message, evidence, robots, gates)
    unread = version.status.observed_generation < 0
    if phase not in UNDER_WAY and not unread:
        return None
    # An operator died between two writes: the job's status is what counts.
    if state.stable and state.stable.sequence == sequence:
        return Move(state.stable, PolicyPhase.PROMOTED, Reason.CANARY_PASSED, "The fleet runs it.")
    of = state.stable or candidate
    if of is None:
        return None
    if sequence in state.rolled_back:
        return Move(of, PolicyPhase.ROLLED_BACK, Reason.SUCCESS_BELOW_THRESHOLD, "Taken back.")
    if sequence in pinned:
        return Move(of, PolicyPhase.CANDIDATE, Reason.PINNED, "Kept for those pinned to it.")
    return Move(of, PolicyPhase.SUPERSEDED, Reason.SUPERSEDED, "A newer one came before its turn.")


def _status(version: PolicyVersion, move: Move, now: float) -> PolicyVersionStatus:
    before, evidence = version.status, move.evidence
    end = move.phase not in UNDER_WAY or move.reason is Reason.PINNED  # nobody tries it
    back = move.phase is PolicyPhase.ROLLED_BACK
    promoted = move.phase is PolicyPhase.PROMOTED
    signer = version.spec.signed_by  # nothing is made of an announcement that is not its learner's
    findings = [
        Finding(C.READY, end, move.reason, move.message),
        *([Finding(C.VERIFIED, True, Reason.SIGNED, SIGNED.format(signer))] if signer else []),
        Finding(C.PROMOTED, promoted, move.reason if promoted else Reason.ANNOUNCED),
        *([Finding(C.ROLLED_BACK, True, move.reason, move.message)] if back else []),
    ]
    cohort, shown = before.cohort, before.success_rate
    if evidence is not None:
        cohort = CohortStatus(
            robots=move.robots,
            episodes=evidence.episodes,
            successes=evidence.successes,
            interventions=evidence.interventions,
            guard_trips=evidence.guard_trips,
        )
        shown = rate(evidence.rate if evidence.episodes else None)
    return PolicyVersionStatus(
        observed_generation=version.metadata.generation,
        conditions=settle(before.conditions, findings, version.metadata.generation, now),
        last_handled_request=before.last_handled_request,
        phase=move.phase,
        cohort=cohort,
        success_rate=shown,
        gates=before.gates if move.gates is None else list(move.gates),
        message=move.message,
    )
