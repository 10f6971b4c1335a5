"""What a robot's disk knows of which policies can be trusted."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract.errors import Retry
from fleet_contract.messages import PolicyRef, digest_of
from fleet_runtime.robot import standing
from fleet_runtime.robot.standing import DEATHS, Known, Named, Standing, start
from fleet_runtime.robot.swap import EMPTY


def ref(sequence: int) -> PolicyRef:
    return PolicyRef(
        sequence=sequence, digest=digest_of(str(sequence).encode()), uri=f"v{sequence}"
    )


ONE, TWO = ref(1), ref(2)


def died(path: Path, policy: PolicyRef, epoch: int = 4) -> None:
    """A program that is ended while the policy drives leaves the file as it is inside."""
    before = Standing(path)
    before.start()
    with before.loading(policy, epoch):
        pass
    with before.driving(policy, epoch):
        left = path.read_bytes()
    path.write_bytes(left)


def test_a_policy_that_ends_the_program_twice_in_a_row_is_barred_and_no_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "standing.json"
    Standing(path).keep(EMPTY)
    for deaths in range(DEATHS):
        again = Standing(path)
        assert again.start() == ()
        assert again.known.barred == ()
        assert [one.count for one in again.known.risked] == ([deaths] if deaths else [])
        died(path, TWO)
    last = Standing(path)
    (dead,) = last.start()
    assert (dead.policy, dead.epoch, dead.count) == (TWO, 4, DEATHS)
    assert last.known.barred == ((TWO.digest, 4),)
    assert last.known.fallback is not None
    assert (last.known.fallback.policy, last.known.risked) == (TWO, ())
    assert Standing(path).start() == ()  # told once
    assert Standing(path).known.barred == ((TWO.digest, 4),)


def test_an_episode_that_ended_between_two_deaths_makes_them_two_firsts(tmp_path: Path) -> None:
    path = tmp_path / "standing.json"
    died(path, TWO)
    between = Standing(path)
    between.start()
    with between.driving(TWO, 4):
        pass
    died(path, TWO)
    assert Standing(path).start() == ()


def test_a_fault_that_is_raised_is_no_death(tmp_path: Path) -> None:
    path = tmp_path / "standing.json"
    for _ in range(DEATHS):
        with pytest.raises(OSError, match="cable"), Standing(path).driving(TWO, 4):
            raise OSError("cable")
    assert Standing(path).start() == ()


def test_a_probation_begins_anew_after_a_death() -> None:
    known = Known(passed=(TWO.digest, 2))
    assert start(known).known == known
    assert start(known.risk(TWO, 1)).known.passed == ("", 0)


def test_a_last_known_good_that_cannot_even_be_loaded_is_none(tmp_path: Path) -> None:
    known = Known(good=Named(policy=ONE, epoch=1)).risk(ONE, 1).risk(ONE, 1)
    assert start(known).known.good is None


def test_one_on_probation_does_not_drive_before_its_count_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    made = Standing(tmp_path / "standing.json")
    with monkeypatch.context() as patch:
        patch.setattr(standing, "write_whole", full)
        with pytest.raises(Retry, match="on probation"), made.driving(TWO, 1):
            raise AssertionError("it drives")
        with made.loading(TWO, 1):
            pass  # a policy that is there already is better than none
        made.bar(TWO, 1, "nan")
    assert Standing(tmp_path / "standing.json").known.barred == ()
    made.bar(TWO, 1, "nan")  # what the disk missed goes there with the next change
    assert Standing(tmp_path / "standing.json").known == made.known
    with made.driving(ONE, 1):
        assert Standing(tmp_path / "standing.json").known.risked != ()


@given(st.lists(st.sampled_from(["drive 1", "drive 2", "die 1", "die 2", "load 2"]), max_size=12))
def test_only_deaths_in_a_row_bar_and_always_do(history: list[str]) -> None:
    known, row = Known(), {1: 0, 2: 0}
    barred: set[str] = set()
    for what in history:
        verb, number = what.split()
        policy = ref(int(number))
        if policy.digest in barred:
            continue
        known = known.risk(policy, 1)
        if verb == "die":
            known, dead = start(known)
            row[int(number)] += 1
            if row[int(number)] == DEATHS:
                barred.add(policy.digest)
            assert {one.policy.digest for one in dead} == barred & {policy.digest}
        else:
            known, row[int(number)] = known.survive(policy), 0
        assert {digest for digest, _ in known.barred} == barred


def test_a_garbled_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "standing.json"
    path.write_bytes(b'{"good": 3')
    assert Standing(path).known == Known()
