"""Robots without a key at a real S3 server, let in one request at a time by the real clerk."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from fleet.test_agent import Ground, running
from fleet_cli.local.ports import LOOPBACK, free_ports
from fleet_contract import metrics as m
from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.errors import Reject, Retry
from fleet_contract.identity import User, account_jwt
from fleet_contract.messages import Ask, Grant, digest_of
from fleet_contract.resources.learning import Task
from fleet_runtime.artifacts import Missing, Store
from fleet_runtime.clerk import desk as desks
from fleet_runtime.clerk import pace
from fleet_runtime.clerk.desk import Desk
from fleet_runtime.clerk.main import serve
from fleet_runtime.clerk.pace import BURST, RATE, Pace, TooOften
from fleet_runtime.experience import codec
from fleet_runtime.learner import epoch
from fleet_runtime.learner.admission import Resend, Strikes, fetch_payload
from fleet_runtime.robot import granted, uploader
from fleet_runtime.robot.granted import Clerk, Granted
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.parts import Parts
from fleet_runtime.settings import ClerkSettings, RobotSettings
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.identity import ROOT, account, closed_broker, made, tell
from helpers.nats import Broker, connect, make_streams
from helpers.prometheus import linted, scraped
from helpers.records import draft
from helpers.s3 import REGION, ObjectServer, running_object_server
from helpers.world import TASKS, assignment, publish

UID = "uid-1"
LARGE = bytes(range(256)) * 16384  # 4 MiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running_object_server(tmp_path_factory.mktemp("s3") / "objects") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the store's is in this process' environment: a robot's has nothing either."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A robot asks again; these ask once, and on a busy machine an answer may take its time."""
    monkeypatch.setattr(granted, "ANSWER_WITHIN", 60.0)


@pytest.fixture
def store(server: ObjectServer, tmp_path: Path) -> Store:
    """With keys, as learner and clerk have it; each test's own part of the bucket."""
    return Store(
        f"{server.url}/{tmp_path.name}",
        key=server.access,
        secret=server.secret,
        client_kwargs={"endpoint_url": server.endpoint, "region_name": REGION},
    )


@asynccontextmanager
async def clerk(broker: Broker, store: Store, metrics_port: int = 0) -> AsyncIterator[None]:
    settings = ClerkSettings(
        job="job",
        job_uid=UID,
        nats_url=broker.url,
        storage_url=store.url,
        metrics_port=metrics_port,
    )
    working = asyncio.create_task(serve(settings, store))
    try:
        await _answered(broker)
        yield
    finally:
        working.cancel()
        await asyncio.wait([working])


async def _answered(broker: Broker, robot: str = "probe") -> None:
    """Returns when somebody answers; what was asked before he listened is lost."""
    client = await connect(broker.url)
    try:
        heard = await client.subscribe(f"fleet.default.{robot}.job.grant")
        async with asyncio.timeout(60):
            while True:
                await client.publish(
                    f"fleet.default.{robot}.job.ask", Ask(id="1", job_uid="").encode()
                )
                with contextlib.suppress(nats.errors.TimeoutError):
                    await heard.next_msg(0.2)
                    return
    finally:
        await client.close()


@asynccontextmanager
async def robot(broker: Broker, store: Store, name: str = "r0") -> AsyncIterator[Granted]:
    wire = await Wire.connect(broker.url, name)
    try:
        asks = Clerk(Identity("default", name, f"{name}-uid", "job", UID), wire)
        await asks.listen()
        ours = Granted(store.url, name)
        ours.connect(asks)
        yield ours
    finally:
        await wire.close()


@dataclasses.dataclass
class Thief:
    """One robot's grants, used for what they were not meant for."""

    desk: Desk
    name: str

    def put(self, data: bytes, digest: str = "") -> Grant:
        asked = Ask(id="1", job_uid=UID, digest=digest or digest_of(data), size=len(data))
        return self.desk.grant(self.name, asked)

    def get(self, key: str) -> Grant:
        return self.desk.grant(self.name, Ask(id="1", job_uid=UID, key=key))


