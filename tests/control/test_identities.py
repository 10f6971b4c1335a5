"""Who is minted, renewed and put out, as a table over time."""

import base64
import importlib
import json
from typing import Any

import pytest

from fleet_contract import identity, names
from fleet_contract.identity import Level, User, passport_of
from fleet_contract.names import Identity
from fleet_contract.trust import PrivateKey
from fleet_operator.decide import identities as decide
from fleet_operator.decide.identities import INSIDE, OUTSIDE, Wanted

NOW = 1_800_000_000
R1 = User(Identity.ROBOT, "r1", "job", "uid-1", "robot-1")
ENTRY = decide.entry(R1)


def keys(**changes: str) -> dict[str, Any]:
    made = decide.completed(None, PrivateKey.generate)
    assert made is not None
    made["data"] |= {
        key: base64.b64encode(value.encode()).decode() for key, value in changes.items()
    }
    return made | {"metadata": {**made["metadata"], "resourceVersion": "1"}}


KEYS = keys()
ACCOUNT = decide.read(KEYS).account


def mint(entries: dict[str, str], wanted: list[Wanted], now: int, *leaving: str) -> decide.Minted:
    table = {decide.entry(one.user): one for one in wanted}
    return decide.minted(entries, table, set(leaving), ACCOUNT, now, PrivateKey.generate)


BEFORE = dict(mint({}, [Wanted(R1)], NOW).entries)
SUBJECT = identity.claims(passport_of(BEFORE[ENTRY]).token)["sub"]


@pytest.mark.parametrize(
    ("after", "wanted", "leaving", "kept", "out"),
    [
        pytest.param(0, [Wanted(R1)], (), True, False, id="as it is"),
        pytest.param(INSIDE / 2, [Wanted(R1)], (), True, False, id="not yet half over"),
        pytest.param(INSIDE / 2 + 1, [Wanted(R1)], (), False, False, id="half over: renewed"),
        pytest.param(0, [], (), False, True, id="gone"),
        pytest.param(0, [], (ENTRY,), True, False, id="gone, but its pod is not"),
        pytest.param(0, [Wanted(R1._replace(job_uid="uid-2"))], (), False, True, id="another job"),
        pytest.param(0, [Wanted(R1._replace(uid="robot-2"))], (), False, True, id="a namesake"),
        pytest.param(0, [Wanted(R1._replace(issue="x"))], (), False, True, id="others asked for"),
        pytest.param(
            0, [Wanted(R1._replace(uid="robot-2"))], (ENTRY,), False, True, id="one in its place"
        ),
    ],
)
def test_what_was_minted_stays_is_renewed_or_is_out(
    after: float, wanted: list[Wanted], leaving: tuple[str, ...], kept: bool, out: bool
) -> None:
    found = mint(BEFORE, wanted, NOW + int(after), *leaving)
    assert (found.entries.get(ENTRY) == BEFORE[ENTRY]) is kept
    assert found.out == ({SUBJECT: NOW + INSIDE} if out else {})
    assert found.entries.keys() == {decide.entry(one.user) for one in wanted} | set(leaving)
    for one in wanted:
        text = found.entries[decide.entry(one.user)]
        assert identity.claims(identity.token_of(text))["nats"]["tags"] == one.user.tags


LIMIT = 2**20  # bytes of a Secret


def test_three_thousand_robots_have_room_and_twenty_thousand_would() -> None:
    robots = [
        Wanted(User(Identity.ROBOT, f"arm-{n:036}", "job", "u" * 36, "r" * 36)) for n in range(3000)
    ]
    minted = mint({}, robots, NOW)
    secrets = decide.users({}, minted.entries)
    assert {one["metadata"]["name"] for one in secrets} == set(names.NATS_ROBOTS)
    sizes = [sum(map(len, decide.entries_of(one).values())) for one in secrets]
    assert max(sizes) * 20_000 / 3000 < 0.9 * LIMIT
    found = {one["metadata"]["name"]: one for one in secrets}
    assert decide.together(found) == minted.entries

    # One who goes or comes is one write.
    first, *others = robots
    later = mint(dict(minted.entries), others, NOW)
    (write,) = decide.users(with_versions(found), later.entries)
    assert write["metadata"]["name"] == names.users(decide.entry(first.user))
    assert write["metadata"]["resourceVersion"] == "7"


def with_versions(secrets: dict[str, Any]) -> dict[str, Any]:
    return {
        name: one | {"metadata": one["metadata"] | {"resourceVersion": "7"}}
        for name, one in secrets.items()
    }


