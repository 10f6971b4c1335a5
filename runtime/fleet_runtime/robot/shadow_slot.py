"""Which policy computes beside the one that drives: pure, one value per moment.

    offer ──► wanted ──begin──► active ──end──► none

As with what drives (`swap`), only `begin`, between two episodes, changes what computes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet_runtime.robot.swap import IllegalMove

if TYPE_CHECKING:
    from fleet_runtime.robot.swap import Loaded


@dataclasses.dataclass(frozen=True)
class ShadowSlot:
    """The robot's shadow at one moment."""

    wanted: Loaded | None = None  # what the fleet asks for; computes from the next episode on
    active: Loaded | None = None  # computes in the running episode
    driving: bool = False  # an episode runs

    def offer(self, loaded: Loaded) -> ShadowSlot:
        """A policy to compute from the next boundary on; the newest offer wins."""
        return dataclasses.replace(self, wanted=loaded)

    def withdraw(self) -> ShadowSlot:
        """None from the next boundary on."""
        return dataclasses.replace(self, wanted=None)

    def deny(self, digests: frozenset[str]) -> ShadowSlot:
        """The fleet forbids these: what must not drive need not compute either."""
        gone = self.wanted is not None and self.wanted.digest in digests
        return self.withdraw() if gone else self

    def begin(self, acting: str) -> ShadowSlot:
        """An episode begins under the policy of this digest, which is no shadow of itself."""
        if self.driving:
            raise IllegalMove("an episode begins while another one runs")
        itself = self.wanted is not None and self.wanted.digest == acting
        return dataclasses.replace(self, active=None if itself else self.wanted, driving=True)

    def end(self) -> ShadowSlot:
        """The episode is over."""
        if not self.driving:
            raise IllegalMove("an episode ends, but none runs")
        return dataclasses.replace(self, active=None, driving=False)


ALONE = ShadowSlot()
