"""The spool: what `append` returned is there after anything but a lost disk."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleet_contract.errors import Fenced, Retry
from fleet_runtime.robot import spool as spooled
from fleet_runtime.robot.spool import Spool
from helpers.records import draft


def add(spool: Spool, payload: bytes, episode: str = "e") -> int:
    return spool.append(draft(payload, episode), payload).n


class SpoolMachine(RuleBasedStateMachine):
    """Any order of appends, receipts and restarts, against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name), job_uid="uid-1")
        self.first_id = self.spool.spool_id
        self.kept: dict[int, bytes] = {}
        self.spent = 0

    @rule(payload=st.binary(max_size=50))
    def append(self, payload: bytes) -> None:
        n = add(self.spool, payload)
        assert n == self.spent + 1  # numbers grow by one and are never used twice
        self.spent = n
        self.kept[n] = payload

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        numbers = data.draw(st.sets(st.sampled_from(sorted(self.kept))))
        assert self.spool.settle(numbers) == len(numbers)
        for n in numbers:
            del self.kept[n]

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(Path(self.folder.name), job_uid="uid-1")

    @invariant()
    def everything_unsettled_is_there(self) -> None:
        assert self.spool.spool_id == self.first_id
        assert self.spool.pending() == sorted(self.kept)
        for n, payload in self.kept.items():
            record, found = self.spool.read(n)
            assert (record.n, record.spool_id, found) == (n, self.first_id, payload)

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=30, stateful_step_count=20)

WRITER = """
import sys
from pathlib import Path
from fleet_runtime.robot import spool as spooled
from fleet_runtime.robot.spool import Spool
from helpers.records import draft
spool = Spool(Path(sys.argv[1]), job_uid="uid-1")
while True:
    payload = bytes([spool.depth % 251]) * 20_000
    record = spool.append(draft(payload), payload)
    print(record.n, flush=True)
    if record.n % 3 == 0:
        spool.settle([record.n])
        print(-record.n, flush=True)
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_kept_and_spends_no_number_twice(
    tmp_path: Path,
) -> None:
    highest, spool_id, unsettled = 0, "", set()
    for turn in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert writer.stdout is not None
        with writer:
            line = writer.stdout.readline()  # it is at work
            time.sleep(0.003 * turn)  # die at different places
            writer.send_signal(signal.SIGKILL)
            said = [int(n) for n in (line + writer.stdout.read()).split()]
        kept = [n for n in said if n > 0]
        assert kept[0] > highest
        highest = max(highest, *kept)
        unsettled |= set(kept)
        # A settle that was not told may have happened all the same: its caller had a receipt.
        unsettled -= {n for n in unsettled if n % 3 == 0}
        spool = Spool(tmp_path, job_uid="uid-1")
        spool_id = spool_id or spool.spool_id
        assert spool.spool_id == spool_id
        assert unsettled <= set(spool.pending())
        for n in spool.pending():
            record, payload = spool.read(n)
            assert not record.evicted
            assert len(payload) == 20_000
        n = add(spool, b"after")
        assert n > highest
        highest = n
        unsettled.add(n)
        unsettled -= {n for n in unsettled if n % 3 == 0}
        spool.settle([n])
        unsettled.discard(n)
        spool.close()


def test_a_half_written_file_is_removed_at_the_next_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path, job_uid="uid-1")
    add(spool, b"one")
    spool.close()
    (spool.folder / ".tmp-000000000002.rec").write_bytes(b"hal")
    again = Spool(tmp_path, job_uid="uid-1")
    assert again.pending() == [1]
    assert not list(spool.folder.glob(".tmp-*"))
    assert add(again, b"two") == 2
    again.close()


def test_a_wiped_disk_is_a_new_spool_id(tmp_path: Path) -> None:
    first = Spool(tmp_path / "a", job_uid="uid-1")
    second = Spool(tmp_path / "b", job_uid="uid-1")
    assert first.spool_id != second.spool_id
    first.close()
    second.close()


def test_another_jobs_records_are_never_seen(tmp_path: Path) -> None:
    old = Spool(tmp_path, job_uid="uid-1")
    add(old, b"one")
    old.close()
    new = Spool(tmp_path, job_uid="uid-2")
    assert new.pending() == []
    assert new.spool_id != old.spool_id
    assert (old.folder / "000000000001.rec").exists()
    new.close()


def test_one_disk_serves_one_agent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, job_uid="uid-1")
    with pytest.raises(Fenced, match="another process"):
        Spool(tmp_path, job_uid="uid-1")
    spool.close()
    Spool(tmp_path, job_uid="uid-1").close()


def test_a_full_spool_gives_up_the_oldest_payload_and_says_so_with_a_tombstone(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, job_uid="uid-1", max_bytes=30_000)
    for episode in range(5):
        add(spool, bytes(9000), f"e{episode}")
    assert spool.pending() == [1, 2, 3, 4, 5]
    assert spool.nbytes <= 30_000
    record, payload = spool.read(1)
    assert (record.evicted, record.episode_id, payload) == (True, "e0", b"")
    record, payload = spool.read(5)
    assert (record.evicted, len(payload)) == (False, 9000)
    assert spool.evicted == 2
    with pytest.raises(Retry, match="30000"):
        add(spool, bytes(40_000))
    spool.close()


LIMITED = """
import resource, sys
from pathlib import Path
from fleet_contract.errors import Retry
from fleet_runtime.robot import spool as spooled
from fleet_runtime.robot.spool import Spool
from helpers.records import draft
spool = Spool(Path(sys.argv[1]), job_uid="uid-1")
spool.append(draft(b"kept"), b"kept")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
try:
    spool.append(draft(bytes(9000)), bytes(9000))
