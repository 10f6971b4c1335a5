"""Which records are sent when: every order of acks, receipts and losses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract.errors import RejectCode
from fleet_contract.messages import Receipt, RejectedRecord
from fleet_runtime.robot.ledger import Ledger

PENDING = [1, 2, 3, 4, 5, 6]


def receipt(**fields: object) -> Receipt:
    told: dict[str, object] = {
        "robot_uid": "r",
        "job_uid": "j",
        "spool_id": "s",
        "learner_epoch": 1,
        "through": 0,
    }
    return Receipt.model_validate(told | fields)


def sent(credit: int = 10) -> Ledger:
    """1, 2 and 3 lie in the broker at sequences 10, 20 and 30."""
    ledger = Ledger("s", credit)
    ledger.stream("A", 0)
    for n, sequence in ((1, 10), (2, 20), (3, 30)):
        ledger.sent([n], sequence)
    return ledger


def test_the_brokers_ack_settles_nothing_but_a_receipt_does() -> None:
    ledger = sent()
    assert ledger.due(PENDING) == [4, 5, 6]
    assert ledger.receipt(receipt(through=2), PENDING) == [1, 2]
    assert ledger.stored == 1


def test_extras_and_rejects_are_settled_too() -> None:
    rejects = (RejectedRecord(n=3, code=RejectCode.SHAPE, message="no"),)
    assert sent().receipt(receipt(through=1, extras=(5,), rejects=rejects), PENDING) == [1, 3, 5]


@pytest.mark.parametrize(
    ("told", "due"),
    [
        pytest.param(receipt(stream_position=20), [1, 2, 4, 5, 6], id="passed without a receipt"),
        pytest.param(receipt(stream_position=5), [4, 5, 6], id="not yet passed"),
        pytest.param(receipt(spool_id="other", stream_position=99), [4, 5, 6], id="another spool"),
    ],
)
def test_only_what_the_learner_passed_unreceipted_is_due_again(
    told: Receipt, due: list[int]
) -> None:
    ledger = sent()
    ledger.receipt(told, PENDING)
    assert ledger.due(PENDING) == due


def test_a_receipt_told_once_more_makes_due_what_was_stored_at_a_number_it_passed() -> None:
    """The broker lost its newest messages, and others took their numbers."""
    ledger = sent()
    told = receipt(stream_position=20)
    ledger.receipt(told, PENDING)
    ledger.sent([1, 2], 15)
    ledger.receipt(told, PENDING)
    assert {1, 2} <= set(ledger.due(PENDING))


def test_a_receipt_seen_before_makes_nothing_due() -> None:
    ledger = sent()
    told = receipt(stream_position=20)
    ledger.receipt(told, PENDING)
    ledger.sent([1, 2], 15)  # a stream made anew counts from 1, the old receipt still lies there
    ledger.receipt(told, PENDING, told=False)
    assert ledger.due(PENDING) == [4, 5, 6]


def test_an_earlier_learner_settles_but_its_position_counts_no_more() -> None:
    ledger = sent()
    ledger.receipt(receipt(learner_epoch=2), PENDING)
    assert ledger.receipt(receipt(through=1, stream_position=99), PENDING) == [1]
    assert ledger.due(PENDING[1:]) == [4, 5, 6]


@pytest.mark.parametrize(
    ("stream", "last", "due"),
    [
        pytest.param("A", 30, [4, 5, 6], id="nothing lost"),
        pytest.param("A", 15, [2, 3, 4, 5, 6], id="its end is lost"),
        pytest.param("B", 30, [1, 2, 3, 4, 5, 6], id="made anew"),
    ],
)
def test_what_the_broker_lost_is_due_again(stream: str, last: int, due: list[int]) -> None:
    ledger = sent()
    assert ledger.stream(stream, last) is (len(due) > 3)
    assert ledger.due(PENDING) == due


@given(
    credit=st.integers(1, 8),
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "receipt", "lose", "spool"]), st.integers(0, 12)),
        max_size=40,
    ),
)
def test_never_more_than_the_credit_in_the_broker_and_nothing_forgotten(
    credit: int, steps: list[tuple[str, int]]
) -> None:
    ledger = Ledger("s", credit)
    ledger.stream("0", 0)
    pending: list[int] = []
    spooled = sequence = 0
    for number, (step, value) in enumerate(steps):
        if step == "spool":
            spooled += 1
            pending.append(spooled)
        elif step == "send":
            sequence += 1
            ledger.sent(ledger.due(pending)[:value], sequence)
        elif step == "receipt":
            told = receipt(through=value, stream_position=sequence - 1, learner_epoch=number)
            for n in ledger.receipt(told, pending):
                pending.remove(n)
        else:
            ledger.stream(str(number), sequence)
        assert ledger.stored <= credit
        free = credit - ledger.stored
        waiting = len(pending) - ledger.stored
        assert len(ledger.due(pending)) == min(free, waiting)
