"""What a rollout knows after somebody wiped the job's status."""

from typing import NamedTuple

import pytest

from control.rollouts import NOW, on_trial
from fleet_contract.messages import Assignment, PolicyRef, digest_of
from fleet_contract.names import Reason
from fleet_contract.resources import Condition, PolicyPhase, PolicyVersion, Rollout, VersionRef
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.rollout import Observed, State, decide

P = PolicyPhase


def digest(sequence: int) -> str:
    return digest_of(str(sequence).encode())


def ref(sequence: int) -> PolicyRef:
    return PolicyRef(sequence=sequence, digest=digest(sequence), uri=f"v/{sequence}")


def version(sequence: int, phase: PolicyPhase) -> PolicyVersion:
    spec = {
        "job": "job",
        "jobUid": "uid",
        "sequence": sequence,
        "learnerEpoch": 1,
        "learnerStep": 1,
        "digest": digest(sequence),
        "uri": f"v/{sequence}",
        "size": 1,
        "lineage": {"first": 0, "through": 0, "episodes": 0},
    }
    return PolicyVersion.model_validate(
        {"metadata": {"name": f"job-v{sequence}"}, "spec": spec, "status": {"phase": phase}}
    )


def document(fallback: int | None, *denied: int) -> Assignment:
    return Assignment(
        job_uid="uid",
        epoch=7,
        issued_at_ms=0,
        expires_at_ms=1,
        fallback=ref(fallback) if fallback else None,
        denied=tuple(map(digest, denied)),
    )


class Case(NamedTuple):
    versions: tuple[PolicyVersion, ...]
    document: Assignment | None
    stable: int | None
    back: tuple[int, ...] = ()
    last: int = 0


TRIED = (version(1, P.PROMOTED), version(2, P.ROLLED_BACK), version(3, P.SUPERSEDED))
CASES = {
    "a job without versions begins": Case((), None, None),
    "the fleet keeps what it runs and what was taken back stays so": Case(
        TRIED, document(1, 2), 1, (2,), 3
    ),
    "the document alone tells both": Case(
        (version(1, P.CANDIDATE), version(2, P.CANDIDATE)), document(1, 2), 1, (2,), 2
    ),
    "a deleted stable version is still what the fleet runs": Case((), document(4), 4, (), 4),
    "without a document nothing tried is new": Case(TRIED, None, None, (2,), 3),
    "a trial under way begins anew": Case(
        (version(1, P.PROMOTED), version(2, P.STAGED)), document(1), 1, (), 1
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_wiped_status_is_read_from_the_rest(case: Case) -> None:
    found = State().recovered("job", case.versions, case.document)
    assert (found.rolled_back, found.last_sequence) == (case.back, case.last)
    assert (found.stable and found.stable.sequence) == case.stable
    if found.stable:
        assert found.stable.name == f"job-v{case.stable}"
        assert found.recovered("job", case.versions, case.document) == found


def unread(sequence: int) -> PolicyVersion:
    """As it was made: nobody wrote its status yet."""
    return version(sequence, P.CANDIDATE)


def read(sequence: int, phase: PolicyPhase, reason: Reason) -> PolicyVersion:
    made = version(sequence, phase)
    why = Condition(
        type="Ready", status="True", reason=reason, last_transition_time="2026-01-01T00:00:00Z"
    )
    status = made.status.model_copy(update={"observed_generation": 1, "conditions": [why]})
    return made.model_copy(update={"status": status})


FIRST = read(1, P.PROMOTED, Reason.FIRST_VERSION)


@pytest.mark.parametrize(
    ("versions", "fallback", "said"),
    [
        pytest.param((unread(1),), 1, [1], id="it died between document and statuses"),
        pytest.param((unread(1), unread(2)), 1, [1], id="and a second version came meanwhile"),
        pytest.param((FIRST,), 1, [1], id="it died between the two statuses"),
        pytest.param((read(1, P.PROMOTED, Reason.CANARY_PASSED),), 1, [], id="it had a trial"),
        pytest.param((FIRST, unread(2)), 2, [], id="another one came before it"),
        pytest.param((unread(1),), None, [], id="no document names it"),
    ],
)
def test_the_first_promotion_is_told_by_the_operator_that_finds_it_in_the_document(
    versions: tuple[PolicyVersion, ...], fallback: int | None, said: list[int]
) -> None:
    state = State().recovered("job", versions, document(fallback))
    moves = state.unsaid(State(), versions)
    assert [(move.version.sequence, move.phase, move.reason) for move in moves] == [
        (sequence, P.PROMOTED, Reason.FIRST_VERSION) for sequence in said
    ]
    assert state.unsaid(state, versions) == ()  # the job's status knows: all was told


def test_a_status_that_knows_is_not_touched() -> None:
    one = VersionRef(name="job-v1", sequence=1, digest=digest(1), uri="v/1")
    state = State(stable=one, last_sequence=1)
    assert state.recovered("job", TRIED, document(3)) is state


def test_a_version_says_how_many_tried_it_though_no_list_shows_them_as_it_is_taken_back() -> None:
    evidence = Evidence(guard_trips=99)
    decision = decide(Rollout(), on_trial(2), Observed(evidence=evidence, last_event=9), NOW)
    (move,) = (one for one in decision.moves if one.phase is PolicyPhase.ROLLED_BACK)
    assert (move.robots, move.evidence) == (1, evidence)
