"""Signatures: what a key signed is taken, and nothing else, whichever letter of it was changed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contract.examples import DOCUMENTS, MESSAGES
from fleet_contract import messages
from fleet_contract.errors import Untrusted
from fleet_contract.messages import Announcement
from fleet_contract.names import Signatory
from fleet_contract.trust import PrivateKey, Trusted, key_id, read_public

LEARNER, OPERATOR, STRANGER = (PrivateKey.generate() for _ in range(3))
TRUSTED = Trusted(
    {
        Signatory.LEARNER: {LEARNER.id: LEARNER.public},
        Signatory.OPERATOR: {OPERATOR.id: OPERATOR.public},
    }
)
KEYS = {"manifest": LEARNER, "receipt": LEARNER, "assignment": OPERATOR, "kept": OPERATOR}
ROLES = {LEARNER: Signatory.LEARNER, OPERATOR: Signatory.OPERATOR}
ANNOUNCED = cast("Announcement", MESSAGES["announcement"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_opens_by_its_own_roles_key_and_by_no_other(name: str) -> None:
    key, kind = KEYS[name], type(DOCUMENTS[name])
    sealed = DOCUMENTS[name].seal(key.sign)
    assert kind.open(sealed, TRUSTED.verifier(ROLES[key])) == DOCUMENTS[name]
    other = next(role for role in Signatory if role is not ROLES[key])
    with pytest.raises(Untrusted, match=rf"the {ROLES[key]}'s, not the {other}'s"):
        kind.open(sealed, TRUSTED.verifier(other))
    with pytest.raises(Untrusted, match="nobody's that is known here"):
        kind.open(DOCUMENTS[name].seal(STRANGER.sign), TRUSTED.verifier(ROLES[key]))
    with pytest.raises(Untrusted, match=f"no signature of the {ROLES[key]}"):
        kind.open(DOCUMENTS[name].seal(), TRUSTED.verifier(ROLES[key]))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every string, number and truth in a JSON value."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path


def put(value: Any, path: tuple[Any, ...], change: Any) -> Any:
    """The value with one leaf changed."""
    if not path:
        return change(value)
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], change)
    return copy


@pytest.mark.parametrize("name", DOCUMENTS)
@given(st.data())
def test_one_changed_letter_of_any_field_is_refused(name: str, data: st.DataObject) -> None:
    key, kind = KEYS[name], type(DOCUMENTS[name])
    envelope = json.loads(DOCUMENTS[name].seal(key.sign))
    path = data.draw(st.sampled_from(list(leaves(envelope))))

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, str):
            return data.draw(st.integers().filter(lambda new: new != leaf))
        at = data.draw(st.integers(0, len(leaf)))
        letter = data.draw(st.characters(exclude_categories=["Cs"]))
        new = leaf[:at] + letter + leaf[at + 1 :]
        return new if new != leaf else leaf + letter

    damaged = put(envelope, path, change)
    with pytest.raises(Untrusted):
        kind.open(messages.canonical(damaged), TRUSTED.verifier(ROLES[key]))


@given(st.data())
def test_one_changed_field_of_an_announcement_that_decides_is_refused(data: st.DataObject) -> None:
    told = json.loads(ANNOUNCED.sealed(LEARNER.sign).encode())
    free = {"metrics", "publishedAt", "v"}
    paths = [path for path in leaves(told) if path[0] not in free]
    path = data.draw(st.sampled_from(paths))
    digest = "sha256:" + "ab" * 32

    def change(leaf: Any) -> Any:
        return leaf + 1 if isinstance(leaf, int) else digest if leaf != digest else f"{leaf}x"

    damaged = Announcement.decode(json.dumps(put(told, path, change)).encode())
    with pytest.raises(Untrusted):
        damaged.check(TRUSTED.verifier(Signatory.LEARNER))


def test_an_announcement_is_checked_whatever_newer_programs_add_to_it() -> None:
    told = json.loads(ANNOUNCED.sealed(LEARNER.sign).encode()) | {"tomorrow": 1}
    told["policy"]["tomorrow"] = 1
    found = Announcement.decode(json.dumps(told).encode())
    found.check(TRUSTED.verifier(Signatory.LEARNER))
    with pytest.raises(Untrusted, match="the learner's, not the operator's"):
        found.check(TRUSTED.verifier(Signatory.OPERATOR))


def test_any_of_several_keys_of_a_role_is_taken_and_one_that_was_removed_is_not() -> None:
    after = PrivateKey.generate()
    files = {"learner": f"# both\n{LEARNER.public} # of spring\n\n{after.public}\n"}
    files["operator"] = OPERATOR.public
    document = DOCUMENTS["manifest"]
    for key in (LEARNER, after):
        both = Trusted.read(files).verifier(Signatory.LEARNER)
        assert type(document).open(document.seal(key.sign), both) == document
    one = Trusted.read(files | {"learner": after.public}).verifier(Signatory.LEARNER)
    with pytest.raises(Untrusted, match=f"signed with key {LEARNER.id}, nobody's"):
        type(document).open(document.seal(LEARNER.sign), one)


def test_a_signature_has_one_spelling() -> None:
    envelope = json.loads(DOCUMENTS["receipt"].seal(LEARNER.sign))
    for sig in (envelope["sig"].upper(), f" {envelope['sig']}", envelope["sig"] + "00"):
        data = messages.canonical(envelope | {"sig": sig})
        with pytest.raises(Untrusted, match="is not 128 hex digits"):
            messages.Receipt.open(data, TRUSTED.verifier(Signatory.LEARNER))


def test_a_key_is_called_by_what_it_is() -> None:
    assert read_public(f"{LEARNER.public}\n") == {LEARNER.id: LEARNER.public}
    assert key_id(LEARNER.public) == LEARNER.id != OPERATOR.id
    assert PrivateKey(f"{LEARNER.reveal()}\n").public == LEARNER.public


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "A" * 64, "0" * 63, f"{'0' * 64} {'1' * 64}"])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits") as refused:
        PrivateKey(text)
    assert not text or text not in str(refused.value)
    with pytest.raises(ValueError, match=r"public key"):
        Trusted.read({"learner": text, "operator": OPERATOR.public})


def test_a_private_key_does_not_show_itself() -> None:
    secret = LEARNER.reveal()
    assert len(secret) == 64
    for shown in (repr(LEARNER), str(LEARNER), f"{[LEARNER]}", repr(LEARNER.sign(b"x"))):
        assert secret not in shown


def test_a_new_pair_is_printed_for_whoever_changes_keys() -> None:
    said = subprocess.check_output([sys.executable, "-m", "fleet_contract.trust"], text=True)
    found = yaml.safe_load(said)
    key = PrivateKey(found["stringData"]["key"])
    assert found["metadata"]["annotations"] == {"fleetloop.dev/public-key": key.public}
    assert said.startswith(f"# Key {key.id}. ")
