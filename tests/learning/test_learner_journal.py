"""The journal: what was appended is what is replayed, and of two writers one wins."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import names
from fleet_contract.errors import Fenced, FleetError, Reject, RejectCode, Retry
from fleet_contract.messages import Record
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import journal
from fleet_runtime.learner.journal import Entry, Journal
from fleet_runtime.learner.recall import Experience
from fleet_runtime.learner.retention import Base
from helpers.learner import JOB_UID, entry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}")


def entries(*numbers: int) -> list[Entry]:
    return [Entry(*entry(n)) for n in numbers]


def replayed(store: Store, epoch: int) -> Iterator[Entry]:
    for segment in Journal(store, JOB_UID, epoch).replay():
        yield from segment.entries


def test_a_replay_gives_back_every_entry_in_order_with_payload_and_refusal(store: Store) -> None:
    writer = Journal(store, JOB_UID, 1)
    refused = Entry(entry(3)[0], refusal=Reject(RejectCode.SHAPE, "too wide"))
    writer.append(entries(1, 2))
    writer.append([refused, *entries(4)])
    found = list(replayed(store, 2))
    assert [(e.record, e.payload) for e in found] == [
        *((e.record, e.payload) for e in entries(1, 2)),
        (refused.record, b""),
        *((e.record, e.payload) for e in entries(4)),
    ]
    assert found[2].refusal is not None
    assert found[2].refusal.code is RejectCode.SHAPE


def test_a_payload_is_found_again_by_its_place(store: Store) -> None:
    writer = Journal(store, JOB_UID, 1)
    (segment,) = writer.append(entries(1, 2, 3))
    reader = Journal(store, JOB_UID, 2)
    assert [reader.payload(place) for place in segment.places] == [
        e.payload for e in entries(1, 2, 3)
    ]


def test_an_older_learner_that_meets_a_newer_ones_segment_is_fenced(store: Store) -> None:
    old, new = Journal(store, JOB_UID, 1), Journal(store, JOB_UID, 2)
    new.append(entries(1))
    with pytest.raises(Fenced, match="epoch 2"):
        old.append(entries(2))
    assert [e.record.n for e in replayed(store, 2)] == [1]


def test_a_newer_learner_takes_in_what_an_older_one_wrote_meanwhile(store: Store) -> None:
    old, new = Journal(store, JOB_UID, 1), Journal(store, JOB_UID, 2)
    old.append(entries(1))
    old.append(entries(2))
    theirs = new.append(entries(3))
    assert [(s.epoch, [e.record.n for e in s.entries]) for s in theirs] == [(1, [1]), (1, [2])]
    (ours,) = new.append(entries(3))
    assert (ours.epoch, ours.position) == (2, 2)


def test_what_an_older_one_wrote_is_not_lost_where_the_store_fails_while_it_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Journal(store, JOB_UID, 1), Journal(store, JOB_UID, 2)
    for n in (1, 2):
        old.append(entries(n))
    get = Store.get
    failed: list[str] = []

    def away(self: Store, key: str, **more: Any) -> bytes:
        if key == names.journal_key(JOB_UID, 1) and not failed:
            failed.append(key)
            raise Retry("away")
        return get(self, key, **more)

    monkeypatch.setattr(Store, "get", away)
    found: list[journal.Segment] = []
    while not found or found[-1].epoch != new._epoch:
        found += new.append(entries(3))
    assert failed
    assert [e.record.n for segment in found for e in segment.entries] == [1, 2, 3]


def test_appending_again_what_landed_unheard_adds_nothing(store: Store) -> None:
    writer = Journal(store, JOB_UID, 1)
    data = journal.encode(0, 1, entries(1))
    store.create(names.journal_key(JOB_UID, 0), data)  # landed, but the answer was lost
    (segment,) = writer.append(entries(1))
    assert segment.epoch == 1
    assert [e.record.n for e in replayed(store, 1)] == [1]


def test_a_replay_reads_a_few_segments_ahead_however_many_there_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the size of a round, and all that was read is in memory."""
    writer, get, read = Journal(store, JOB_UID, 1), Store.get, []
    for number in range(1, 41):
        writer.append(entries(number))

    def counted(self: Store, key: str, *rest: str | None) -> bytes:
        read.append(key)
        return get(self, key, *rest)

    monkeypatch.setattr(Store, "get", counted)
    ahead = [
        len(read) - taken for taken, _ in enumerate(Journal(store, JOB_UID, 2).replay(), start=1)
    ]
    assert (len(ahead), len(read)) == (40, 40)
    assert max(ahead) <= journal._READERS


def test_a_rotten_segment_is_left_out_and_its_neighbours_are_read(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Journal(store, JOB_UID, 1)
    for n in (1, 2, 3):
        writer.append(entries(n))
    path = tmp_path / names.journal_key(JOB_UID, 1)
    path.write_bytes(path.read_bytes()[:-5])
    assert [e.record.n for e in replayed(store, 1)] == [1, 3]
    assert "restore the object" in caplog.text


def test_a_payload_that_rotted_is_not_handed_out(store: Store, tmp_path: Path) -> None:
    (segment,) = Journal(store, JOB_UID, 1).append(entries(1))
    path = tmp_path / names.journal_key(JOB_UID, 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FleetError, match="no longer matches its digest"):
        Journal(store, JOB_UID, 1).payload(segment.places[0])


def test_a_large_payload_that_rotted_is_left_out_and_nobody_waits_for_it(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = []
    for n in (1, 2):
        record, payload = entry(n)
        key = names.payload_key(JOB_UID, record.digest)
        store.create(key, payload)
        large.append(Entry(record.model_copy(update={"uri": key})))
    Journal(store, JOB_UID, 1).append(large)
    path = tmp_path / str(large[0].record.uri)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    experience = Experience.since(Base(), store, JOB_UID, 2)
    found = [one.record.n for one in experience.admitted(experience.journal.replay())]
    assert found == [2]
    assert "no longer matches its digest" in caplog.text


RECORDS: list[tuple[Record, bytes]] = [entry(n) for n in (1, 2)]


@given(st.data())
def test_no_change_of_a_segments_bytes_goes_unnoticed_or_crashes(data: st.DataObject) -> None:
    whole = journal.encode(5, 3, [Entry(*found) for found in RECORDS])
    header = len(whole) - sum(len(payload) for _, payload in RECORDS)
    cut = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(0, header - 1))
    broken = bytearray(whole)
    broken[flip] ^= 0x10
    for bad in (whole[:cut], bytes(broken)):
        with pytest.raises(ValueError, match=r".+"):
            journal.decode(bad)
