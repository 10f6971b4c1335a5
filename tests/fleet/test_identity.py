"""Who may say and hear what, at a real nats-server: every identity × every subject × both verbs.

The table below is written by hand, in plain subjects, and knows nothing of `permissions`.
"""

import asyncio
import base64
import json
import re
import time
from functools import partial
from operator import ne
from pathlib import Path
from urllib.parse import urlsplit

import nats.errors
import pytest
from nats.js.api import ConsumerConfig, StreamConfig

from fleet_cli import setup
from fleet_cli.local import binaries
from fleet_cli.local.node.api import Json
from fleet_cli.local.pki import ensure_pki
from fleet_contract import identity, names
from fleet_contract.errors import Retry, Untrusted
from fleet_contract.identity import User
from fleet_contract.messages import Assignment
from fleet_contract.names import Identity
from fleet_contract.trust import PrivateKey
from fleet_operator import claims
from fleet_operator.decide import certificates
from fleet_operator.decide.identities import server
from fleet_operator.desired.streams import streams
from fleet_runtime.wire import Wire
from helpers.identity import ROOT, account, closed_broker, connected, made, tell, turned_away
from helpers.nats import Broker
from helpers.tls import put, shows

SPACE = "fleet-a"
U1, U2 = "11111111-aaaa", "22222222-bbbb"
WHO = {
    "r1": User(Identity.ROBOT, "r1", "ring", U1),
    "r2": User(Identity.ROBOT, "r2", "ring", U1),
    "far": User(Identity.ROBOT, "far", "other", U2),
    "learner": User(Identity.LEARNER, "ring", "ring", U1),
    "gate": User(Identity.GATE, "ring", "ring", U1),
    "clerk": User(Identity.CLERK, "ring", "ring", U1),
    "operator": User(Identity.OPERATOR, "fleetloop"),
    "reader": User(Identity.READER, "reader"),
}
BOTH = "operator reader"
# subject: who may publish | who may subscribe
CELLS = {
    # what a robot says
    "fleet.fleet-a.r1.ring.exp": "r1 |",
    "fleet.fleet-a.r1.ring.evt": "r1 | reader",
    "fleet.fleet-a.r1.ring.hb": f"r1 | {BOTH}",
    "fleet.fleet-a.r1.other.exp": "|",
    "fleet.fleet-a.r2.ring.exp": "r2 |",
    "fleet.fleet-a.r2.ring.evt": "r2 | reader",
    "fleet.fleet-a.r2.ring.hb": f"r2 | {BOTH}",
    "fleet.fleet-a.far.other.exp": "far |",
    "fleet.fleet-a.far.other.hb": f"far | {BOTH}",
    "fleet.fleet-b.r1.ring.exp": "|",
    "fleet.fleet-a.r1.ring.made-up": "|",
    # what it is told
    "fleet.fleet-a.r1.ring.receipt": "learner | r1 reader",
    "fleet.fleet-a.r2.ring.receipt": "learner | r2 reader",
    "fleet.fleet-a.far.other.receipt": "| far reader",
    "ctl.fleet-a.ring.assign": "operator | r1 r2 reader",
    "ctl.fleet-a.other.assign": "operator | far reader",
    "ctl.fleet-b.ring.assign": "|",
    "ctl.fleet-a.ring.kept": "operator | reader",
    "ctl.fleet-a.other.kept": "operator | reader",
    # what it asks for at the object store, and what it alone is granted
    "fleet.fleet-a.r1.ring.ask": "r1 | clerk",
    "fleet.fleet-a.r2.ring.ask": "r2 | clerk",
    "fleet.fleet-a.far.other.ask": "far |",
    "fleet.fleet-a.*.ring.ask": "| clerk",
    "fleet.fleet-a.r1.ring.grant": "clerk | r1",
    "fleet.fleet-a.r2.ring.grant": "clerk | r2",
    "fleet.fleet-a.far.other.grant": "| far",
    "fleet.fleet-a.*.ring.grant": "|",
    # learner and gate
    "ctl.fleet-a.ring.announce": f"learner | {BOTH}",
    "ctl.fleet-a.other.announce": f"| {BOTH}",
    "ctl.fleet-a.ring.hb": f"learner | {BOTH}",
    "ctl.fleet-a.other.hb": f"| {BOTH}",
    "ctl.fleet-a.ring.gate": f"gate | {BOTH}",
    # JetStream: messages pulled, one subject's last one, a stream's state
    f"$JS.API.CONSUMER.MSG.NEXT.fleet-{U1}-exp.learner": "learner |",
    f"$JS.API.CONSUMER.MSG.NEXT.fleet-{U2}-exp.learner": "|",
    f"$JS.ACK.fleet-{U1}-exp.learner.1.2.3.4.5": "learner |",
    f"$JS.ACK.fleet-{U2}-exp.learner.1.2.3.4.5": "|",
    f"$JS.API.DIRECT.GET.fleet-{U1}-ctl.ctl.fleet-a.ring.assign": "r1 r2 learner |",
    f"$JS.API.DIRECT.GET.fleet-{U1}-ctl.ctl.fleet-a.ring.announce": "learner |",
    f"$JS.API.DIRECT.GET.fleet-{U1}-ctl.ctl.fleet-a.ring.kept": "learner |",
    f"$JS.API.DIRECT.GET.fleet-{U2}-ctl.ctl.fleet-a.other.kept": "|",
    f"$JS.API.DIRECT.GET.fleet-{U2}-ctl.ctl.fleet-a.other.assign": "far |",
    f"$JS.API.DIRECT.GET.fleet-{U1}-receipt.fleet.fleet-a.r1.ring.receipt": "r1 |",
    f"$JS.API.DIRECT.GET.fleet-{U1}-receipt.fleet.fleet-a.r2.ring.receipt": "r2 |",
    f"$JS.API.DIRECT.GET.fleet-{U1}-exp.fleet.fleet-a.r1.ring.exp": "|",
    f"$JS.API.DIRECT.GET.fleet-{U1}-exp": "|",
    f"$JS.API.DIRECT.GET.fleet-{U1}-ctl": "|",
    f"$JS.API.STREAM.INFO.fleet-{U1}-exp": "r1 r2 learner operator |",
    f"$JS.API.STREAM.INFO.fleet-{U2}-exp": "far operator |",
    f"$JS.API.STREAM.INFO.fleet-{U1}-evt": "operator |",
    f"$JS.API.STREAM.MSG.GET.fleet-{U1}-ctl": "operator |",
    # JetStream: whoever may do these owns what is in it
    "$JS.API.STREAM.LIST": f"{BOTH} |",
    "$JS.API.STREAM.NAMES": "|",
    "$JS.API.INFO": "|",
    f"$JS.API.STREAM.CREATE.fleet-{U1}-exp": "operator |",
    f"$JS.API.STREAM.UPDATE.fleet-{U1}-exp": "operator |",
    f"$JS.API.STREAM.DELETE.fleet-{U1}-exp": "operator |",
    f"$JS.API.STREAM.PURGE.fleet-{U1}-exp": "|",
    f"$JS.API.STREAM.MSG.DELETE.fleet-{U1}-exp": "|",
    f"$JS.API.STREAM.SNAPSHOT.fleet-{U1}-exp": "|",
    f"$JS.API.STREAM.RESTORE.fleet-{U1}-exp": "|",
    f"$JS.API.CONSUMER.CREATE.fleet-{U1}-evt": "operator |",
    f"$JS.API.CONSUMER.CREATE.fleet-{U1}-exp.mine.fleet.>": "operator |",
    f"$JS.API.CONSUMER.DURABLE.CREATE.fleet-{U1}-exp.learner": "operator |",
    f"$JS.API.CONSUMER.INFO.fleet-{U1}-exp.learner": "operator |",
    f"$JS.API.CONSUMER.DELETE.fleet-{U1}-exp.learner": "operator |",
    f"$JS.API.CONSUMER.PAUSE.fleet-{U1}-exp.learner": "|",
    f"$JS.EVENT.ADVISORY.STREAM.DELETED.fleet-{U1}-exp": "| operator",
    f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.fleet-{U1}-exp.learner": "| operator",
    "$JS.FC.x": "|",
    # answers to others, and the server itself
    "_INBOX.robot.r1.x": "| r1",
    "_INBOX.robot.r2.x": "| r2",
    "_INBOX.learner.ring.x": "| learner",
    "_INBOX.gate.ring.x": "| gate",
    "_INBOX.clerk.ring.x": "| clerk",
    "_INBOX.operator.fleetloop.x": "| operator",
    "_INBOX.reader.reader.x": "| reader",
    "_INBOX.x": "|",
    "$SYS.REQ.CLAIMS.UPDATE": "|",
    "$SYS.REQ.SERVER.PING": "|",
    "$SYS.ACCOUNT.x.CONNECT": "|",
    # everything at once
    ">": "|",
    "fleet.>": "|",
    "fleet.fleet-a.*.ring.exp": "|",
    "fleet.fleet-a.*.ring.hb": f"| {BOTH}",
    "ctl.fleet-a.>": "|",
    "_INBOX.>": "|",
    "$JS.>": "|",
}


