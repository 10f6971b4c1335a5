"""Which policy drives: every order of offers, episodes and guard trips."""

import dataclasses
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract.messages import PolicyRef, digest_of
from fleet_runtime.robot.swap import EMPTY, IllegalMove, Loaded, Slot

if TYPE_CHECKING:
    from fleet_runtime.policies.base import Policy


def loaded(sequence: int, epoch: int = 1) -> Loaded:
    digest = digest_of(str(sequence).encode())
    ref = PolicyRef(sequence=sequence, digest=digest, uri=f"v{sequence}")
    return Loaded(ref, cast("Policy", None), epoch)


SHORT = dataclasses.replace(EMPTY, probation=1)


def running(sequence: int, epoch: int = 1) -> Slot:
    return SHORT.offer(loaded(sequence, epoch)).begin()


def active(slot: Slot) -> int | None:
    return slot.active.ref.sequence if slot.active else None


def test_an_offer_waits_until_the_episode_is_over() -> None:
    slot = running(1).offer(loaded(2))
    assert active(slot) == 1
    slot = slot.end(clean=True)
    assert active(slot) == 1
    assert active(slot.begin()) == 2


def test_the_newest_of_several_offers_wins() -> None:
    slot = running(1).offer(loaded(2)).offer(loaded(3)).end(clean=True).begin()
    assert active(slot) == 3


def test_a_distrusted_policy_falls_back_to_the_last_good_one() -> None:
    slot = running(1).end(clean=True).offer(loaded(2, 2)).begin().end(clean=False).distrust()
    assert active(slot) == 1


def test_only_judged_episodes_end_a_probation_and_another_policy_begins_its_own() -> None:
    slot = dataclasses.replace(running(1), probation=3)
    for clean, good in ((True, None), (False, None), (True, None), (True, 1)):
        slot = slot.end(clean=clean)
        assert (slot.good.ref.sequence if slot.good else None) == good
        assert slot.on_probation is (good is None)
        slot = slot.begin()
    slot = slot.end(clean=False).offer(loaded(2)).begin()
    for clean in (True, True):
        slot = slot.end(clean=clean).begin()
    assert slot.on_probation
    back = slot.end(clean=False).distrust()
    assert (active(back), back.on_probation, back.passed) == (1, False, ("", 0))
    assert active(slot.end(clean=True).begin()) == 2
    assert not slot.end(clean=True).on_probation


def test_without_a_good_one_nothing_drives() -> None:
    slot = running(1).end(clean=False).distrust()
    assert active(slot) is None
    with pytest.raises(IllegalMove, match="without a policy"):
        slot.begin()


def test_the_last_good_policy_cannot_be_its_own_fallback() -> None:
    slot = running(1).end(clean=True).begin().end(clean=False).distrust()
    assert active(slot) is None


def test_a_distrusted_policy_comes_back_only_by_a_newer_assignment() -> None:
    slot = running(1, epoch=3).end(clean=False).distrust()
    assert slot.offer(loaded(1, epoch=3)).pending is None
    assert slot.offer(loaded(1, epoch=2)).pending is None
    assert active(slot.offer(loaded(1, epoch=4)).begin()) == 1


def test_a_denied_policy_begins_no_episode_and_is_no_fallback() -> None:
    first, second = loaded(1), loaded(2)
    slot = running(1).end(clean=True).offer(second).begin().deny(frozenset({second.digest}))
    assert active(slot) == 2  # never in the middle of an episode
    slot = slot.end(clean=True)
    assert slot.next is None
    assert active(slot.offer(first).begin()) == 1
    slot = running(1).end(clean=True).offer(second).begin().deny(frozenset({first.digest}))
    assert active(slot.end(clean=False).distrust()) is None


def test_illegal_moves_raise() -> None:
    with pytest.raises(IllegalMove):
        running(1).begin()
    with pytest.raises(IllegalMove):
        EMPTY.end(clean=True)
    with pytest.raises(IllegalMove):
        running(1).distrust()


def move(slot: Slot, name: str, sequence: int, epoch: int) -> Slot:
    moves = {
        "offer": lambda: slot.offer(loaded(sequence, epoch)),
        "begin": slot.begin,
        "end": lambda: slot.end(clean=True),
        "end unclean": lambda: slot.end(clean=False),
        "distrust": slot.distrust,
        "withdraw": slot.withdraw,
    }
    try:
        return moves[name]()
    except IllegalMove:
        return slot


MOVES = st.tuples(
    st.sampled_from(["offer", "begin", "end", "end unclean", "distrust", "withdraw"]),
    st.integers(1, 4),
    st.integers(1, 4),
)


@given(st.lists(MOVES, max_size=40))
def test_nothing_but_the_start_of_an_episode_or_distrust_changes_what_drives(
    moves: list[tuple[str, int, int]],
) -> None:
    slot, clean = SHORT, set()
    for name, sequence, epoch in moves:
        before, slot = slot, move(slot, name, sequence, epoch)
        if name == "end" and before.driving:
            clean.add(active(slot))
        if name not in {"begin", "distrust"} or before.driving:
            assert active(slot) == active(before)
        if name == "distrust" and slot is not before:
            assert active(slot) in {None, *clean} - {active(before)}
        if slot.good is not None:
            assert slot.good.ref.sequence in clean
