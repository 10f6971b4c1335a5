"""What the replay dropped leaves the store, and nothing else does, wherever the learner dies."""

import asyncio
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import metrics as m
from fleet_contract import names
from fleet_contract.errors import Fenced, FleetError, Reject, RejectCode
from fleet_contract.messages import LearnerHeartbeat, Record
from fleet_contract.names import Channel
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import epoch, retention
from fleet_runtime.learner.journal import Entry, Journal, Segment
from fleet_runtime.learner.recall import Experience
from fleet_runtime.learner.receipts import Ledger
from fleet_runtime.learner.retention import LEAST, MOST, Base, Retention, decided, folded
from fleet_runtime.metrics import LearnerMetrics
from helpers import forgetful_learner
from helpers.learner import (
    JOB,
    JOB_UID,
    NAMESPACE,
    LearnerProcess,
    Robot,
    entry,
    listening,
    spec,
    write_dataset,
)
from helpers.nats import Broker, make_streams, running_broker

HEARTBEAT = names.learner_heartbeat_subject(NAMESPACE, JOB)
RECEIPT = names.robot_subject(NAMESPACE, "ada", JOB, Channel.RECEIPT)
REFUSED = Reject(RejectCode.SHAPE, "a third finger")


@pytest.mark.parametrize(
    ("first", "oldest", "until"),
    [
        pytest.param(0, 0, 0, id="nothing dropped"),
        pytest.param(0, LEAST - 1, 0, id="too few to be worth a base"),
        pytest.param(0, LEAST, LEAST, id="enough"),
        pytest.param(100, LEAST, 100, id="gone long ago"),
        pytest.param(100, 100 + 9 * MOST, 100 + MOST, id="more than one pass may take"),
    ],
)
def test_what_may_go(first: int, oldest: int, until: int) -> None:
    assert decided(first, oldest) == until


RECORDS = st.builds(
    lambda robot, n, refused: Entry(entry(n, robot=robot)[0], refusal=REFUSED if refused else None),
    st.sampled_from(["ada", "bea"]),
    st.integers(1, 9),
    st.booleans(),
)


@given(st.lists(st.lists(RECORDS, max_size=4), max_size=8), st.data())
def test_a_base_and_what_follows_it_settle_what_the_whole_journal_did(
    rounds: list[list[Entry]], data: st.DataObject
) -> None:
    segments = [Segment(at, 1, tuple(entries), ()) for at, entries in enumerate(rounds)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(segments)), max_size=3)))
    base = Base()
    for until in [*cuts, len(segments)]:
        base = folded(base, segments[base.position : until], until)
        base = Base.model_validate_json(base.encode())
    whole = folded(Base(), segments, len(segments))
    assert base == whole
    ledger = Ledger()
    for one in itertools.chain.from_iterable(rounds):
        ledger.settle(one.record, one.refusal)
    assert Ledger(base.spools).told() == ledger.told()


class Died(BaseException):
    """kill -9, as far as a call can feel it."""


class Mortal(Store):
    """A store whose program dies at its n-th change."""

    def __init__(self, url: str, dies_at: int) -> None:
        super().__init__(url)
        self._left = dies_at

    def _change(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Died

    def create(self, key: str, data: bytes) -> None:
        self._change()
        super().create(key, data)

    def delete(self, key: str) -> None:
        self._change()
        super().delete(key)


def by_reference(store: Store, n: int) -> tuple[Record, bytes]:
    told, payload = entry(n)
    key = names.payload_key(JOB_UID, told.digest)
    store.create(key, payload)
    return told.model_copy(update={"uri": key}), b""


OLDEST = 5
"""Of ten segments with an episode each, odd ones by reference."""


def journaled(store: Store) -> None:
    epoch.claim(store, JOB_UID, "test")
    journal = Journal(store, JOB_UID, 1)
    for n in range(1, 11):
        journal.append([Entry(*(by_reference(store, n) if n % 2 else entry(n)))])


def retained(store: Store, learner: int = 1) -> tuple[Retention, Experience]:
    """As a start finds it."""
    base = retention.newest(store, JOB_UID)
    keeper = Retention(store, JOB_UID, learner, base, LearnerMetrics(NAMESPACE, JOB))
    keeper.sweep()
    found = Experience.since(base, store, JOB_UID, learner)
    for _ in found.admitted(found.journal.replay()):
        pass
    return keeper, found


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "decided", lambda first, oldest: decided(first, oldest, least=2))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("dies_at", range(1, 12))
def test_dying_at_any_change_loses_nothing_that_is_held_and_keeps_nothing_that_is_not(
    dies_at: int, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}"
    journaled(Store(url))
    keeper, found = retained(Store(url))
    mortal = Retention(
        Mortal(url, dies_at), JOB_UID, 1, keeper.base, LearnerMetrics(NAMESPACE, JOB)
    )
    try:
        mortal.collect(OLDEST, found.library)
    except Died:
        pass
    else:
        assert dies_at > 9  # a base, five segments, three payloads
    keeper, found = retained(Store(url))
    keeper.collect(OLDEST, found.library)
    assert {f"ada-{n}" for n in range(OLDEST + 1, 11)} == set(found.library._sources)
    for n in range(OLDEST + 1, 11):
        assert found.load(f"ada-{n}").id == f"ada-{n}"
    assert found.ledger.told() == retained(Store(url))[1].ledger.told()
    assert all(found.ledger.settled(entry(n)[0]) for n in range(1, 11))
    keys = Store(url).list(names.job_root(JOB_UID))
    assert [key for key in keys if "/journal/" in key] == [
        names.journal_key(JOB_UID, at) for at in range(OLDEST, 10)
    ]
    assert sum("/payload/" in key for key in keys) == 2  # 7 and 9
    assert [key for key in keys if "/bases/" in key] == [names.base_key(JOB_UID, OLDEST)]
    assert keeper.base.episodes == {"push": OLDEST}


