"""Which records are settled, and what each robot is told of it. Pure: no clock, no network.

A spool is named by (robot, robotUid, spoolId): the robot's name comes from the subject, which the
broker's permissions vouch for, so no robot can spend a number of somebody else's spool.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from fleet_contract.messages import Receipt, RejectedRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleet_contract.errors import Reject
    from fleet_contract.messages import Record

EXTRAS = 512
"""Most numbers beyond `through` in one receipt: those settled, or asked for again, last. A robot
has fewer than that unreceipted (its credit), so it always finds the ones it waits for."""
REJECTS = 64
"""Refusals repeated in each receipt, newest last; a receipt may be lost, the next one tells."""
MESSAGE_MAX = 300
"""Characters of a refusal's reason that travel."""
DIGESTS = 1024
"""Settled numbers per spool whose content is remembered, to tell a resend from a conflict."""

Value = TypeVar("Value")


class SpoolKey(NamedTuple):
    """One life of one robot's disk."""

    robot: str
    robot_uid: str
    spool_id: str


def spool_of(record: Record) -> SpoolKey:
    """The spool a record comes from."""
    return SpoolKey(record.robot, record.robot_uid, record.spool_id)


@dataclasses.dataclass
class _Spool:
    through: int = 0
    beyond: OrderedDict[int, None] = dataclasses.field(default_factory=OrderedDict)
    rejects: OrderedDict[int, RejectedRecord] = dataclasses.field(default_factory=OrderedDict)
    digests: OrderedDict[int, str] = dataclasses.field(default_factory=OrderedDict)


class Settled(BaseModel):
    """What is to be remembered of one spool when the records themselves are gone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    robot: str
    robot_uid: str
    spool_id: str
    through: int
    beyond: tuple[int, ...] = ()
    rejects: tuple[RejectedRecord, ...] = ()


class Ledger:
    """Every settled record. Settling is idempotent and does not care for order."""

    def __init__(self, settled: Iterable[Settled] = ()) -> None:
        """`settled`: what was settled before, as `told`. Its contents are not remembered."""
        self._spools: dict[SpoolKey, _Spool] = {
            SpoolKey(one.robot, one.robot_uid, one.spool_id): _Spool(
                through=one.through,
                beyond=OrderedDict.fromkeys(one.beyond),
                rejects=OrderedDict((reject.n, reject) for reject in one.rejects),
            )
            for one in settled
        }

    def told(self) -> tuple[Settled, ...]:
        """All of it, in the order in which it was settled."""
        return tuple(
            Settled(
                **key._asdict(),
                through=spool.through,
                beyond=tuple(spool.beyond),
                rejects=tuple(spool.rejects.values()),
            )
            for key, spool in self._spools.items()
        )

    def __iter__(self) -> Iterator[SpoolKey]:
        return iter(list(self._spools))

    def through(self, key: SpoolKey) -> int:
        """Every number of this spool up to here is spent."""
        spool = self._spools.get(key)
        return spool.through if spool else 0

    def settled(self, record: Record) -> bool:
        """Whether this record's number is spent: journaled or refused, whichever came first."""
        spool = self._spools.get(spool_of(record))
        return spool is not None and (record.n <= spool.through or record.n in spool.beyond)

    def conflicts(self, record: Record) -> bool:
        """Whether the number was settled with other content (as far as it is remembered)."""
        spool = self._spools.get(spool_of(record))
        known = spool.digests.get(record.n) if spool else None
        return known is not None and known != record.digest

    def settle(self, record: Record, refusal: Reject | None = None) -> None:
        """Spend the record's number; call it once its journal segment exists."""
        spool = self._spools.setdefault(spool_of(record), _Spool())
        if record.n <= spool.through:
            return
        if record.n in spool.beyond:
            spool.beyond.move_to_end(record.n)  # asked for again: the next receipt must list it
            return
        spool.beyond[record.n] = None
        _remember(spool.digests, record.n, record.digest, DIGESTS)
        if refusal is not None:
            reason = refusal.message[:MESSAGE_MAX]
            told = RejectedRecord(n=record.n, code=refusal.code, message=reason)
            _remember(spool.rejects, record.n, told, REJECTS)
        while spool.through + 1 in spool.beyond:
            spool.through += 1
            del spool.beyond[spool.through]

    def receipt(self, key: SpoolKey, *, job_uid: str, epoch: int, position: int) -> Receipt:
        """What to tell this spool's robot; `position` is the stream sequence passed."""
        spool = self._spools.get(key, _Spool())
        return Receipt(
            robot_uid=key.robot_uid,
            job_uid=job_uid,
            spool_id=key.spool_id,
            learner_epoch=epoch,
            through=spool.through,
            extras=tuple(sorted(list(spool.beyond)[-EXTRAS:])),
            rejects=tuple(spool.rejects.values()),
            stream_position=position,
        )


def _remember(memory: OrderedDict[int, Value], n: int, value: Value, most: int) -> None:
    memory[n] = value
    while len(memory) > most:
        memory.popitem(last=False)