def request(url: str, method: str = "GET", data: bytes | None = None, **headers: str) -> int:
    """The store's answer to a request by hand."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = urllib.request.Request(url, data, said, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as fault:
        with fault:
            return fault.code


async def test_a_robot_without_keys_takes_its_policy_and_sends_large_episodes(
    broker: Broker,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """First nobody lets it in: it says so, keeps what it has, and goes on when somebody does."""
    caplog.set_level(logging.DEBUG, "fleet_runtime")
    monkeypatch.setattr(uploader, "INLINE_MAX", 64)
    monkeypatch.setattr(granted, "ANSWER_WITHIN", 0.5)
    settings = RobotSettings(
        namespace="default",
        job="job",
        job_uid=UID,
        nats_url=broker.url,
        storage_url=store.url,
        storage_grants=True,
        robot="r0",
        robot_uid="robot-uid",
        spool_dir=tmp_path / "spool",
        trust_dir=keys.trust(tmp_path / "trust"),
        resync_seconds=0.3,
        spec=RobotConfig(
            tasks=[Task(name=name) for name in TASKS], control_hz=100.0, time_scale=2.0
        ),
    )
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "ground")
    ground = Ground(wire, store, settings)
    await ground.listen()
    try:
        async with running(settings):
            await ground.assign(assignment(1, publish(store, 1)))
            await ground.until(lambda: "lets this robot into" in _fault(ground), 60)
            async with clerk(broker, store):
                await ground.until(lambda: ground.runs(1), 60)
                await _taken(ground, 2)
                records = list(ground.learner.records.values())
                for record, inline in records:
                    assert inline == b""
                    assert record.uri == names.payload_key(UID, record.digest, "r0")
                    payload = fetch_payload(store, record, inline, Strikes())
                    assert codec.decode(payload).robot == "r0"
            # The clerk has gone: the policy drives on, and episodes wait on the disk.
            ended = len(ground.events)
            await ground.assign(assignment(2, publish(store, 2)))
            await ground.until(lambda: "lets this robot into" in _fault(ground), 60)
            await ground.until(lambda: len(ground.events) > ended + 1, 60)
            async with clerk(broker, store):
                await ground.until(lambda: ground.runs(2), 60)
                await _taken(ground, len(ground.learner.records) + 2)
    finally:
        await wire.close()
    assert not logging.getLogger("botocore.auth").isEnabledFor(logging.DEBUG)
    told = caplog.text + "".join(event.model_dump_json() for event in ground.events)
    assert "upload waits: nobody lets this robot into the store" in told
    assert not re.search(r"(?i)x-amz-sig|credential=", told)
    assert not [name for name in os.environ if name.startswith("AWS_")]


def _fault(ground: Ground) -> str:
    return (ground.heartbeat.policy_fault or "") if ground.heartbeat else ""


async def _taken(ground: Ground, count: int) -> None:
    async with asyncio.timeout(60):
        while len(ground.learner.records) < count:
            await ground.learner.take()


async def test_a_large_file_comes_in_pieces_and_goes_on_with_another_grant_and_another_program(
    broker: Broker, store: Store, tmp_path: Path
) -> None:
    digest = digest_of(LARGE)
    key = names.blob_key(UID, digest)
    store.create(key, LARGE)
    came: list[int] = []

    def cut(count: int) -> None:
        came.append(count)
        if len(came) == 2:
            raise Retry("the program ends here")

    def fetch(ours: Granted, parts: Parts) -> bytes:
        parts._piece = 2**20
        return parts.fetch(ours, key, digest, len(LARGE), cut)

    async with clerk(broker, store), robot(broker, store) as ours:
        with pytest.raises(Retry, match="the program ends here"):
            await asyncio.to_thread(fetch, ours, Parts(tmp_path / "parts"))
        over = store.sign_get(key, 1.0).url
        async with asyncio.timeout(60):
            while await asyncio.to_thread(request, over) != 403:
                pass
        ours._reads[key] = Grant(id="1", key=key, url=over)
        whole = await asyncio.to_thread(fetch, ours, Parts(tmp_path / "parts"))
        assert whole == LARGE
        assert ours._reads[key].url != over
        assert sum(came) == len(LARGE) + came[1]  # no piece twice but the one that was cut
        assert await asyncio.to_thread(ours.read, key, len(LARGE), len(LARGE) + 9) == b""
        with pytest.raises(Missing):
            await asyncio.to_thread(ours.get, names.version_key(UID, 7))
        with pytest.raises(Reject):
            await asyncio.to_thread(lambda: ours.get(key, max_bytes=100))


async def test_one_that_reaches_the_store_elsewhere_says_the_name_that_was_signed(
    broker: Broker, store: Store, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = names.blob_key(UID, digest_of(b"x"))
    store.create(key, b"x")
    inside = Store(
        store.url,
        key=server.access,
        secret=server.secret,
        client_kwargs={"endpoint_url": "http://store.fleetloop:7070", "region_name": REGION},
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint.replace(LOOPBACK, "localhost"))
    # It cannot be reached from here.
    async with clerk(broker, inside), robot(broker, store) as ours:
        assert await asyncio.to_thread(ours.get, key) == b"x"


def test_a_grant_to_put_is_for_these_bytes_at_this_place_once_and_soon(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = b"an episode" * 100, b"something!" * 100
    mine = names.payload_key(UID, digest_of(data), "r1")
    desk = Desk(store, UID)
    thief = Thief(desk, "r1")
    grant = thief.put(data)
    url, said = grant.url, grant.headers
    theirs = Thief(desk, "r2").put(other).headers
    assert grant.key == mine

    assert request(url, "PUT", other, **said) == 400  # other bytes
    assert request(url, "PUT", other, **theirs) == 403  # with their own digest
    assert request(url, "PUT", data[1:], **said) == 403  # other length
    assert request(url, "PUT", data) == 403  # no condition, no digest
    assert request(url, "PUT", data, **said | {"If-None-Match": '"x"'}) == 403
    assert request(url.replace("/r1/", "/r2/"), "PUT", data, **said) == 403
    assert request(url.replace("/payload/r1/", "/blobs/"), "PUT", data, **said) == 403
    assert request(url) == request(url, "DELETE") == request(url, "HEAD") == 403
    assert request(url.split("?")[0]) == request(url.split("?")[0], "PUT", data) == 403
    assert store.list("jobs") == []

    with monkeypatch.context() as soon:
        soon.setattr(desks, "WRITE_WITHIN", 1.0)
        late = thief.put(data)
    began = time.monotonic()
    while request(late.url, "PUT", other, **late.headers) == 400:  # 403 when it is over
        assert time.monotonic() < began + 30
    assert request(late.url, "PUT", data, **late.headers) == 403
    assert store.list("jobs") == []

    assert request(url, "PUT", data, **said) == 200
    assert request(url, "PUT", data, **said) == 412  # nothing is ever overwritten
    again = thief.put(data)
    assert request(again.url, "PUT", data, **again.headers) == 412
    # A lie about the digest is one about the bytes.
    lie = thief.put(other, digest=digest_of(b"of something else" * 60))
    assert request(lie.url, "PUT", other, **lie.headers) == 400
    assert store.list("jobs") == [mine]
    assert store.get(mine) == data


# By prefix of the bucket, what a robot r1 of this job may do there: everybody else's rights are the
# same with another name. Learner, gates and clerk have keys, and may do all.
MAY = {
    f"jobs/{UID}/versions/000000000001.json": "get",
    f"jobs/{UID}/blobs/sha256-x": "get",
    f"jobs/{UID}/payload/r1/{{name}}": "put",
    f"jobs/{UID}/payload/r2/{{name}}": "",
    f"jobs/{UID}/payload/{{name}}": "",
    f"jobs/{UID}/journal/000000000001": "",
    f"jobs/{UID}/bases/000000000001": "",
    f"jobs/{UID}/checkpoints/000000000001": "",
    f"jobs/{UID}/epochs/000000000001": "",
    f"jobs/{UID}/quarantine/{{name}}": "",
    f"jobs/{UID}/probe-x": "",
    f"jobs/{UID}/versionsx": "",
    f"jobs/{UID}/versions/../journal/000000000001": "",
    "jobs/uid-2/versions/000000000001.json": "",
    "jobs/uid-2/payload/r1/{name}": "",
    "datasets/demos/episode-0": "",
    "jobs": "",
    "": "",
}
VERBS = ("get", "put", "delete")


@pytest.mark.parametrize("who", ["r1", "r2"])
def test_every_robot_may_do_at_every_prefix_what_the_table_says(store: Store, who: str) -> None:
    """By the clerk's word, and with its own grants used for another object."""
    thief = Thief(Desk(store, UID), who)
    data = f"of {who}".encode() * 9
    name = digest_of(data).replace(":", "-")
    swapped = {"r1": "r2", "r2": "r1"}
    get = thief.get(f"jobs/{UID}/blobs/sha256-mine")
    put = thief.put(data)
    keys_ = [pattern.format(name=name) for pattern in MAY]
    if who == "r2":
        keys_ = [re.sub("r[12]/", lambda m: f"{swapped[m[0][:2]]}/", key) for key in keys_]
    theirs = [key for key in keys_ if key not in {put.key, "jobs", ""} and ".." not in key]
    for key in theirs:
        store.create(key, b"theirs")
    wrong = []
    for key, may in zip(keys_, MAY.values(), strict=True):
        allowed = set()
        with contextlib.suppress(Reject):
            allowed = {"get"} if request(thief.get(key).url) == 200 else set()
        for grant, verb in ((get, "GET"), (put, "PUT"), (get, "DELETE"), (put, "DELETE")):
            body = data if verb == "PUT" else None
            url = grant.url.replace(grant.key, key)
            if key and request(url, verb, body, **grant.headers) not in (400, 403):
                allowed.add(verb.lower())
        wrong += [(who, verb, key) for verb in VERBS if (verb in allowed) != (verb == may)]
    assert wrong == []
    assert {store.get(key) for key in theirs} == {b"theirs"}
    assert store.get(put.key) == data


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (Ask(id="1", job_uid="uid-2", key="jobs/uid-2/blobs/x"), "job uid-2 is asked for"),
        (Ask(id="1", job_uid=UID, key=f"jobs/{UID}/journal/1"), "none of what job uid-1"),
        (Ask(id="1", job_uid=UID, digest=digest_of(b""), size=0), "0 bytes"),
        (Ask(id="1", job_uid=UID, digest=digest_of(b""), size=2**40), "bytes, from 1 to"),
    ],
)
async def test_what_a_robot_may_not_have_is_refused_in_words_and_the_next_one_is_answered(
    broker: Broker, store: Store, ask: Ask, why: str
) -> None:
    with pytest.raises(Reject, match=why):
        Desk(store, UID).grant("r0", ask)
    store.create(names.blob_key(UID, digest_of(b"x")), b"x")
    async with clerk(broker, store), robot(broker, store) as ours:
        wire = await Wire.connect(broker.url, "garbage")
        for garbage in (b"", b"{", b'{"id": 1}'):
            await wire.publish("fleet.default.r0.job.ask", garbage)
            await wire.publish("fleet.default.r0.job.grant", garbage)
        await wire.close()
        assert await asyncio.to_thread(ours.get, names.blob_key(UID, digest_of(b"x"))) == b"x"
        with pytest.raises(Retry, match="clerk does not let this robot into the store"):
            await asyncio.to_thread(ours.get, f"jobs/{UID}/journal/1")


