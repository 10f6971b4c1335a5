"""Which keys a namespace gets, and what a person who changes them by hand is told."""

import base64
from typing import Any

import pytest

from fleet_contract import names
from fleet_contract.names import Label, Signatory
from fleet_contract.trust import PrivateKey, read_public
from fleet_operator.decide.keys import keyring, missing

Object = dict[str, Any]


class Namespace:
    """Three objects, written as the plan says."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}

    def secret(self, role: Signatory) -> Object | None:
        return self.objects.get(f"fleetloop-{role}-key")

    @property
    def trust(self) -> Object | None:
        return self.objects.get(names.TRUST)

    def look(self, *, dies_after: int = 99) -> list[str]:
        """One look of an operator; the names of what it wrote, in order."""
        found = {role: self.secret(role) for role in Signatory}
        writes = missing(found, self.trust, PrivateKey.generate)
        for made in writes[:dies_after]:
            name = made["metadata"]["name"]
            version = str(len(self.objects))
            self.objects[name] = made | {
                "metadata": made["metadata"] | {"resourceVersion": version}
            }
        return [made["metadata"]["name"] for made in writes]

    def public(self, role: Signatory) -> list[str]:
        assert self.trust is not None
        return list(read_public(self.trust["data"].get(role.value, "")).values())

    def of(self, role: Signatory) -> str:
        """The public half of the private key that is there."""
        secret = self.secret(role)
        assert secret is not None
        return PrivateKey(base64.b64decode(secret["data"]["key"]).decode()).public


@pytest.fixture
def namespace() -> Namespace:
    made = Namespace()
    made.look()
    return made


def test_keys_are_made_once_and_public_before_anybody_can_sign() -> None:
    fresh = Namespace()
    assert fresh.look()[0] == names.TRUST
    assert fresh.objects.keys() == {names.TRUST, names.OPERATOR_KEY, names.LEARNER_KEY}
    assert fresh.look() == []
    for role in Signatory:
        assert fresh.public(role) == [fresh.of(role)]
    ring = keyring(fresh.objects[names.OPERATOR_KEY], fresh.objects[names.TRUST])
    assert ring.own.public == fresh.of(Signatory.OPERATOR)


@pytest.mark.parametrize("dies_after", [0, 1, 2])
def test_an_operator_that_dies_in_between_leaves_nothing_that_another_does_not_finish(
    dies_after: int,
) -> None:
    fresh = Namespace()
    fresh.look(dies_after=dies_after)
    fresh.look()
    assert fresh.look() == []
    for role in Signatory:
        assert fresh.of(role) in fresh.public(role)


@pytest.mark.parametrize("role", Signatory)
def test_a_deleted_private_key_is_followed_by_another_beside_the_old_public_one(
    namespace: Namespace, role: Signatory
) -> None:
    before = namespace.of(role)
    del namespace.objects[f"fleetloop-{role}-key"]
    assert namespace.look() == [names.TRUST, f"fleetloop-{role}-key"]
    assert namespace.public(role) == [before, namespace.of(role)]
    assert namespace.look() == []


def test_deleted_public_keys_come_back_from_what_is_written_on_the_secrets(
    namespace: Namespace,
) -> None:
    del namespace.objects[names.TRUST]
    # Of the learner's only the metadata is read.
    namespace.objects[names.LEARNER_KEY].pop("data")
    assert namespace.look() == [names.TRUST]
    annotations = namespace.objects[names.LEARNER_KEY]["metadata"]["annotations"]
    assert namespace.public(Signatory.LEARNER) == [annotations[Label.PUBLIC_KEY]]
    assert namespace.public(Signatory.OPERATOR) == [namespace.of(Signatory.OPERATOR)]


def test_a_public_key_that_a_person_took_out_stays_out(namespace: Namespace) -> None:
    namespace.objects[names.TRUST]["data"]["learner"] = f"{'a' * 64}\n"
    assert namespace.look() == []
    assert namespace.public(Signatory.LEARNER) == ["a" * 64]


@pytest.mark.parametrize(
    ("own", "trust", "words"),
    [
        ({"data": {}}, {}, "Secret fleetloop-operator-key holds no private key"),
        ({"data": {"key": "eHg="}}, {}, "64 hex digits.*delete it, and another is made"),
        ({}, {"data": {"learner": "a" * 64}}, "no public key of the operator"),
        ({}, {"data": {"learner": "a" * 64, "operator": "b"}}, "line 1 is no public key"),
        ({}, {"data": {"learner": "a" * 64, "operator": "b" * 64}}, "add it under 'operator'"),
    ],
)
def test_a_slip_in_a_key_is_told_with_what_to_do(
    namespace: Namespace, own: Object, trust: Object, words: str
) -> None:
    secret = namespace.objects[names.OPERATOR_KEY]
    with pytest.raises(ValueError, match=words) as told:
        keyring(secret | own, namespace.objects[names.TRUST] | trust)
    assert base64.b64decode(secret["data"]["key"]).decode() not in str(told.value)