@pytest.mark.usefixtures("few")
def test_a_refused_record_does_not_take_the_object_it_names_with_it(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    epoch.claim(store, JOB_UID, "test")
    theirs, _ = by_reference(store, 9)
    bad = entry(1)[0].model_copy(update={"uri": theirs.uri})
    journal = Journal(store, JOB_UID, 1)
    for one in (Entry(bad, refusal=REFUSED), Entry(*entry(2)), Entry(theirs)):
        journal.append([one])
    keeper, found = retained(store)
    keeper.collect(2, found.library)
    assert found.load("ada-9").id == "ada-9"


@pytest.mark.usefixtures("few")
def test_a_learner_with_a_newer_one_beside_it_removes_nothing(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    journaled(store)
    keeper, found = retained(store)
    epoch.claim(store, JOB_UID, "its successor")
    before = store.list(names.job_root(JOB_UID))
    with pytest.raises(Fenced):
        keeper.collect(OLDEST, found.library)
    assert store.list(names.job_root(JOB_UID)) == before


@pytest.mark.usefixtures("few")
def test_where_a_segment_rots_nothing_goes_and_a_rotten_base_ends_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(f"file://{tmp_path}")
    journaled(store)
    rotten = tmp_path / names.journal_key(JOB_UID, 1)
    sound = rotten.read_bytes()
    rotten.write_bytes(sound[:50])
    keeper, found = retained(store)
    keeper.collect(OLDEST, found.library)
    assert keeper.base.position == 0
    assert "restored or removed" in caplog.text
    rotten.write_bytes(sound)
    keeper.collect(OLDEST, found.library)
    (tmp_path / names.base_key(JOB_UID, OLDEST)).write_bytes(b"?")
    with pytest.raises(FleetError, match="restore this object"):
        retention.newest(store, JOB_UID)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


async def test_a_learner_killed_amid_what_it_removes_goes_on_with_all_it_held(
    broker: Broker, tmp_path: Path
) -> None:
    """Twenty steps an episode, and beside eight demonstrations room for four."""
    await make_streams(broker.url)
    small = {"checkpoint": {"interval": "100ms", "keep": 2, "experienceSteps": 12 * 20}}
    told = spec([write_dataset(tmp_path / "demos")], steps=5, **small)
    store = Store(f"file://{tmp_path}/store")
    async with listening(broker.url, HEARTBEAT, RECEIPT) as (client, (beats, receipts)):
        robot = Robot(client)
        for dies_at in (1, 2, 4, 0):
            script = [forgetful_learner.__file__, str(dies_at)]
            learner = LearnerProcess(tmp_path, broker.url, told, script=script)
            learner.start()
            ended = asyncio.create_task(asyncio.to_thread(learner.gone, 120))
            await robot.send(*(n for n in robot.sent if n not in robot.receipted))
            for n in itertools.count(len(robot.sent) + 1):
                if ended.done() or (not dies_at and "the journal begins at" in learner.log):
                    break
                await robot.send(n)
                settled = asyncio.create_task(receipts.until(robot.settled))
                await asyncio.wait([settled, ended], return_when=asyncio.FIRST_COMPLETED)
                settled.cancel()
        beats.heard.clear()
        total = len(robot.sent)
        await receipts.until(robot.settled)
        await beats.until(
            lambda heard: any(LearnerHeartbeat.decode(beat).episodes == total for beat in heard)
        )
        await learner.stop()
        await ended
    base = retention.newest(store, JOB_UID)
    found = Experience.since(base, store, JOB_UID, 99)
    held = [one.record.episode_id for one in found.admitted(found.journal.replay())]
    assert held[-4:] == [f"ada-{n}" for n in range(total - 3, total + 1)]
    assert sum(base.episodes.values()) + len(held) == total
    assert len(held) < 8
    assert all(found.ledger.settled(robot.sent[n][0]) for n in robot.sent)


def test_what_was_removed_is_counted(few: None, tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    journaled(store)
    keeper, found = retained(store)
    keeper.collect(OLDEST, found.library)
    registry = keeper._metrics.registry
    counts = {
        kind: registry.get_sample_value(
            m.COLLECTED.name, {"namespace": NAMESPACE, "job": JOB, "kind": kind}
        )
        for kind in ("segment", "payload")
    }
    assert counts == {"segment": 5, "payload": 3}
    assert json.loads(store.get(names.base_key(JOB_UID, OLDEST)))["position"] == OLDEST


def test_letting_go_of_large_segments_holds_one_of_them_in_memory(tmp_path: Path) -> None:
    store, size = Store(f"file://{tmp_path}"), 2**20
    writer = Journal(store, JOB_UID, 1)
    for n in range(1, LEAST + 2):
        writer.append([Entry(entry(n)[0], bytes(size))])
    epoch.claim(store, JOB_UID, "test")
    experience = Experience.since(Base(), store, JOB_UID, 1)
    keeper = Retention(store, JOB_UID, 1, Base(), LearnerMetrics(NAMESPACE, JOB))
    tracemalloc.start()
    try:
        keeper.collect(LEAST, experience.library)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert keeper.base.position == LEAST
    assert peak < 8 * size
