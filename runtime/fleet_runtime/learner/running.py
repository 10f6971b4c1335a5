"""Which episodes come in parts just now, and when no more of one can come. Pure.

A robot numbers the parts of an episode one after the other, and a ledger's `through` says that
every number up to it is settled: journaled, refused or given up. So an episode is over once all its
parts are there, in whatever order; or `through` has come to its last part; or, where that is known
to nobody, to a later record of another episode. A robot whose disk was wiped begins another spool:
what it had begun is over then, unless more of it comes all the same.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet_runtime.learner.receipts import spool_of

if TYPE_CHECKING:
    from fleet_contract.messages import Record
    from fleet_runtime.learner.receipts import Ledger, SpoolKey


@dataclasses.dataclass
class _Episode:
    spool: SpoolKey
    newest: Record  # of the greatest number
    last: Record | None = None
    beyond: int | None = None  # least number of another episode's record behind it
    parts: set[int] = dataclasses.field(default_factory=set)  # whose payload is there

    @property
    def whole(self) -> bool:
        last = self.last
        return last is not None and self.parts.issuperset(range(last.segment + (not last.closes)))


class Running:
    """Told of every settled record, in the journal's order."""

    def __init__(self) -> None:
        self._robots: dict[str, dict[str, _Episode]] = {}
        self._ahead: dict[SpoolKey, int] = {}  # greatest number of a record that says whose it is

    def part(self, record: Record) -> None:
        """A part was admitted, or given up, or says that there are no more."""
        episodes, spool = self._robots.setdefault(record.robot, {}), spool_of(record)
        known = episodes.get(record.episode_id)
        if known is None:
            ahead = self._ahead.get(spool, 0)  # of another episode: this is the first of this one
            beyond = ahead if ahead > record.n else None
            known = episodes[record.episode_id] = _Episode(spool, record, beyond=beyond)
        elif known.spool != spool:  # numbered anew
            known.spool, known.newest, known.beyond = spool, record, None
        if record.n > known.newest.n:
            known.newest = record
        if record.last:
            known.last = record
        if not (record.evicted or record.closes):
            known.parts.add(record.segment)

    def over(self, record: Record, ledger: Ledger, *, admitted: bool) -> list[Record]:
        """The episodes that this record ends, which the ledger has settled already.

        Of each its last record, or the newest where nobody knows the last one.
        """
        spool = spool_of(record)
        if admitted and record.episode_id:  # what was refused may say anything of itself
            self._ahead[spool] = max(record.n, self._ahead.get(spool, 0))
        episodes = self._robots.get(record.robot)
        if not episodes:
            return []
        through = ledger.through(spool)
        ended = []
        for episode_id, one in list(episodes.items()):
            other = admitted and record.episode_id not in ("", episode_id)
            if one.spool != spool:
                over = other
            else:
                if other and record.n > one.newest.n:
                    one.beyond = min(record.n, one.beyond or record.n)
                bounds = one.last.n if one.last else None, one.beyond
                reached = (bound is not None and through >= bound for bound in bounds)
                over = one.whole or any(reached)
            if over:
                ended.append(one.last or one.newest)
                del episodes[episode_id]
        if not episodes:
            del self._robots[record.robot]
        return ended
