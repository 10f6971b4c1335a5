"""Ranks and places, beside what listing every member gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fleet_runtime.policies.members import Members


@given(hnp.arrays(np.bool_, st.integers(1, 400), elements=st.booleans(), fill=st.nothing()))
def test_a_rank_is_the_position_in_the_list_of_all_members_and_back(mask: np.ndarray) -> None:
    listed = np.flatnonzero(mask)
    members = Members(mask)
    assert members.ranks(listed).tolist() == list(range(len(listed)))
    assert members.nth(np.arange(len(listed))).tolist() == listed.tolist()
    assert members.nth(np.arange(len(listed))[::2]).tolist() == listed[::2].tolist()
