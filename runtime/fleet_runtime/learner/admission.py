"""Whether one record may train: the checks in their order, each with its code.

Three ways out besides admission. `Reject`: the data are bad and stay bad; the robot is told and
lets go. `Resend`: the bytes are not those the robot named, so they broke on the way; passing them
unreceipted makes the robot send them again, a few times. `Retry`: the store is away; wait.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING

from fleet_contract import names
from fleet_contract.errors import FleetError, Reject, RejectCode
from fleet_contract.messages import EpisodeMode, digest_of
from fleet_runtime.artifacts import Missing
from fleet_runtime.experience import codec, parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet_contract.messages import Record
    from fleet_runtime.artifacts import Store
    from fleet_runtime.experience.types import Episode

STRIKES = 3
"""Broken deliveries of one record before it is refused: a robot that names its own bytes wrongly
would otherwise send them for ever."""
_REMEMBERED = 4096


class Resend(FleetError):
    """Broken on the way: pass it without a receipt."""


@dataclasses.dataclass
class Rules:
    """What this job takes. Sizes are None until the first policy tells them."""

    job_uid: str
    tasks: frozenset[str]
    observation_size: int | None = None
    action_size: int | None = None
    images: Mapping[str, tuple[int, int, int]] | None = None

    def check_record(self, record: Record, robot: str) -> None:
        """Raises `Reject` for a record no payload could redeem; `robot` is the subject's."""
        if record.robot != robot:
            message = f"record of robot {record.robot!r} on the subject of {robot!r}"
            raise Reject(RejectCode.MALFORMED, message)
        if record.job_uid != self.job_uid:
            message = f"record of job {record.job_uid}, this learner serves {self.job_uid}"
            raise Reject(RejectCode.MALFORMED, message)
        if record.n < 1 or record.size < 0:
            message = f"n is {record.n} and size {record.size}; they count from 1 and from 0"
            raise Reject(RejectCode.MALFORMED, message)
        if record.evicted:
            return
        if record.segment >= parts.MOST:
            message = f"part {record.segment} of an episode, at most {parts.MOST} are taken"
            raise Reject(RejectCode.TOO_LARGE, message)
        if record.outcome is None and record.closes:
            raise Reject(RejectCode.MALFORMED, "it closes an episode and does not say how")
        if record.size > codec.MAX_BYTES:
            message = f"{record.size} bytes, at most {codec.MAX_BYTES} are taken"
            raise Reject(RejectCode.TOO_LARGE, message)
        if record.task not in self.tasks:
            message = f"task {record.task!r} is not one of {sorted(self.tasks)}"
            raise Reject(RejectCode.UNKNOWN_TASK, message)
        if record.uri not in self._places(record):
            # Anything else would let a robot have the learner read objects that are not its own.
            message = f"uri {record.uri!r} is not the payload key of its digest"
            raise Reject(RejectCode.MALFORMED, message)

    def _places(self, record: Record) -> set[str | None]:
        """Where its payload may lie, if not in the message."""
        owners = ("", record.robot)  # with keys of the store, or let in by the clerk
        keys = {names.payload_key(self.job_uid, record.digest, owner) for owner in owners}
        return {None, *keys}

    def check_payload(self, record: Record, payload: bytes) -> Episode:
        """The episode in a payload whose digest is right. Raises `Reject`."""
        episode = codec.decode(payload)
        episode.demand_fit(self.observation_size, self.action_size, self.tasks, self.images)
        for name, told, found in (
            ("episodeId", record.episode_id, episode.id),
            ("robot", record.robot, episode.robot),
            ("task", record.task, episode.task),
            ("mode", record.mode.value, episode.mode),
            ("outcome", record.outcome and record.outcome.value, episode.outcome),
        ):
            if told is not None and told != found:
                message = f"record says {name} {told!r}, its payload {found!r}"
                raise Reject(RejectCode.MALFORMED, message)
        return episode


class Strikes:
    """How often each record arrived broken; forgets the oldest beyond a few thousand."""

    def __init__(self) -> None:
        self._count: OrderedDict[tuple[str, str, str, int], int] = OrderedDict()

    def broken(self, record: Record, why: str) -> FleetError:
        """One more: what to raise, `Resend` at first and `Reject` at last."""
        key = (record.robot, *record.key)
        count = self._count.pop(key, 0) + 1
        if count >= STRIKES:
            return Reject(RejectCode.MALFORMED, f"{why}, {count} times")
        self._count[key] = count
        while len(self._count) > _REMEMBERED:
            self._count.popitem(last=False)
        return Resend(f"record {record.n} of {record.robot}: {why}")


def fetch_payload(store: Store, record: Record, inline: bytes, strikes: Strikes) -> bytes:
    """The payload the record names, from the message or the store.

    Raises:
        Resend: it is not there, or not what the digest says.
        Reject: the same, too often; or larger than the record says.
        Retry: the store is unreachable.
    """
    payload = inline
    if record.uri is not None:
        try:
            payload = store.get(record.uri, max_bytes=record.size)
        except Missing:
            raise strikes.broken(record, f"payload {record.uri} is not in the store") from None
    whole = digest_of(payload) == record.digest
    if record.uri is not None and not whole:
        # It is not what its name says, and a robot without keys could put nothing in its place.
        store.delete(record.uri)
    if len(payload) != record.size or not whole:
        raise strikes.broken(record, "payload does not match the record's size and digest")
    return payload


def trains(record: Record) -> bool:
    """Whether an admitted record's episode goes into the replay: shadow and eval never train."""
    return record.mode is EpisodeMode.LIVE and not record.evicted