except Retry as fault:
    print(fault)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(spool.append(draft(bytes(9000)), bytes(9000)).n, spool.pending(), spool.read(1)[1])
"""


def test_a_disk_that_takes_no_more_is_told_and_nothing_kept_before_is_lost(tmp_path: Path) -> None:
    """A limit on the size of a file stands for a full disk: it needs no rights."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    refused, after = done.stdout.splitlines()
    assert "File too large" in refused
    assert refused.endswith("free the robot's disk")
    assert after == "2 [1, 2] b'kept'"


def test_a_spool_with_too_many_records_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path, job_uid="uid-1", max_records=2)
    add(spool, b"one")
    add(spool, b"two")
    with pytest.raises(Retry, match="2 records"):
        add(spool, b"three")
    spool.settle([1])
    assert add(spool, b"three") == 3
    spool.close()


def test_a_payload_the_disk_garbled_becomes_a_tombstone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, job_uid="uid-1")
    add(spool, b"good payload", "e1")
    add(spool, b"other", "e2")
    path = spool.folder / "000000000001.rec"
    path.write_bytes(path.read_bytes().replace(b"good", b"goob"))
    (spool.folder / "000000000002.rec").write_bytes(b"\0" * 10)
    spool.close()
    spool = Spool(tmp_path, job_uid="uid-1")  # which has them from the disk alone
    assert spool.read(1)[0].evicted
    assert spool.read(2)[0].evicted
    assert spool.pending() == [1, 2]
    spool.close()


def test_records_without_their_header_go_on_under_a_new_id(tmp_path: Path) -> None:
    spool = Spool(tmp_path, job_uid="uid-1")
    for payload in (b"one", b"two", b"three"):
        add(spool, payload)
    spool.settle([1])
    spool.close()
    (spool.folder / "spool.json").write_bytes(b"garbled")
    again = Spool(tmp_path, job_uid="uid-1")
    assert again.spool_id != spool.spool_id
    assert [again.read(n)[1] for n in again.pending()] == [b"two", b"three"]
    assert again.read(1)[0].spool_id == again.spool_id
    assert add(again, b"four") == 3
    again.close()


def test_what_is_free_is_the_least_of_bytes_records_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, job_uid="uid-1", max_bytes=100_000, max_records=4)
    assert spool.free == 1
    add(spool, b"x")
    assert spool.free == 0.75  # of its records
    add(spool, bytes(50_000))
    assert 0.4 < spool.free < 0.5  # of its bytes
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    assert spool.free == 0.1
    spool.settle(spool.pending())
    assert spool.free == 0.1  # the disk is as full as before
    monkeypatch.undo()
    spool.close()
    shutil.rmtree(spool.folder)
    assert spool.free == 0


def test_of_what_was_just_spooled_only_so_much_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "RECENT_BYTES", 10)
    monkeypatch.setattr(spooled, "RECENT_RECORDS", 3)
    spool = Spool(tmp_path, job_uid="uid-1")
    numbers = [add(spool, payload) for payload in (b"first", b"second", b"far too long for it")]
    assert [spool.read(n)[1] for n in numbers] == [b"first", b"second", b"far too long for it"]
    assert sum(len(payload) for _, payload in spool._recent.values()) <= 10
    add(spool, b"fourth")
    for path in spool.folder.glob("*.rec"):
        path.unlink()
    assert not spool.read(4)[0].evicted
    assert spool.read(1)[0].evicted
    spool.settle([4])
    with pytest.raises(KeyError):
        spool.read(4)
    for _ in range(5):
        add(spool, b"")
    assert len(spool._recent) == 3
    spool.close()