def test_no_subject_is_missing_from_the_table() -> None:
    of_jobs = {
        make(SPACE, "ring")
        for name, make in vars(names).items()
        if name.endswith("_subject") and make is not names.robot_subject
    }
    of_robots = {names.robot_subject(SPACE, "r1", "ring", one) for one in names.Channel}
    assert len(of_jobs) >= 5
    assert of_jobs | of_robots <= CELLS.keys()


def wanted(cell: str) -> tuple[set[str], set[str]]:
    says, hears = cell.split("|")
    return set(says.split()), set(hears.split())


async def refused(url: str, text: str, inbox: str) -> tuple[set[str], set[str]]:
    """The subjects on which the server lets this one neither publish nor subscribe."""
    said: list[str] = []
    async with connected(url, text, inbox, said) as client:
        for subject in CELLS:
            if not re.search(r"[*>]", subject):
                await client.publish(subject, b"")
            await client.subscribe(subject)
            for _ in range(2):  # the library's first ping overtakes what is still in its buffer
                await client.flush(30)
    pattern = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
    found = [match for one in said if (match := pattern.search(one.lower()))]
    assert len(found) == len(said), said  # it refuses for no other reason
    lower = {subject.lower(): subject for subject in CELLS}
    of = {
        verb: {lower[m[2]] for m in found if m[1] == verb} for verb in ("publish", "subscription")
    }
    return of["publish"], of["subscription"]


