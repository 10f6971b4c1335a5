"""The oracle itself: what it must have something against."""

from collections.abc import Sequence

import pytest

from faults.cases import ROWS, SEEDS, of_row
from faults.mutants import PACKAGES, Law, Mutant
from faults.oracle import Exposure, differences
from faults.seeded import MUTANTS
from fleet_contract.messages import Assignment, Rule
from helpers.control import policy


def document(epoch: int, default: int, trial: int = 0, *robots: str) -> Assignment:
    rules = (Rule(robots=robots, manifest=policy(trial)),) if trial else ()
    return Assignment(
        job_uid="uid",
        epoch=epoch,
        issued_at_ms=0,
        expires_at_ms=1,
        default=policy(default),
        rules=rules,
    )


FINE = [document(1, 1), document(2, 1, 2, "r1"), document(4, 2), document(5, 2, 4, "r2")]
WRONG = {
    "an epoch comes again": ([document(2, 1), document(2, 1)], "epoch 2 after 2"),
    "the fleet goes back": ([document(1, 2), document(2, 1)], "went from version 2 back"),
    "an untried version": ([document(1, 1), document(2, 4)], "had not earned it"),
    "two robots in a stage of one": ([document(1, 1, 2, "r1", "r2")], "more than 1"),
    "one that was taken back": ([document(1, 2, 3, "r1")], "was over"),
    "one older than the fleet's": ([document(1, 2, 1, "r1")], "was over"),
}


def seen(documents: Sequence[Assignment]) -> list[str]:
    exposure = Exposure(stage=1)
    exposure.earned, exposure.denied = {1, 2}, {3}
    for one in documents:
        exposure.take(one)
    return exposure.violations


def test_a_rollout_as_it_should_be_is_let_pass() -> None:
    assert seen(FINE) == []


@pytest.mark.parametrize(("documents", "why"), WRONG.values(), ids=WRONG)
def test_a_document_that_breaks_a_law_is_noticed(documents: list[Assignment], why: str) -> None:
    (said,) = seen(documents)
    assert why in said


def test_a_difference_is_told_with_its_place() -> None:
    wanted = {"job": {"conditions": [{"status": "True"}], "run": 2}}
    found = {"job": {"conditions": [{"status": "False"}], "run": 2}, "pod": {}}
    assert differences(wanted, wanted) == []
    assert differences(wanted, found) == [
        "/job/conditions[0]/status: True became False",
        "/pod: None became {}",
    ]


@pytest.mark.parametrize("row", ROWS)
def test_every_write_is_struck_by_every_fault_of_its_row(row: int) -> None:
    every, (at_a_write, throughout) = list(of_row(row, 30)), ROWS[row]
    assert len(set(every)) == len(every) == 30 * len(at_a_write) + SEEDS * len(throughout)
    first = every[: len(at_a_write) + len(throughout)]
    assert {one.fault for one in first} == at_a_write.keys() | throughout.keys()


@pytest.mark.parametrize("bug", MUTANTS, ids=lambda bug: bug.name)
def test_every_seeded_bug_still_has_its_place(bug: Mutant) -> None:
    package, _, inside = bug.file.partition("/")
    (origin,) = (one for one in PACKAGES if one.name == package)
    source = (origin / inside).read_text()
    assert bug.patched(source) != source


def test_every_law_has_a_seeded_bug_that_breaks_it() -> None:
    assert {bug.law for bug in MUTANTS} == set(Law)
    assert len({bug.name for bug in MUTANTS}) == len(MUTANTS)
