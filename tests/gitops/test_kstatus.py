"""What Flux, and whoever else asks kstatus, makes of our objects."""

import pytest

from fleet_contract.names import STALLED_REASONS
from gitops.states import STATES, Shown
from helpers.gitops import kstatus


@pytest.mark.parametrize("shown", STATES.values(), ids=STATES.keys())
def test_kstatus_of(shown: Shown) -> None:
    assert kstatus(shown.item) == shown.kstatus


def test_every_reason_of_stalled_is_among_them() -> None:
    told = {name.rpartition(" ")[2] for name in STATES if " stalled by " in name}
    assert told == STALLED_REASONS
