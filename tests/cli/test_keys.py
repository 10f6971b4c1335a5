"""Which old keys `fleet doctor` says are still needed."""

from typing import Any

import pytest

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall import key_checks
from fleet_cli.oncall.key_checks import Keys
from fleet_contract import names
from fleet_contract.names import Label, Signatory
from fleet_contract.resources import FleetTrainingJob, PolicyVersion, RobotActor
from fleet_contract.trust import PrivateKey
from fleet_operator.decide.assignment import LIFETIME
from helpers.oncall import NOW, ago, job, reference, robot, version

OLD, NEW, OTHER = (PrivateKey.generate() for _ in range(3))


def keys(*learner: PrivateKey, operator: tuple[PrivateKey, ...] = (OTHER,), **fields: Any) -> Keys:
    """NEW signs for the learner and, where it is known, for the operator since a while."""

    def secret(public: str, **more: str) -> dict[str, Any]:
        return {"metadata": {"annotations": {Label.PUBLIC_KEY.value: public, **more}}}

    def lines(*found: PrivateKey) -> str:
        return "".join(f"{one.public}\n" for one in found)

    since = {Label.SIGNS_SINCE.value: fields.pop("since")} if "since" in fields else {}
    told = Keys(
        {"data": {"learner": lines(*learner), "operator": lines(*operator)}},
        {
            Signatory.LEARNER: secret(NEW.public),
            Signatory.OPERATOR: secret(operator[-1].public, **since),
        },
        [],
    )
    return told._replace(**fields)


def signed(*by: PrivateKey) -> list[PolicyVersion]:
    """Versions 1, 2 … by these."""
    return [
        PolicyVersion.model_validate(version(n, "Promoted", spec={"signedBy": one.id}))
        for n, one in enumerate(by, 1)
    ]


def said(found: Keys, at_work: list[dict[str, Any]], *robots: dict[str, Any]) -> list[str]:
    jobs = [FleetTrainingJob.model_validate(one) for one in at_work]
    known = [RobotActor.model_validate(one) for one in robots]
    return [
        f"{one.name}: {one.found} {one.remedy}"
        for one in key_checks.check(found, jobs, known, NOW)
        if one.ok
    ]


def runs(stable: int, **more: Any) -> dict[str, Any]:
    return job(stable=reference(stable), **more)


def test_where_each_role_has_one_key_nothing_is_said() -> None:
    assert said(keys(NEW), [runs(1)]) == []


@pytest.mark.parametrize(
    ("job_", "robots"),
    [
        pytest.param(runs(1), [], id="at work"),
        pytest.param(runs(2, lastKnownGood=[reference(1)]), [], id="to go back to"),
        pytest.param(
            runs(2, spec={"rollout": {"mode": "Pinned", "pinnedVersion": 1}}), [], id="pinned"
        ),
        pytest.param(runs(2), [robot("r1", runs=1)], id="on a robot"),
        pytest.param(runs(2), [robot("r1", runs=2, spec={"pin": 1})], id="pinned to a robot"),
        pytest.param(
            runs(2), [robot("r1", runs=2, lastKnownGood=reference(1))], id="a robot's last"
        ),
    ],
)
def test_an_old_key_of_the_learner_is_needed_while_what_it_signed_is_in_use(
    job_: dict[str, Any], robots: list[dict[str, Any]]
) -> None:
    found = keys(OLD, NEW, versions=signed(OLD, NEW))
    (line,) = said(found, [job_], *robots)
    assert f"{NEW.id} signs; old keys still believed: {OLD.id}; still needed: version 1 of" in line


def test_an_old_key_that_nothing_needs_may_go_and_the_remedy_names_its_line() -> None:
    (line,) = said(keys(OLD, NEW, versions=signed(OLD, NEW)), [runs(2)], robot("r1", runs=2))
    assert f"keys of the learner: {NEW.id} signs" in line
    assert f"no longer needed take {OLD.public} out of the entry learner of ConfigMap" in line


def test_a_version_that_nobody_knows_who_signed_counts_as_the_old_keys() -> None:
    (line,) = said(keys(OLD, NEW), [runs(2)])
    assert "still needed: version 2 of" in line


@pytest.mark.parametrize(
    ("since", "words"),
    [
        ({"since": ago(LIFETIME - 7200)}, "still needed: assignments it signed are valid for "),
        ({"since": ago(LIFETIME + 1)}, "no longer needed take "),
        ({}, "still needed: nobody wrote down since when"),
    ],
)
def test_an_old_key_of_the_operator_is_needed_for_a_day(since: dict[str, str], words: str) -> None:
    (line,) = said(keys(NEW, operator=(OLD, OTHER), **since), [runs(1)])
    assert line.startswith(f"keys of the operator: {OTHER.id} signs")
    assert words in line


def test_what_may_not_be_looked_at_is_no_problem_and_a_wrong_line_is_one() -> None:
    (line,) = said(keys(NEW, secrets=Fault("forbidden", Exit.NO_ACCESS)), [])
    assert line.startswith("keys: not looked at: forbidden")
    wrong = {"data": {"learner": "no key", "operator": OTHER.public}}
    (check,) = key_checks.check(keys(NEW, trust=wrong), [], [], NOW)
    assert (check.ok, check.remedy) == (False, "correct that line")
    assert f"ConfigMap {names.TRUST}, learner: line 1" in check.found