def test_each_robot_has_a_pace_of_its_own_and_is_heard_again_when_it_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "REMEMBERED", 3)
    now = 0.0
    paces = Pace(lambda: now)

    def asks(robot: str, times: int) -> list[bool]:
        """Of each that was refused, whether that was news."""
        news = []
        for _ in range(times):
            try:
                paces.demand(robot)
            except TooOften as fault:
                news.append(fault.news)
        return news

    assert asks("r0", BURST) == []
    assert asks("r0", 3) == [True, False, False]
    assert asks("r1", 1) == []
    now = 1.0
    assert asks("r0", int(RATE) + 2) == [True, False]
    now = 1.0 + 0.9 / RATE
    assert asks("r0", 1) == [False]
    now = 1000.0
    assert asks("r0", BURST + 1) == [True]  # nothing is saved up beyond that
    for number in range(3):
        asks(f"stranger-{number}", 1)
    assert len(paces._left) == 3


async def test_who_asks_too_often_is_told_so_and_counted_and_its_neighbour_is_served(
    broker: Broker,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pace, "RATE", 0.001)
    key, port = names.blob_key(UID, digest_of(b"x")), free_ports(["metrics"])["metrics"]
    store.create(key, b"x")
    async with (
        clerk(broker, store, port),
        robot(broker, store, "r0") as greedy,
        robot(broker, store, "r1") as neighbour,
    ):
        asks = greedy._clerk
        assert asks is not None
        found = await asyncio.gather(
            *(asks.ask(key=key) for _ in range(BURST + 50)), return_exceptions=True
        )
        assert await asyncio.to_thread(neighbour.get, key) == b"x"
        with pytest.raises(Retry, match="clerk does not let this robot"):
            await asyncio.to_thread(neighbour.get, f"jobs/{UID}/journal/1")
        text = await scraped(f"{LOOPBACK}:{port}")
    assert await linted(text) == ""
    assert sum(isinstance(one, Grant) for one in found) == BURST
    (told,) = {str(one) for one in found if not isinstance(one, Grant)}
    assert told.endswith("let this robot into the store: it asks more than 0.001 times a second")
    whose = 'job="job",namespace="default"'
    for result, count in {"granted": BURST + 1, "too-often": 50, "unavailable": 0}.items():
        assert f'{m.GRANTS.name}{{{whose},result="{result}",verb="get"}} {count}.0\n' in text
    refused = int(re.findall(r'result="refused",verb="get"} (\d+)', text)[0])  # probes, too
    assert refused >= 2
    asked = BURST + 1 + 50 + refused
    assert f"{m.GRANT_SECONDS.name}_count{{{whose}}} {asked}.0\n" in text
    assert caplog.text.count("robot r0 is let into nothing") == 1


