"""The ledger: which numbers are spent, in whatever order they come and come again."""

from hypothesis import given
from hypothesis import strategies as st

from fleet_contract.errors import Reject, RejectCode
from fleet_contract.messages import Receipt, Record
from fleet_runtime.learner import receipts
from fleet_runtime.learner.receipts import Ledger, spool_of
from helpers.learner import JOB_UID, entry

RECORD, _ = entry(1)


def numbered(n: int, **over: str) -> Record:
    return RECORD.model_copy(update={"n": n, **over})


def told(ledger: Ledger, record: Record = RECORD) -> Receipt:
    return ledger.receipt(spool_of(record), job_uid=JOB_UID, epoch=1, position=7)


@given(st.lists(st.integers(1, 40), max_size=80))
def test_a_receipt_settles_exactly_what_was_settled_in_any_order_and_any_number_of_times(
    numbers: list[int],
) -> None:
    ledger = Ledger()
    for n in numbers:
        ledger.settle(numbered(n))
    receipt = Receipt.open(told(ledger).seal())
    assert {n for n in range(1, 50) if receipt.settles(n)} == set(numbers)
    assert {n for n in range(1, 50) if ledger.settled(numbered(n))} == set(numbers)
    assert receipt.through + 1 not in receipt.extras


def test_a_refused_number_is_told_with_its_code_and_no_longer_stands_in_the_way() -> None:
    ledger = Ledger()
    ledger.settle(numbered(1))
    ledger.settle(numbered(2), Reject(RejectCode.SHAPE, "three fingers"))
    receipt = told(ledger)
    assert receipt.through == 2
    assert [(r.n, r.code, r.message) for r in receipt.rejects] == [(2, "Shape", "three fingers")]


def test_another_robot_or_another_disk_of_the_same_robot_counts_for_itself() -> None:
    ledger = Ledger()
    ledger.settle(numbered(1))
    assert not ledger.settled(numbered(1, robot="bob"))
    assert not ledger.settled(numbered(1, spool_id="spool-2"))


def test_a_number_that_never_comes_does_not_make_receipts_grow_without_end() -> None:
    ledger = Ledger()
    for n in range(2, 2 * receipts.EXTRAS + 2):
        ledger.settle(numbered(n))
    assert len(told(ledger).extras) == receipts.EXTRAS
    ledger.settle(numbered(2))  # its robot asked again, so it did not get the earlier receipt
    assert told(ledger).settles(2)


def test_other_content_under_a_spent_number_is_told_apart_from_a_resend() -> None:
    ledger = Ledger()
    ledger.settle(RECORD)
    assert not ledger.conflicts(RECORD)
    assert ledger.conflicts(numbered(1, digest="sha256:" + "0" * 64))
