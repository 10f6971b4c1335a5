"""A learner's office: its epoch, claimed by creating an object, and the look-out for a newer one.

Nobody hands epochs out: whoever starts takes the next free number. Two learners may live for a
moment; everything they claim is created conditionally, and the lower epoch gives way.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract import names
from fleet_contract.errors import Fenced
from fleet_runtime.artifacts import Exists, Missing

if TYPE_CHECKING:
    from fleet_runtime.artifacts import Store

log = logging.getLogger(__name__)

_BY_ROBOT = "by robot"


class Office(NamedTuple):
    """A claimed epoch."""

    epoch: int
    address: str  # where the first rank awaits the others; empty where there are none
    by_robot: bool  # it takes payloads that lie below their robots' names; one of before does not


def claim(store: Store, job_uid: str, holder: str, address: str = "") -> int:
    """Take the next epoch of the job, from 1 on; `holder` (a host or pod) is noted for people.

    `address` is noted for the learner's other ranks. Raises `Retry` when the store is unreachable.
    """
    while True:
        epoch = _last(store, job_uid) + 1
        # The time makes the body unlike any other claimant's: equal content would count as ours.
        body = {"epoch": epoch, "holder": holder, "address": address, "atNs": time.time_ns()}
        body["payloads"] = _BY_ROBOT
        try:
            store.create(names.epoch_key(job_uid, epoch), json.dumps(body).encode())
        except Exists:
            continue
        log.info("learner epoch %d of job %s is ours", epoch, job_uid)
        return epoch


def newest(store: Store, job_uid: str) -> Office | None:
    """The newest claim, None before the first. Raises `Retry`."""
    if (epoch := _last(store, job_uid)) == 0:
        return None
    body = json.loads(store.get(names.epoch_key(job_uid, epoch)))
    by_robot = body.get("payloads") == _BY_ROBOT
    return Office(epoch, str(body.get("address", "")), by_robot)


def guard(store: Store, job_uid: str, epoch: int) -> None:
    """Raises `Fenced` once a newer learner has claimed; `Retry` when the store is unreachable."""
    try:
        store.get(names.epoch_key(job_uid, epoch + 1))
    except Missing:
        return
    raise Fenced(f"learner epoch {epoch + 1} is claimed, this one holds {epoch}: leaving the job")


def _last(store: Store, job_uid: str) -> int:
    prefix = names.epoch_key(job_uid, 0).rsplit("/", 1)[0] + "/"
    return max((int(key.rsplit("/", 1)[1]) for key in store.list(prefix)), default=0)