async def test_the_learner_removes_what_is_not_what_its_name_says(store: Store) -> None:
    """A robot without keys could put nothing in its place."""
    data = b"an episode"
    record = draft(data, "e1").model_copy(
        update={"uri": names.payload_key(UID, digest_of(data), "r0"), "robot": "r0"}
    )
    assert record.uri is not None
    store.create(record.uri, b"a garbled!")
    with pytest.raises(Resend):
        fetch_payload(store, record, b"", Strikes())
    store.create(record.uri, data)
    assert fetch_payload(store, record, b"", Strikes()) == data


def test_a_learner_that_would_refuse_granted_episodes_is_sent_none(store: Store) -> None:
    """It is of before there were grants: what it refuses is gone from the robot's disk."""
    thief, data = Thief(Desk(store, UID), "r0"), b"an episode"
    assert thief.put(data).url  # nobody was here yet
    store.create(names.epoch_key(UID, 1), b'{"epoch": 1, "holder": "old", "address": ""}')
    with pytest.raises(Retry, match="learner of epoch 1 is older than grants"):
        thief.put(data)
    assert thief.get(names.blob_key(UID, digest_of(data))).url
    assert epoch.claim(store, UID, "new") == 2
    assert thief.put(data).url


async def test_at_a_broker_with_accounts_nobody_asks_in_anothers_name_or_hears_what_he_is_granted(
    store: Store, tmp_path: Path
) -> None:
    """The real programs with the identities that the operator mints."""
    ours, key = account(), names.blob_key(UID, digest_of(b"x"))
    store.create(key, b"x")
    said: list[str] = []

    def identity(role: names.Identity, name: str) -> Path:
        file = tmp_path / f"{name}.creds"
        file.write_text(made(User(role, name, "job", UID), ours))
        return file

    async def come(name: str) -> Wire:
        file, inbox = identity(names.Identity.ROBOT, name), names.inbox(names.Identity.ROBOT, name)
        return await Wire.connect(broker.url, name, inbox=inbox, credentials=file)

    with closed_broker(tmp_path / "nats") as broker:
        await tell(broker.url, account_jwt(ours, "default", ROOT, int(time.time()), {}))
        settings = ClerkSettings(
            job="job",
            job_uid=UID,
            nats_url=broker.url,
            storage_url=store.url,
            nats_credentials=identity(names.Identity.CLERK, "job"),
        )
        working = asyncio.create_task(serve(settings, store))
        r1, r2 = await come("r1"), await come("r2")
        try:
            asks = Clerk(Identity("default", "r1", "r1-uid", "job", UID), r1)
            await asks.listen()
            robot = Granted(store.url, "r1")
            robot.connect(asks)
            async with asyncio.timeout(60):
                while True:  # what is asked before the clerk listens is lost
                    with contextlib.suppress(Retry):
                        assert await asyncio.to_thread(robot.get, key) == b"x"
                        break

            async def overhear(_subject: str, data: bytes) -> None:
                said.append(data.decode())

            await r2.subscribe("fleet.default.r1.job.grant", overhear)
            await r2.subscribe("fleet.default.*.job.grant", overhear)
            await r2.publish("fleet.default.r1.job.ask", Ask(id="1", job_uid=UID, key=key).encode())
            await r2.publish("fleet.default.r1.job.grant", Grant(id="1", url="http://x").encode())
            with pytest.raises(Retry):  # an answer comes after whatever the server said before
                await r2.stream_state("fleet-another-exp")
            assert r2.moved.refused == 5
            assert await asks.ask(key=key)
            assert said == []
        finally:
            await r1.close()
            await r2.close()
            working.cancel()
            await asyncio.wait([working])


