"""What a robot may do at the object store, and the signature that lets it.

It may fetch what its job has published. It may put an episode under the digest of its bytes below
its own name, if nothing lies there. That is all: it lists, changes and removes nothing, and says
neither where its episode lies nor for how long it may ask. And it asks at a pace, whatever it asks.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import Reject, RejectCode, Retry
from fleet_contract.messages import Grant
from fleet_runtime.clerk.pace import Pace
from fleet_runtime.experience.codec import MAX_BYTES
from fleet_runtime.learner import epoch as office

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import Ask
    from fleet_runtime.artifacts import Signed, Store

READ_WITHIN = 3600.0
"""Seconds for which an object may be fetched. The whole fleet of a job is given the same request,
so the half of it at least: a large file on a thin link, piece by piece, asks again."""
WRITE_WITHIN = 900.0
"""Seconds in which an episode has to be there."""
REMEMBERED = 4096


class Desk:
    """Of one job. Methods block."""

    def __init__(
        self, store: Store, job_uid: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._job_uid = job_uid
        self._clock = clock
        self._pace = Pace(clock)
        self._taker = False
        self._reads: OrderedDict[str, tuple[Signed, float]] = OrderedDict()

    def grant(self, robot: str, ask: Ask) -> Grant:
        """The answer to one robot.

        Raises `Reject` for what it may not, `TooOften` above its pace, `Retry` as the store.
        """
        self._pace.demand(robot)
        if ask.job_uid != self._job_uid:
            raise Reject(
                RejectCode.MALFORMED, f"job {ask.job_uid} is asked for, this is {self._job_uid}"
            )
        if ask.digest is None:
            key, signed = ask.key, self._read(ask.key)
        else:
            if not 0 < ask.size <= MAX_BYTES:
                message = f"{ask.size} bytes, from 1 to {MAX_BYTES} are taken"
                raise Reject(RejectCode.TOO_LARGE, message)
            self._demand_taker()
            key = names.payload_key(self._job_uid, ask.digest, robot)
            signed = self._store.sign_create(key, ask.digest, ask.size, WRITE_WITHIN)
        return Grant(id=ask.id, key=key, url=signed.url, headers=signed.headers)

    def _demand_taker(self) -> None:
        """Raises `Retry` where the learner at work would refuse what lies there for good."""
        if self._taker:
            return
        last = office.newest(self._store, self._job_uid)
        if last is not None and not last.by_robot:
            raise Retry(
                f"the learner of epoch {last.epoch} is older than grants and would refuse the "
                "episode: delete its Job, and the one that is made in its place takes it"
            )
        self._taker = last is not None

    def _read(self, key: str) -> Signed:
        if not names.published(self._job_uid, key):
            message = f"{key!r} is none of what job {self._job_uid} publishes"
            raise Reject(RejectCode.MALFORMED, message)
        signed, until = self._reads.get(key, (None, 0.0))
        if signed is None or self._clock() > until:
            signed = self._store.sign_get(key, READ_WITHIN)
            self._reads[key] = signed, self._clock() + READ_WITHIN / 2
            if len(self._reads) > REMEMBERED:
                self._reads.popitem(last=False)
        return signed