async def test_every_identity_may_do_on_every_subject_what_the_table_says(tmp_path: Path) -> None:
    ours, now = account(), int(time.time())
    with closed_broker(tmp_path) as broker:
        await tell(broker.url, identity.account_jwt(ours, SPACE, ROOT, now, {}))
        wrong, cells = [], 0
        for who, user in WHO.items():
            inbox = names.inbox(user.role, user.name)
            mute, deaf = await refused(broker.url, made(user, ours), inbox)
            for subject, cell in CELLS.items():
                says, hears = wanted(cell)
                if not re.search(r"[*>]", subject):
                    cells += 1
                    wrong += [(who, "pub", subject)] if (who in says) == (subject in mute) else []
                cells += 1
                wrong += [(who, "sub", subject)] if (who in hears) == (subject in deaf) else []
        assert wrong == []
        assert cells == 1312


async def test_a_roles_signing_key_makes_users_of_that_role_only(tmp_path: Path) -> None:
    ours = account()
    robots_only = ours._replace(signing=dict.fromkeys(Identity, ours.signing[Identity.ROBOT]))
    with closed_broker(tmp_path) as broker:
        await tell(broker.url, identity.account_jwt(ours, SPACE, ROOT, int(time.time()), {}))
        forged = made(WHO["operator"], robots_only)
        mute, deaf = await refused(broker.url, forged, names.inbox(Identity.OPERATOR, "fleetloop"))
        assert f"$JS.API.STREAM.DELETE.fleet-{U1}-exp" in mute
        assert "fleet.fleet-a.*.ring.hb" in deaf
        # A stranger's keys, an identity that is over, and one for another account's robots.
        assert await turned_away(broker.url, made(WHO["r1"], account()))
        assert await turned_away(broker.url, made(WHO["r1"], ours, within=-1))
        assert await turned_away(broker.url, made(WHO["r1"], ours)) == ""


async def test_another_table_counts_for_users_that_were_minted_before(tmp_path: Path) -> None:
    ours, now = account(), int(time.time())
    text, inbox = made(WHO["r1"], ours), names.inbox(Identity.ROBOT, "r1")
    with closed_broker(tmp_path) as broker:
        await tell(broker.url, identity.account_jwt(ours, "before", ROOT, now - 1, {}))
        mute, _ = await refused(broker.url, text, inbox)
        assert "fleet.fleet-a.r1.ring.exp" in mute
        await tell(broker.url, identity.account_jwt(ours, SPACE, ROOT, now, {}))
        mute, _ = await refused(broker.url, text, inbox)
        assert "fleet.fleet-a.r1.ring.exp" not in mute


