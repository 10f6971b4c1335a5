"""Ingest: every record gets one verdict, once, whatever comes beside it, again, or in disorder."""

import asyncio
import contextlib
import dataclasses
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_contract import metrics as m
from fleet_contract import names
from fleet_contract.errors import RejectCode
from fleet_contract.messages import Receipt, Record, digest_of
from fleet_contract.messages.experience import canonical_header
from fleet_contract.names import Channel
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.learner import ingest as ingesting
from fleet_runtime.learner import intake
from fleet_runtime.learner.admission import STRIKES, Rules
from fleet_runtime.learner.handoff import Admitted, Handoff
from fleet_runtime.learner.ingest import Ingest
from fleet_runtime.learner.intake import Intake, absorb
from fleet_runtime.learner.journal import Entry, Journal
from fleet_runtime.learner.library import Library
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.receipts import Ledger
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.wire import Delivery, Wire
from helpers.learner import (
    JOB,
    JOB_UID,
    NAMESPACE,
    TASKS,
    entry,
    episode,
    experience_subject,
    listening,
    message,
    record,
)
from helpers.nats import Broker, make_streams, running_broker

RECEIPTS = names.robot_subject(NAMESPACE, "ada", JOB, Channel.RECEIPT)


@dataclasses.dataclass
class Bench:
    """One learner's ingest with its surroundings in reach."""

    store: Store
    epoch: int = 1

    def __post_init__(self) -> None:
        self.journal = Journal(self.store, JOB_UID, self.epoch)
        self.ledger = Ledger()
        self.library = Library(self.journal)
        self.rules = Rules(JOB_UID, frozenset(TASKS), observation_size=6, action_size=2)
        self.handoff = Handoff()
        self.progress = Progress()
        self.metrics = LearnerMetrics(NAMESPACE, JOB)
        for segment in self.journal.replay():
            absorb(segment, self.ledger, self.library)

    def ingest(self, wire: Wire) -> Ingest:
        return Ingest(
            wire=wire,
            store=self.store,
            journal=self.journal,
            ledger=self.ledger,
            library=self.library,
            rules=self.rules,
            handoff=self.handoff,
            progress=self.progress,
            metrics=self.metrics,
            namespace=NAMESPACE,
            job=JOB,
            epoch=self.epoch,
        )

    def served(self, family: m.Family, **labels: str) -> float | None:
        whose = {"namespace": NAMESPACE, "job": JOB}
        return self.metrics.registry.get_sample_value(family.name, whose | labels)

    @contextlib.asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        wire = await Wire.connect(url, "learner")
        task = asyncio.create_task(self.ingest(wire).run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await wire.close()

    def taken(self) -> list[Admitted]:
        return self.handoff.take(10**6)

    def journaled(self) -> list[Entry]:
        reader = Journal(self.store, JOB_UID, self.epoch)
        return [found for segment in reader.replay() for found in segment.entries]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path / 'store'}")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


async def send(url: str, *messages: bytes, robot: str = "ada") -> None:
    wire = await Wire.connect(url, "robot")
    for data in messages:
        await wire.store(experience_subject(robot), data)
    await wire.close()


def settles(*numbers: int) -> Callable[[list[bytes]], bool]:
    def enough(heard: list[bytes]) -> bool:
        return bool(heard) and all(map(Receipt.open(heard[-1]).settles, numbers))

    return enough


ENTRIES = {n: entry(n) for n in range(1, 7)}


@dataclasses.dataclass
class Sent:
    """What judging needs of a delivery."""

    data: bytes
    sequence: int = 1
    subject: str = experience_subject()


@settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
@given(st.lists(st.lists(st.sampled_from(sorted(ENTRIES)), min_size=1, max_size=4), max_size=12))
def test_any_order_and_repetition_of_batches_admits_each_episode_once(
    batches: list[list[int]],
) -> None:
    ledger, fresh = Ledger(), []
    store = Store(f"memory://{secrets.token_hex(8)}")
    journal = Journal(store, JOB_UID, 1)
    library = Library(journal)
    intake = Intake(Rules(JOB_UID, frozenset(TASKS)), store, ledger, library)
    for batch in batches:
        sent = Sent(message(*(ENTRIES[n] for n in batch)))
        found = intake.judge([cast("Delivery", sent)])
        if found.entries:
            (segment,) = journal.append(found.entries)
            fresh += [one.record.n for one in absorb(segment, ledger, library)]
    wanted = {n for batch in batches for n in batch}
    assert sorted(fresh) == sorted(wanted)
    again = Ledger()
    for segment in Journal(store, JOB_UID, 2).replay():
        absorb(segment, again, Library(journal))
    assert all(again.settled(ENTRIES[n][0]) == (n in wanted) for n in ENTRIES)


