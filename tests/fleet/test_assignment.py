"""What one robot reads out of the fleet's document."""

import pytest

from fleet_contract.errors import Untrusted
from fleet_contract.messages import (
    Assignment,
    AssignmentRole,
    AssignmentState,
    PolicyRef,
    Rule,
    digest_of,
)
from fleet_runtime.robot.assignment import NEVER, Say, admit, read


def policy(sequence: int) -> PolicyRef:
    return PolicyRef(sequence=sequence, digest=digest_of(b"%d" % sequence), uri=f"v{sequence}")


V1, V2, V3 = policy(1), policy(2), policy(3)


def document(**fields: object) -> Assignment:
    base: dict[str, object] = {
        "job_uid": "uid-1",
        "epoch": 5,
        "issued_at_ms": 0,
        "expires_at_ms": 1000,
        "default": V1,
    }
    return Assignment.model_validate(base | fields)


@pytest.mark.parametrize(
    ("fields", "say", "sequence"),
    [
        pytest.param({}, Say.ADOPT, 1, id="the default where no rule names it"),
        pytest.param(
            {"rules": (Rule(robots=("r0",), manifest=V2),)}, Say.ADOPT, 2, id="its own rule"
        ),
        pytest.param(
            {"rules": (Rule(robots=("r1",), manifest=V2),)}, Say.ADOPT, 1, id="another's rule"
        ),
        pytest.param({"default": None}, Say.KEEP, None, id="nothing assigned"),
        pytest.param({"denied": (V1.digest,)}, Say.KEEP, None, id="only a denied one"),
        pytest.param(
            {"denied": (V1.digest,), "fallback": V3}, Say.ADOPT, 3, id="fallback for a denied one"
        ),
        pytest.param({"state": AssignmentState.FROZEN}, Say.KEEP, None, id="frozen"),
        pytest.param({"state": AssignmentState.CLOSED}, Say.STOP, None, id="closed"),
    ],
)
def test_a_robot_does_as_its_first_rule_or_the_default_says(
    fields: dict[str, object], say: Say, sequence: int | None
) -> None:
    will = read(document(**fields), "r0")
    assert will.say is say
    assert (will.policy.sequence if will.policy else None) == sequence


SHADOW = Rule(robots=("r0",), manifest=V2, role=AssignmentRole.SHADOW)


@pytest.mark.parametrize(
    ("fields", "shadow"),
    [
        pytest.param({"rules": (SHADOW,)}, V2, id="its own"),
        pytest.param(
            {"rules": (SHADOW, Rule(robots=("r0",), manifest=V3))}, V2, id="beside a live"
        ),
        pytest.param(
            {"rules": (Rule(robots=("r0",), manifest=V3),)}, None, id="a live one is none"
        ),
        pytest.param(
            {"rules": (SHADOW.model_copy(update={"robots": ("r1",)}),)}, None, id="another's"
        ),
        pytest.param({"rules": (SHADOW,), "denied": (V2.digest,)}, None, id="a denied one"),
    ],
)
def test_a_shadow_never_changes_what_a_robot_drives(
    fields: dict[str, object], shadow: PolicyRef | None
) -> None:
    will = read(document(**fields), "r0")
    assert will.shadow == shadow
    rules = fields["rules"]
    assert isinstance(rules, tuple)
    live = [rule for rule in rules if rule.role is AssignmentRole.LIVE]
    assert will.policy == (live[0].manifest if live else V1)


@pytest.mark.parametrize(
    ("held", "now_ms", "job_uid", "fault"),
    [
        pytest.param((0, 6), 0, "uid-1", "older", id="older epoch"),
        pytest.param((1, 0), 0, "uid-1", "older", id="older generation"),
        pytest.param(NEVER, 1001, "uid-1", "expired", id="expired"),
        pytest.param(NEVER, 0, "uid-2", "job", id="another job"),
    ],
)
def test_documents_that_must_not_move_a_robot_are_untrusted(
    held: tuple[int, int], now_ms: int, job_uid: str, fault: str
) -> None:
    with pytest.raises(Untrusted, match=fault):
        admit(document(), job_uid=job_uid, held=held, now_ms=now_ms)


def test_a_rollback_is_a_newer_epoch_that_names_an_older_version() -> None:
    rollback = document(epoch=6, default=V1)
    admit(rollback, job_uid="uid-1", held=(0, 5), now_ms=0)
    assert read(rollback, "r0").policy == V1


def test_a_generation_raised_by_people_beats_any_epoch() -> None:
    admit(document(generation=1, epoch=0), job_uid="uid-1", held=(0, 99), now_ms=0)