async def test_a_program_comes_back_with_the_identity_that_lies_there_when_its_own_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, file = account(), tmp_path / "user.creds"
    subject = names.robot_subject(SPACE, "r1", "ring", names.Channel.HEARTBEAT)
    with closed_broker(tmp_path / "nats") as broker:
        await tell(broker.url, identity.account_jwt(ours, SPACE, ROOT, int(time.time()), {}))
        file.write_text(made(WHO["r1"], ours, within=2))
        inbox = names.inbox(Identity.ROBOT, "r1")
        wire = await Wire.connect(broker.url, "robot r1", inbox=inbox, credentials=file)
        again = asyncio.Event()
        wire.on_reconnect(again.set)
        try:
            file.write_text(made(WHO["r1"], ours))
            async with asyncio.timeout(60):
                await again.wait()
            await wire.publish(subject, b"here")
            assert not wire.closed.is_set()
            assert "expired" in caplog.text

            await wire.publish(names.assign_subject(SPACE, "ring"), b"mine now")
            with pytest.raises(Retry):  # an answer comes after whatever the server said before
                await wire.stream_state(f"fleet-{U2}-exp")
            assert wire.moved.refused == 2
            assert "refuses what this program needs" in caplog.text
        finally:
            await wire.close()
    secret = identity.passport_of(file.read_text()).key
    assert not [one for one in (secret.reveal(), file.read_text()) if one in caplog.text]


async def test_what_a_stolen_robots_credentials_can_do_and_what_they_cannot(tmp_path: Path) -> None:
    """What docs/identity.md says of them."""
    ours, inbox = account(), names.inbox(Identity.ROBOT, "r1")
    boss = names.inbox(Identity.OPERATOR, "fleetloop")
    assigned, received = names.assign_subject(SPACE, "ring"), "fleet.fleet-a.r1.ring.receipt"
    with closed_broker(tmp_path) as broker:
        await tell(broker.url, identity.account_jwt(ours, SPACE, ROOT, int(time.time()), {}))
        async with (
            connected(broker.url, made(WHO["operator"], ours), boss) as operator,
            connected(broker.url, made(WHO["learner"], ours), "_INBOX.learner.ring") as learner,
            connected(broker.url, made(WHO["r1"], ours), inbox) as thief,
            connected(broker.url, made(WHO["r2"], ours), "_INBOX.robot.r2") as victim,
        ):
            js, its = operator.jetstream(), thief.jetstream(timeout=2)
            for config in streams(SPACE, "ring", U1, "installation"):
                await js.add_stream(StreamConfig(**config))
            await js.publish(assigned, b"a document")
            await learner.jetstream().publish(received, b"a receipt")
            await victim.jetstream().publish("fleet.fleet-a.r2.ring.exp", b"an episode")
            exp, evt, receipt, ctl = (names.stream(U1, kind) for kind in names.Stream)

            # It speaks for its robot, and reads what that robot is told.
            assert (await its.publish("fleet.fleet-a.r1.ring.exp", b"forged")).seq == 2
            assert (await its.publish("fleet.fleet-a.r1.ring.evt", b"forged")).seq == 1
            assert (await its.get_last_msg(ctl, assigned, direct=True)).data == b"a document"
            assert (await its.get_last_msg(receipt, received, direct=True)).data == b"a receipt"

            # It neither reads what others sent, nor takes it away, nor speaks for anybody else.
            with pytest.raises(nats.errors.TimeoutError):
                await its.get_last_msg(exp, "fleet.fleet-a.r2.ring.exp", direct=True)
            with pytest.raises(nats.errors.TimeoutError):
                await its.add_consumer(exp, ConsumerConfig(durable_name="mine"))
            with pytest.raises(nats.errors.TimeoutError):
                await its.purge_stream(exp)
            with pytest.raises(nats.errors.TimeoutError):
                await its.delete_stream(exp)
            with pytest.raises(nats.errors.TimeoutError):
                await its.publish("fleet.fleet-a.r2.ring.evt", b"forged")
            with pytest.raises(nats.errors.TimeoutError):
                await its.publish(assigned, b"forged")

            # An answer goes where the one who asks says: it chooses the place, never the words.
            for place in (assigned, f"$JS.API.STREAM.PURGE.{exp}", f"$JS.API.STREAM.DELETE.{exp}"):
                await thief.publish("fleet.fleet-a.r1.ring.exp", b"forged", reply=place)
            for _ in range(2):
                await thief.flush()
            found = {one.config.name: one.state.messages for one in await js.streams_info()}
            assert (found[exp], found[evt], found[receipt]) == (5, 1, 1)
            last = (await js.get_last_msg(ctl, assigned)).data or b""
            assert set(json.loads(last)) == {"stream", "seq"}
            with pytest.raises(Untrusted):
                Assignment.open(last, lambda *_: None)