async def test_what_was_sent_is_journaled_handed_over_and_receipted_with_its_position(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message(ENTRIES[2]), message(ENTRIES[1], ENTRIES[3]))
        await receipts.until(settles(1, 2, 3))
    last = Receipt.open(receipts.heard[-1])
    assert (last.through, last.stream_position, last.learner_epoch) == (3, 2, 1)
    assert {a.record.episode_id for a in bench.taken()} == {"ada-1", "ada-2", "ada-3"}
    assert sorted(e.record.n for e in bench.journaled()) == [1, 2, 3]


def test_a_round_ends_where_its_segment_is_large(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(store)
    judge = Intake(bench.rules, store, bench.ledger, bench.library).judge
    left = [cast("Delivery", Sent(message(made))) for made in ENTRIES.values()]
    monkeypatch.setattr(intake, "SEGMENT_BYTES", 5 * len(ENTRIES[1][1]) // 2)
    rounds = []
    while left:
        rounds.append([one.record.n for one in judge(left).entries])
    assert rounds == [[1, 2, 3], [4, 5, 6]]


async def test_of_many_quiet_robots_each_is_told_anew(
    broker: Broker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "REFRESH", 0.05)
    monkeypatch.setattr(ingesting, "RECEIPTS_AT_ONCE", 2)
    await make_streams(broker.url)
    bench = Bench(store)
    robots = [f"robot-{number}" for number in range(8)]
    for robot in robots:
        bench.ledger.settle(entry(1, robot=robot)[0])
    subjects = [names.robot_subject(NAMESPACE, one, JOB, Channel.RECEIPT) for one in robots]
    async with listening(broker.url, *subjects) as (_, ears), bench.running(broker.url):
        await asyncio.gather(*(ear.more(2) for ear in ears))


async def test_ingest_works_in_one_thread_however_many_are_idle(
    broker: Broker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of several would keep for good the memory that its largest round took."""
    create, wrote = Store.create, set()

    def seen(self: Store, key: str, data: bytes) -> None:
        wrote.add(threading.get_ident())
        create(self, key, data)

    monkeypatch.setattr(Store, "create", seen)
    idle = threading.Barrier(5)
    await asyncio.gather(*(asyncio.to_thread(idle.wait, 60) for _ in range(idle.parties)))
    await make_streams(broker.url)
    bench = Bench(store)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        for number, made in ENTRIES.items():
            await send(broker.url, message(made))
            await receipts.until(settles(number))
    assert len(bench.journaled()) == len(ENTRIES)
    assert len(wrote) == 1


def _changed(n: int, payload: bytes | None = None, **over: Any) -> tuple[Record, bytes]:
    made, sound = episode(f"ada-{n}", seed=n), ENTRIES[n][1]
    data = sound if payload is None else payload
    return record(made, n, data, **over), data


def _unsound(n: int, **over: Any) -> bytes:
    """An episode's bytes as a robot without our checks would write them."""
    made = episode(f"ada-{n}", seed=n, **over)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(made), "validate", lambda self, **_: self)
        return codec.encode(made)


def _borrowed(n: int) -> tuple[Record, bytes]:
    made = episode("ada-1", seed=99)
    payload = codec.encode(made)
    return record(made, n, payload), payload


_NAN = np.full((20, 2), np.nan, np.float32)
_WIDE = np.zeros((20, 3), np.float32)
BAD: dict[str, tuple[RejectCode, Callable[[int], tuple[Record, bytes]]]] = {
    "is no episode at all": (RejectCode.MALFORMED, lambda n: _changed(n, b"hello")),
    "is cut short": (RejectCode.MALFORMED, lambda n: _changed(n, ENTRIES[n][1][:-9])),
    "has a NaN action": (RejectCode.NON_FINITE, lambda n: _changed(n, _unsound(n, action=_NAN))),
    "has a third finger": (
        RejectCode.SHAPE,
        lambda n: _changed(n, _unsound(n, action=_WIDE, policy_action=_WIDE)),
    ),
    "is of an unknown task": (RejectCode.UNKNOWN_TASK, lambda n: _changed(n, task="juggle")),
    "is told to be huge": (
        RejectCode.TOO_LARGE,
        lambda n: (
            _changed(n)[0].model_copy(
                update={
                    "size": codec.MAX_BYTES + 1,
                    "uri": names.payload_key(JOB_UID, _changed(n)[0].digest),
                }
            ),
            b"",
        ),
    ),
    "belongs to another job": (RejectCode.MALFORMED, lambda n: _changed(n, job_uid="uid-9")),
    "points out of its place": (
        RejectCode.MALFORMED,
        lambda n: (_changed(n, uri="jobs/uid-1/checkpoints/0")[0], b""),
    ),
    "says another outcome than its payload": (
        RejectCode.MALFORMED,
        lambda n: _changed(n, outcome="failure"),
    ),
    "takes another episode's id": (RejectCode.CONFLICT, _borrowed),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_record_that(what: str, broker: Broker, store: Store) -> None:
    """… is refused with its code and quarantined, and its neighbours are admitted."""
    code, make = BAD[what]
    bad = make(2)
    await make_streams(broker.url)
    bench = Bench(store)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message(ENTRIES[1], bad, ENTRIES[3]), message(ENTRIES[4]))
        await receipts.until(settles(1, 2, 3, 4))
    (refused,) = Receipt.open(receipts.heard[-1]).rejects
    assert (refused.n, refused.code) == (2, code), refused.message
    assert [a.record.n for a in bench.taken()] == [1, 3, 4]
    assert bench.served(m.LEARNER_REJECTED, reason=code) == 1
    assert bench.served(m.LEARNER_RECORDS, result="admitted") == 3
    if bad[1]:
        assert store.get(names.quarantine_key(JOB_UID, digest_of(bad[1]))) == bad[1]
    assert all(Bench(store, 2).ledger.settled(found) for found, _ in (bad, ENTRIES[4]))


async def test_a_message_that_is_no_batch_is_quarantined_and_the_next_one_admitted(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    junk = [b"", b"FLB1\xff\xff\xff\xff"]
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, *junk, message(ENTRIES[1]))
        await receipts.until(settles(1))
    assert [a.record.n for a in bench.taken()] == [1]
    for data in junk[1:]:
        assert store.get(names.quarantine_key(JOB_UID, digest_of(data))) == data


def _spoiled(*bad: tuple[dict[str, Any], bytes], after: tuple[Record, bytes]) -> bytes:
    """A batch whose first records no robot of ours would write."""
    header = json.loads(canonical_header([after[0]]))
    header["records"] = [*(fields for fields, _ in bad), *header["records"]]
    text = json.dumps(header).encode()
    payloads = [payload for _, payload in bad]
    return b"".join([b"FLB1", len(text).to_bytes(4, "little"), text, *payloads, after[1]])


def _dumped(n: int, **over: Any) -> dict[str, Any]:
    return ENTRIES[n][0].model_dump(mode="json", by_alias=True, exclude_none=True) | over


async def test_a_record_that_cannot_be_read_is_refused_and_its_neighbours_are_admitted(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    nameless = _dumped(2)
    del nameless["spoolId"]
    bad = [(_dumped(1, mode="party"), ENTRIES[1][1]), (nameless, ENTRIES[2][1])]
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, _spoiled(*bad, after=ENTRIES[3]))
        await receipts.until(settles(1, 3))
    (refused,) = Receipt.open(receipts.heard[-1]).rejects
    assert (refused.n, refused.code) == (1, RejectCode.MALFORMED)
    assert "mode" in refused.message
    assert not Receipt.open(receipts.heard[-1]).settles(2)  # nobody can be told of what has no name
    assert [a.record.n for a in bench.taken()] == [3]
    for _, payload in bad:
        assert store.get(names.quarantine_key(JOB_UID, digest_of(payload))) == payload


async def test_a_message_cut_short_loses_only_its_last_record_which_is_asked_for_again(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message(ENTRIES[1], ENTRIES[2])[:-3])
        await receipts.until(settles(1))
        assert not Receipt.open(receipts.heard[-1]).settles(2)
        await send(broker.url, message(ENTRIES[2]) + b"and more")
        await receipts.until(settles(1, 2))
    assert Receipt.open(receipts.heard[-1]).rejects == ()
    assert [a.record.n for a in bench.taken()] == [1, 2]


async def test_a_payload_broken_on_the_way_is_asked_for_again_and_refused_only_when_it_stays_so(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    healing = (ENTRIES[1][0], ENTRIES[1][1][:-1] + b"?")
    lasting = (ENTRIES[2][0], ENTRIES[2][1][:-1] + b"?")
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message(healing), message(ENTRIES[3]))
        await receipts.until(settles(3))
        passed = Receipt.open(receipts.heard[-1])
        assert not passed.settles(1)
        assert passed.stream_position >= 1  # so the robot knows to send it again
        await send(broker.url, message(ENTRIES[1]), *[message(lasting)] * STRIKES)
        await receipts.until(settles(1, 2, 3))
    assert [r.n for r in Receipt.open(receipts.heard[-1]).rejects] == [2]
    assert {a.record.n for a in bench.taken()} == {1, 3}


async def test_a_robot_cannot_spend_another_robots_numbers(broker: Broker, store: Store) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message(ENTRIES[1]), robot="eve")
        forged = record(episode("ada-1", robot="eve", seed=7), 2, b"x", robot="eve")
        await send(broker.url, message((forged, b"x")), robot="eve")
        await send(broker.url, message(ENTRIES[1]))
        await receipts.until(settles(1))
    assert [(a.record.robot, a.record.episode_id) for a in bench.taken()] == [("ada", "ada-1")]
    assert Receipt.open(receipts.heard[-1]).rejects == ()


async def test_a_large_payload_comes_from_the_store_and_stays_there(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    plain, payload = ENTRIES[1]
    key = names.payload_key(JOB_UID, plain.digest)
    store.create(key, payload)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message((plain.model_copy(update={"uri": key}), b"")))
        await receipts.until(settles(1))
    assert bench.journaled()[0].payload == b""
    assert Bench(store, 2).library.load("ada-1").id == "ada-1"


async def test_shadow_episodes_and_evicted_numbers_are_settled_and_train_nothing(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    shadow = episode("ada-2", mode="shadow")
    data = codec.encode(shadow)
    gone = ENTRIES[1][0].model_copy(update={"evicted": True})
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await send(broker.url, message((gone, b""), (record(shadow, 2, data), data)))
        await receipts.until(settles(1, 2))
    assert bench.taken() == []
    assert Receipt.open(receipts.heard[-1]).rejects == ()


async def test_a_learner_that_died_before_its_receipts_has_them_told_by_the_next(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    Bench(store).journal.append([Entry(*ENTRIES[1]), Entry(*ENTRIES[2])])
    bench = Bench(store, 2)
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), bench.running(broker.url):
        await receipts.until(settles(1, 2))
    assert Receipt.open(receipts.heard[-1]).learner_epoch == 2


async def test_what_an_older_learner_journals_meanwhile_is_taken_in_and_not_admitted_twice(
    broker: Broker, store: Store
) -> None:
    await make_streams(broker.url)
    old, new = Bench(store, 1), Bench(store, 2)
    old.journal.append([Entry(*ENTRIES[1]), Entry(*ENTRIES[2])])
    async with listening(broker.url, RECEIPTS) as (_, (receipts,)), new.running(broker.url):
        await send(broker.url, message(ENTRIES[2], ENTRIES[3]))
        await receipts.until(settles(1, 2, 3))
    assert sorted(a.record.n for a in new.taken()) == [1, 2, 3]
    assert sorted(e.record.n for e in new.journaled()) == [1, 2, 3]


async def test_ingest_goes_on_by_itself_after_the_broker_died(broker: Broker, store: Store) -> None:
    await make_streams(broker.url)
    bench = Bench(store)
    async with bench.running(broker.url):
        async with listening(broker.url, RECEIPTS) as (_, (receipts,)):
            await send(broker.url, message(ENTRIES[1]))
            await receipts.until(settles(1))
        broker.kill()
        broker.start()
        async with listening(broker.url, RECEIPTS) as (_, (receipts,)):
            await send(broker.url, message(ENTRIES[2]))
            await receipts.until(settles(1, 2))
    assert sorted(e.record.n for e in bench.journaled()) == [1, 2]