def test_robots_that_lay_beside_all_others_are_written_where_they_belong_before_they_go() -> None:
    reader = mint({}, [decide.READER], NOW).entries
    (old,) = decide.users({}, reader)
    old["data"] |= {ENTRY: base64.b64encode(BEFORE[ENTRY].encode()).decode()}
    found = with_versions({names.NATS_USERS: old})
    assert decide.together(found) == BEFORE | dict(reader)
    writes = decide.users(found, decide.together(found))
    assert [one["metadata"]["name"] for one in writes] == [names.users(ENTRY), names.NATS_USERS]
    assert [decide.entries_of(one) for one in writes] == [BEFORE, dict(reader)]

    # An operator that died between the two goes on with what lies where it belongs.
    half = found | with_versions({names.users(ENTRY): writes[0]})
    half[names.NATS_USERS]["data"][ENTRY] = base64.b64encode(b"older").decode()
    assert decide.together(half) == BEFORE | dict(reader)
    (last,) = decide.users(half, decide.together(half))
    assert decide.entries_of(last) == dict(reader)


def test_where_a_signing_key_is_replaced_all_it_signed_are_out_and_minted_anew() -> None:
    learner = Wanted(User(Identity.LEARNER, "job", "job", "uid-1"))
    before = mint({}, [Wanted(R1), learner], NOW).entries
    without = KEYS | {"data": {k: v for k, v in KEYS["data"].items() if k != "signing-robot"}}
    made = decide.completed(without, PrivateKey.generate)
    assert made is not None
    other = decide.read(made).account
    wanted = {decide.entry(one.user): one for one in (Wanted(R1), learner)}
    found = decide.minted(before, wanted, set(), other, NOW, PrivateKey.generate)
    assert [entry for entry in wanted if found.entries[entry] == before[entry]] == ["learner.job"]
    assert len(found.out) == 1


def test_who_is_out_is_remembered_for_as_long_as_it_could_come_in() -> None:
    once = decide.put_out(KEYS, {"UA": NOW + INSIDE, "UB": NOW + OUTSIDE}, NOW)
    assert decide.read(once).revoked == {"UA": NOW + INSIDE, "UB": NOW + OUTSIDE}
    later = decide.put_out(once, {"UC": NOW + OUTSIDE}, NOW + INSIDE + 1)
    assert decide.read(later).revoked == {"UB": NOW + OUTSIDE, "UC": NOW + OUTSIDE}
    assert later["metadata"]["resourceVersion"] == "1"
    root = decide.read(KEYS).root
    token = identity.account_jwt(ACCOUNT, "space", root, NOW, decide.read(later).revoked)
    assert identity.claims(token)["nats"]["revocations"] == decide.read(later).revoked


def test_a_root_that_was_given_is_taken_and_the_rest_made() -> None:
    given = {"root": PrivateKey.generate(), "system": PrivateKey.generate()}
    data = {name: base64.b64encode(key.reveal().encode()).decode() for name, key in given.items()}
    made = decide.completed(
        {"metadata": {"resourceVersion": "1"}, "data": data}, PrivateKey.generate
    )
    assert made is not None
    assert decide.read(made).root.key.public == given["root"].public
    assert decide.completed(made, PrivateKey.generate) is None
    assert set(made["data"]) == {"root", "system", "account", *map(decide.signing, Identity)}


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("account", "oops", "no private key under 'account' (a private key is 64 hex digits"),
        ("revoked", "oops", "correct it, for without it they would be in again"),
        ("revoked", json.dumps(["UA"]), "correct it, for without it they would be in again"),
    ],
)
def test_what_somebody_broke_by_hand_is_named_and_not_repeated(
    entry: str, value: str, words: str
) -> None:
    with pytest.raises(ValueError, match="Secret fleetloop-nats-keys") as refused:
        decide.read(keys(**{entry: value}))
    assert words in str(refused.value)
    assert value not in str(refused.value)


def test_a_key_is_spelled_as_nats_spells_it() -> None:
    """As NATS's own library does."""
    nkeys: Any = importlib.import_module("nkeys")
    key = PrivateKey.generate()
    for level in Level:
        pair = nkeys.from_seed(bytearray(identity.seed(key, level).encode()))
        assert pair.public_key.decode() == identity.public(key, level)
        assert pair.sign(b"nonce").hex() == key.sign(b"nonce")[1]


def test_whose_identity_a_pod_uses_is_told_by_its_labels() -> None:
    def pod(**labels: str) -> dict[str, Any]:
        return {"metadata": {"labels": {names.Label[key].value: v for key, v in labels.items()}}}

    pods = [
        pod(JOB="job", ROLE="robot", ROBOT="job-sim-0"),
        pod(JOB="job", ROLE="learner"),
        pod(JOB="job", ROLE="gate"),
        pod(JOB="job", ROLE="clerk"),
        pod(JOB="job"),
    ]
    assert decide.leaving(pods) == {"robot.job-sim-0", "learner.job", "gate.job", "clerk.job"}