async def test_the_broker_of_the_dev_component_is_started_with_what_the_operator_makes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kubectl = binaries.resolve("kubectl")["kubectl"]
    items = await asyncio.to_thread(setup.manifests, kubectl, SPACE, [setup.DEV])
    told = {item["metadata"]["name"]: item for item in items if item["kind"] == "ConfigMap"}
    told[names.NATS_SERVER] = server(ROOT, int(time.time()))
    (broker,) = (
        item
        for item in items
        if item["metadata"]["name"] == "nats" and "spec" in item and item["kind"] == "StatefulSet"
    )
    url, now, make = setup.is_told(items, names.Env.NATS_URL), int(time.time()), PrivateKey.generate
    called = certificates.hosts(url, SPACE, "")
    shown = certificates.wanted(certificates.Found(), SPACE, called, None, now, make)
    told |= {one["metadata"]["name"]: one for one in shown.writes}
    volumes = {one["name"]: one for one in broker["spec"]["template"]["spec"]["volumes"]}
    for source in volumes["config"]["projected"]["sources"]:
        for file, content in files(source, told).items():
            mine = content.replace("/data", str(tmp_path / "data"))
            mine = mine.replace("/etc/nats", str(tmp_path))
            (tmp_path / file).write_text(re.sub(r"((listen|http): .*)|store_dir: \S+", "", mine))
    ours, who = account(), make()
    passport = identity.Passport(identity.administrator_jwt(who, ROOT, now, now + 60), who)
    with Broker(tmp_path / "store", "-c", str(tmp_path / "nats.conf")) as running:
        at = running.url.replace("nats", urlsplit(url).scheme)
        text, believed = identity.account_jwt(ours, SPACE, ROOT, now, {}), shown.authorities
        await claims.tell(at, passport, text, authorities=believed)
        assert await turned_away(at, made(WHO["r1"], ours), believed) == ""
        assert await turned_away(at, made(WHO["r1"], account()), believed)

        # Told by the operator, it takes another certificate without being started anew.
        shown = certificates.wanted(certificates.Found(), SPACE, called, None, now, make)
        for one in shown.writes:
            if one["metadata"]["name"] == names.NATS_TLS:
                for file, content in one["data"].items():
                    (tmp_path / file).write_bytes(base64.b64decode(content))
        stale = partial(ne, shown.leaf)
        await claims.tell(at, passport, text, authorities=believed, stale=stale)
        await asyncio.wait_for(shows(running, shown.leaf or b""), 30)
        assert await turned_away(at, made(WHO["r1"], ours), shown.authorities) == ""

        # Where it cannot, it shows what it has, and nobody waits for it.
        put(tmp_path / "tls.crt", "rubbish")
        known = shown.authorities
        await claims.tell(at, passport, text, authorities=known, stale=lambda _: True)
        assert "does not read its files anew" in caplog.text
        assert await turned_away(at, made(WHO["r1"], ours), known) == ""
    assert list((tmp_path / "data" / "accounts").glob("*.jwt"))
    assert setup.is_told(items, names.Env.NATS_ACCOUNTS) == "true"
    assert setup.is_told(items, names.Env.NATS_TLS) == "true"


def files(source: Json, told: Json) -> dict[str, str]:
    """What a source of a projected volume puts there."""
    if "configMap" in source:
        found: dict[str, str] = told[source["configMap"]["name"]]["data"]
        return found
    data = told[source["secret"]["name"]]["data"]
    return {
        item["path"]: base64.b64decode(data[item["key"]]).decode()
        for item in source["secret"]["items"]
    }


async def test_over_tls_nobody_is_told_anything_whom_the_robot_cannot_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a site's own authority, named by the variable that OpenSSL reads."""
    ours, pki = account(), ensure_pki(tmp_path / "pki")
    file = tmp_path / "user.creds"
    file.write_text(made(WHO["r1"], ours))
    tls = f'tls {{ cert_file: "{pki.cert}", key_file: "{pki.key}" }}\n'
    with closed_broker(tmp_path / "nats", more=tls) as broker:
        url = broker.url.replace("nats:", "tls:")
        now, key = int(time.time()), PrivateKey.generate()
        administrator = identity.administrator_jwt(key, ROOT, now, now + 60)
        passport = identity.Passport(administrator, key)
        token = identity.account_jwt(ours, SPACE, ROOT, now, {})
        with pytest.raises(Retry, match="signed by nobody we know"):
            await claims.tell(url, passport, token)
        monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))
        await claims.tell(url, passport, token)
        inbox = names.inbox(Identity.ROBOT, "r1")
        wire = await Wire.connect(url, "robot r1", inbox=inbox, credentials=file)
        try:
            assert await wire.stream_state(f"fleet-{U1}-exp") is None
        finally:
            await wire.close()
