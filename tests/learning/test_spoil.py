"""The bad version goes out although the way to store or broker breaks for a moment."""

import pytest

from fleet_contract.errors import Retry
from fleet_runtime.learner import spoil


async def test_what_cannot_be_reached_is_tried_again_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = [Retry("the store is away"), Retry("still")]

    async def attempt() -> str:
        if faults:
            raise faults.pop()
        return "there"

    assert await spoil.patiently(attempt) == "there"

    async def away() -> str:
        raise Retry("the store is away")

    monkeypatch.setattr(spoil, "PATIENCE", 0.05)
    with pytest.raises(Retry, match="is away"):
        await spoil.patiently(away)
