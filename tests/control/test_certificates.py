"""What a broker shows and whose signature is taken, as decisions."""

import base64
import copy
from typing import Any

import pytest

from fleet_contract import names
from fleet_contract.trust import PrivateKey
from fleet_operator.decide import certificates as decide
from fleet_operator.decide import x509
from fleet_operator.decide.certificates import DAY, SERVES, SIGNS, Found, Wanted
from fleet_operator.decide.x509 import Certificate

NOW = 1_800_000_000
CALLED = ["nats", "nats.fleet", "localhost"]
Object = dict[str, Any]


class Namespace:
    """The three objects, and what the server showed last."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.shown: bytes | None = None
        self.now = NOW
        self.called = CALLED

    @property
    def found(self) -> Found:
        order = (names.NATS_AUTHORITY, names.NATS_CA, names.NATS_TLS)
        return Found(*(copy.deepcopy(self.objects.get(name)) for name in order))

    def turn(self) -> Wanted:
        """Decide, and write it."""
        wanted = decide.wanted(
            self.found, "fleet", self.called, self.shown, self.now, PrivateKey.generate
        )
        for one in wanted.writes:
            version = {"resourceVersion": str(len(one["metadata"]))}
            self.objects[one["metadata"]["name"]] = one | {"metadata": one["metadata"] | version}
        return wanted

    def entry(self, name: str, entry: str) -> str:
        return base64.b64decode(self.objects[name]["data"][entry]).decode()

    @property
    def leaf(self) -> Certificate:
        (found,) = x509.read(self.entry(names.NATS_TLS, decide.CERTIFICATE))
        return found

    @property
    def believed(self) -> list[Certificate]:
        return x509.read(self.objects[names.NATS_CA]["data"][names.CA])


@pytest.fixture
def space() -> Namespace:
    made = Namespace()
    made.turn()
    made.shown = made.leaf.der
    return made


def kinds(wanted: Wanted) -> list[str]:
    return [one["metadata"]["name"] for one in wanted.writes]


def test_an_empty_namespace_gets_all_of_it_in_the_order_that_leaves_nobody_out() -> None:
    wanted = Namespace().turn()
    assert kinds(wanted) == [names.NATS_AUTHORITY, names.NATS_CA, names.NATS_TLS]
    assert wanted.leaf is not None


def test_two_are_believed_and_one_signs(space: Namespace) -> None:
    present, following = space.believed
    assert space.leaf.issuer == present.subject != following.subject
    assert space.leaf.serves(CALLED)
    assert space.objects[names.NATS_TLS]["type"] == "kubernetes.io/tls"
    assert space.entry(names.NATS_TLS, names.CA) == present.pem


def test_what_is_good_is_left_alone(space: Namespace) -> None:
    space.now += int(0.49 * SERVES)
    assert space.turn().writes == []


def test_at_half_of_its_time_the_server_gets_another_of_the_same_authority(
    space: Namespace,
) -> None:
    before, authorities = space.leaf, space.believed
    space.now += int(0.51 * SERVES)
    assert kinds(space.turn()) == [names.NATS_TLS]
    assert space.leaf.ends > before.ends
    assert space.believed == authorities


def test_a_further_name_makes_another(space: Namespace) -> None:
    space.called = [*CALLED, "nats.example"]
    assert kinds(space.turn()) == [names.NATS_TLS]
    assert space.leaf.serves(space.called)


def test_the_next_authority_follows_one_that_was_taken_away_and_both_are_believed_until_seen(
    space: Namespace,
) -> None:
    before, following = space.believed
    del space.objects[names.NATS_AUTHORITY]["data"][decide.PRESENT]
    space.turn()
    assert space.leaf.issuer == following.subject
    assert space.believed[0] == following
    assert before in space.believed  # the server shows the old leaf yet
    assert len(space.believed) == 3
    assert space.turn().writes == []
    space.shown = space.leaf.der
    assert kinds(space.turn()) == [names.NATS_CA]
    assert before not in space.believed
    assert len(space.believed) == 2


def test_an_authority_that_could_not_outlive_a_certificate_is_followed_by_itself(
    space: Namespace,
) -> None:
    first, second = space.believed
    space.now += SIGNS - SERVES + DAY
    space.turn()
    assert space.leaf.issuer == second.subject
    assert space.leaf.ends <= second.ends
    assert first in space.believed
    space.shown = space.leaf.der
    for _ in range(3):  # the second one is as old: it follows, too, and then there is rest
        space.turn()
        space.shown = space.leaf.der
    assert space.turn().writes == []
    assert all(one.ends - space.now > SERVES for one in space.believed[:1])


def test_keys_that_are_no_keys_are_told_in_words(space: Namespace) -> None:
    space.objects[names.NATS_AUTHORITY]["data"][decide.PRESENT] = "bm8="
    with pytest.raises(ValueError, match="delete the entry"):
        space.turn()


def test_a_lost_configmap_is_made_again_and_the_server_keeps_its_certificate(
    space: Namespace,
) -> None:
    before = space.leaf
    del space.objects[names.NATS_CA]
    assert kinds(space.turn()) == [names.NATS_CA]
    assert space.leaf == before
    assert space.leaf.issuer == space.believed[0].subject


def given(key: PrivateKey, marks: Object, *, signer: bool = True) -> tuple[Object, Certificate]:
    """A Secret as cert-manager makes it, and who signed what is in it."""
    authority = x509.authority(key, "somebody", NOW, NOW + SIGNS)
    own = PrivateKey.generate()
    leaf = x509.server(own, ["nats"], key, authority, NOW, NOW + SERVES)
    files = {decide.CERTIFICATE: leaf.pem, decide.KEY: x509.private(own)}
    files |= {names.CA: authority.pem} if signer else {}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return {"metadata": {"name": names.NATS_TLS, "resourceVersion": "7"} | marks, "data": data}, (
        authority
    )


CERT_MANAGER = {
    "labels": {"app.kubernetes.io/managed-by": names.FIELD_MANAGER},
    "annotations": {"cert-manager.io/certificate-name": "nats"},
}


@pytest.mark.parametrize("marks", [{}, CERT_MANAGER], ids=["a person's", "taken over"])
def test_a_certificate_of_somebody_elses_is_left_alone_and_its_signer_is_told(
    marks: Object,
) -> None:
    space = Namespace()
    secret, signer = given(PrivateKey.generate(), marks)
    space.objects[names.NATS_TLS] = secret
    wanted = space.turn()
    assert kinds(wanted) == [names.NATS_CA]
    assert space.believed == [signer]
    assert wanted.authorities == signer.pem
    space.shown = wanted.leaf
    assert space.turn().writes == []

    # Signed by another one later: the first is believed until the server shows the new one.
    secret, second = given(PrivateKey.generate(), marks)
    space.objects[names.NATS_TLS] = secret
    space.turn()
    assert space.believed == [second, signer]
    space.shown = decide.wanted(space.found, "fleet", CALLED, None, NOW, PrivateKey.generate).leaf
    space.turn()
    assert space.believed == [second]


def test_one_of_an_authority_that_machines_know_needs_nothing_told() -> None:
    space = Namespace()
    space.objects[names.NATS_TLS], _ = given(PrivateKey.generate(), {}, signer=False)
    wanted = space.turn()
    assert (wanted.writes, wanted.authorities) == ([], "")


def test_a_configmap_of_a_persons_is_left_alone_and_taken() -> None:
    space = Namespace()
    theirs = {
        "metadata": {"name": names.NATS_CA, "resourceVersion": "1"},
        "data": {"ca.crt": "PEM"},
    }
    space.objects[names.NATS_CA] = theirs
    wanted = space.turn()
    assert names.NATS_CA not in kinds(wanted)
    assert wanted.authorities == "PEM"


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("tls://nats:4222", "", ["nats", "nats.ns", "nats.ns.svc", "nats.ns.svc.cluster.local"]),
        ("tls://nats.data:4222", "", ["nats.data"]),
        (
            "tls://10.0.0.1:4222",
            "fleet.example, b.example",
            ["10.0.0.1", "fleet.example", "b.example"],
        ),
        ("tls://a.x:1,tls://b:2", "c", ["a.x", "b", "c"]),
    ],
)
def test_a_server_is_called_by_its_address_and_what_somebody_added(
    url: str, more: str, expected: list[str]
) -> None:
    assert decide.hosts(url, "ns", more) == [*expected, "localhost", "127.0.0.1"]