@pytest.mark.parametrize(
    "grant",
    [
        {"url": ""},
        {"url": "file:///etc/passwd"},
        {"url": "http://[::1"},
        {"url": "http://127.0.0.1:1/x y"},
        {"url": "http://127.0.0.1:1/x?X-Amz-Signature=5f2eab"},
        {"url": "http://127.0.0.1:1/", "headers": {"a\n": "b"}},
        {"url": "http://127.0.0.1:1/", "key": "jobs/uid-1/blobs/another"},
    ],
)
async def test_a_grant_that_leads_nowhere_costs_a_robot_nothing_but_another_try(
    broker: Broker, store: Store, grant: dict[str, Any]
) -> None:
    """Where NATS has no accounts anybody may answer."""
    key = names.payload_key(UID, digest_of(b"x"), "r0")
    wire = await Wire.connect(broker.url, "forger")

    async def answer(_subject: str, data: bytes) -> None:
        forged = Grant(**{"id": Ask.decode(data).id, "key": key} | grant)
        await wire.publish("fleet.default.r0.job.grant", forged.encode())

    await wire.subscribe("fleet.default.r0.job.ask", answer)
    await _answered(broker, "r0")
    try:
        async with robot(broker, store) as ours:
            for work in (lambda: ours.get(key), lambda: ours.create(key, b"x")):
                with pytest.raises(Retry) as fault:
                    await asyncio.to_thread(work)
                assert "5f2eab" not in str(fault.value)
    finally:
        await wire.close()
