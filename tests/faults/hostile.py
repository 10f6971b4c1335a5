"""Row 10: what no robot of ours would send, by families, through broker, ingest and journal.

Each round is a message of `mallory` in which a bad record of every family stands between two sound
ones, one in the name of `ada`, one that is no batch, and ada's own. The bytes are made here, from
the format's description, not by the codec that must refuse them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors.numpy
import zstandard

from faults.stream import PATIENCE, plane
from fleet_contract import names
from fleet_contract.errors import RejectCode
from fleet_contract.messages import Receipt, Record, digest_of
from fleet_contract.names import Channel, Stream
from fleet_runtime.experience import codec
from fleet_runtime.experience.types import ARRAYS, MAX_STEPS, Episode
from fleet_runtime.learner.journal import Journal
from fleet_runtime.wire import Wire
from helpers.learner import (
    JOB,
    JOB_UID,
    NAMESPACE,
    episode,
    experience_subject,
    message,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.stream import Plane

MALLORY, ADA = "mallory", "ada"
GROWTH = 1.10
"""Most the learner's memory may be after all of it, beside what it was after the first part."""
AWAIT_EVERY = 50  # rounds: as much as lies in the broker
FLOATS = ("observation", "action", "policy_action", "reward", "observation_age")


class Bad(NamedTuple):
    """A record, the payload sent with it, and why it must be refused."""

    record: Record
    payload: bytes
    codes: frozenset[RejectCode]
    times: int = 1  # it is in its message


def frame(header: bytes, arrays: dict[str, Any]) -> bytes:
    body = len(header).to_bytes(4, "big") + header + safetensors.numpy.save(arrays)
    return b"FLEP\x01" + zstandard.ZstdCompressor(write_checksum=True).compress(body)


def packed(made: Episode, facts: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    """The episode with other facts or arrays than an episode may have."""
    facts = {name: getattr(made, name) for name in codec.FACTS} | facts
    found = {name: getattr(made, name) for name in ARRAYS} | arrays
    kept = {name: np.ascontiguousarray(one) for name, one in found.items() if one is not None}
    return frame(json.dumps(facts).encode(), kept)


def _sound(n: int) -> Episode:
    return episode(f"{MALLORY}-{n}", robot=MALLORY, steps=8, seed=n)


def _told(n: int, payload: bytes, *codes: RejectCode, times: int = 1, **over: Any) -> Bad:
    told = record(_sound(n), n, payload).model_copy(update=over)
    return Bad(told, payload, frozenset(codes), times)


def corrupt(n: int, rng: random.Random) -> Bad:
    """Bits of the content turned over, before the digest was made or on the way; or other content,
    sound by itself, under the digest."""
    sound = codec.encode(_sound(n))
    if rng.random() < 0.2:
        other = codec.encode(dataclasses.replace(_sound(n), reward=np.ones(8, np.float32)))
        return _told(n, other, RejectCode.MALFORMED, times=3, digest=digest_of(sound))
    data = bytearray(sound)
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(16, len(data))] ^= 1 << rng.randrange(8)
    if bytes(data) == sound:  # twice the same bit
        data[-1] ^= 1
    if rng.random() < 0.5:
        return _told(n, bytes(data), RejectCode.MALFORMED)
    return _told(n, bytes(data), RejectCode.MALFORMED, times=3, digest=digest_of(sound))


def truncated(n: int, rng: random.Random) -> Bad:
    data = codec.encode(_sound(n))
    return _told(n, data[: rng.randrange(len(data))], RejectCode.MALFORMED)


def not_finite(n: int, rng: random.Random) -> Bad:
    made = _sound(n)
    name = rng.choice(FLOATS)
    array = getattr(made, name).copy()
    array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return _told(n, packed(made, {}, {name: array}), RejectCode.NON_FINITE)


def misshapen(n: int, rng: random.Random) -> Bad:
    made = _sound(n)
    name = rng.choice(sorted(ARRAYS))
    array = getattr(made, name)
    other: np.ndarray[Any, Any] = rng.choice(
        [array[:-1], array[None], array.reshape(-1)[:1], array[..., None], np.zeros((), np.float32)]
    )
    return _told(n, packed(made, {}, {name: other}), RejectCode.SHAPE, RejectCode.TOO_LARGE)


def mistyped(n: int, rng: random.Random) -> Bad:
    made = _sound(n)
    name = rng.choice(sorted(ARRAYS))
    array = getattr(made, name)
    others = [np.float64, np.float16, np.int64, np.uint8, np.float32, np.bool_]
    other = rng.choice([one for one in others if one != array.dtype])
    return _told(n, packed(made, {}, {name: array.astype(other)}), RejectCode.SHAPE)


@functools.cache
def _long() -> bytes:
    steps = MAX_STEPS + 1
    made = episode(f"{MALLORY}-long", robot=MALLORY, steps=1)
    arrays = {
        name: np.zeros((steps + axes.startswith("T+1"), *getattr(made, name).shape[1:]), dtype)
        for name, (dtype, axes) in ARRAYS.items()
    }
    return packed(made, {}, arrays)


def oversized(n: int, rng: random.Random) -> Bad:
    if rng.random() < 0.5:
        return _told(n, _long(), RejectCode.TOO_LARGE)
    size = codec.MAX_BYTES + rng.randint(1, 2**40)
    uri = names.payload_key(JOB_UID, digest_of(b"x"))
    return _told(n, b"", RejectCode.TOO_LARGE, size=size, digest=digest_of(b"x"), uri=uri)


def unknown(n: int, rng: random.Random) -> Bad:
    """A task, a word or a format that nobody here knows."""
    made = _sound(n)
    fields: list[dict[str, Any]] = [
        {"task": "juggle"},
        {"outcome": "splendid"},
        {"mode": "party"},
        {"policy_sequence": "one"},
        {"duration_s": None},
        {"id": ""},
    ]
    which = rng.randrange(len(fields) + 3)
    if which < len(fields):
        codes = RejectCode.MALFORMED, RejectCode.UNKNOWN_TASK
        return _told(n, packed(made, fields[which], {}), *codes)
    if which == len(fields):
        return _told(n, packed(made, {}, {rng.choice(sorted(ARRAYS)): None}), RejectCode.MALFORMED)
    if which == len(fields) + 1:
        return _told(n, codec.encode(made), RejectCode.UNKNOWN_TASK, task="juggle")
    data = bytearray(codec.encode(made))
    data[rng.randrange(5)] ^= 1 << rng.randrange(8)
    return _told(n, bytes(data), RejectCode.MALFORMED)


@functools.cache
def _bombs() -> list[bytes]:
    """Frames that unpack to more than is taken, that say so falsely, and one that is just large."""
    pack = zstandard.ZstdCompressor(level=3)
    lies = bytearray(pack.compress(bytes(1000)))
    huge = bytes(lies[:4]) + b"\xe0" + (2**42).to_bytes(8, "little") + bytes(lies[7:])
    little = bytes(lies[:4]) + b"\x20\x05" + bytes(lies[7:])
    stream = pack.compressobj()  # of no size that it would tell
    silent = stream.compress(bytes(300 * 2**20)) + stream.flush()
    return [
        b"FLEP\x01" + one
        for one in (
            pack.compress(bytes(300 * 2**20)),
            silent,
            huge,
            little,
            pack.compress(bytes(32 * 2**20)),
        )
    ]


def bomb(n: int, rng: random.Random) -> Bad:
    return _told(n, rng.choice(_bombs()), RejectCode.TOO_LARGE, RejectCode.MALFORMED)


FAMILIES: dict[str, Callable[[int, random.Random], Bad]] = {
    "corrupt": corrupt,
    "truncated": truncated,
    "NaN, Inf": not_finite,
    "shape": misshapen,
    "number type": mistyped,
    "oversized": oversized,
    "unknown": unknown,
    "zip bomb": bomb,
}
A_ROUND = len(FAMILIES) + 2  # inputs: with a forged record and bytes that are no batch


class Attack:
    """What was sent and what must come of it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.n = self.rounds = 0
        self.bad: dict[int, tuple[str, Bad]] = {}
        self.good: set[tuple[str, int]] = set()

    def _next(self) -> int:
        self.n += 1
        return self.n

    def _own(self, robot: str, n: int) -> tuple[Record, bytes]:
        self.good.add((robot, n))
        made = episode(f"{robot}-{n}", robot=robot, steps=8, seed=n)
        payload = codec.encode(made)
        return record(made, n, payload), payload

    def round(self) -> list[tuple[str, bytes]]:
        """(subject, data) of each message."""
        self.rounds += 1
        entries = [self._own(MALLORY, self._next())]
        for family, make in FAMILIES.items():
            bad = make(self._next(), self.rng)
            self.bad[bad.record.n] = family, bad
            entries += [(bad.record, bad.payload)] * bad.times
        entries.append(self._own(MALLORY, self._next()))
        true = self._own(ADA, self.rounds)
        return [
            (experience_subject(MALLORY), message(*entries)),
            (experience_subject(MALLORY), self._forged(true)),
            (experience_subject(MALLORY), self.rng.randbytes(self.rng.randrange(300))),
            (experience_subject(ADA), message(true)),
        ]

    def _forged(self, true: tuple[Record, bytes]) -> bytes:
        """Ada's next number with other content, or ada's content."""
        if self.rng.random() < 0.5:
            return message(true)
        junk = self.rng.randbytes(20)
        return message((true[0].model_copy(update={"digest": digest_of(junk), "size": 20}), junk))


def memory(pid: int) -> int:
    """Bytes of a process that lie in RAM."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def attacked(folder: Path, seed: int, inputs: int) -> dict[str, Any]:
    """So many bad inputs, and what came of them and of their neighbours."""
    attack = Attack(random.Random(seed))
    rounds = -(-inputs // A_ROUND)
    async with plane(folder, robots=0) as here:
        wire = await Wire.connect(here.broker.url, "mallory")
        before = 0
        for number in range(1, rounds + 1):
            for subject, data in attack.round():
                await wire.store(subject, data)
            if number % AWAIT_EVERY == 0 or number in {rounds, rounds // 5}:
                await _taken(here, wire)
            if number == rounds // 5:
                before = memory(here.learner.pid)
        await _taken(here, wire)
        grown = memory(here.learner.pid) / before
        through = await _receipted(wire, attack.n)
        await wire.close()
        wrong, refused = _wrong(here, attack)
        code = await here.learner.end()
        held = here.learner.told()[-1].split()[1]
    rules = {
        f"the learner ended with {code}": code != 0,
        f"receipted through {through} of {attack.n}": through != attack.n,
        f"memory grew {grown:.3f} times": grown > GROWTH,
        f"the replay holds {held} of {len(attack.good)}": int(held) != len(attack.good),
    }
    return {
        "wrong": [*wrong, *(rule for rule, broken in rules.items() if broken)],
        "inputs": rounds * A_ROUND,
        "refused": refused,
        "neighbours": len(attack.good),
        "grown": round(grown, 3),
        "mib": before // 2**20,
    }


async def _taken(here: Plane, wire: Wire) -> None:
    """Until the broker holds nothing: all was judged, or the learner is gone."""
    stream = names.stream(JOB_UID, Stream.EXPERIENCE)

    async def messages() -> int:
        state = await wire.stream_state(stream)
        return state.messages if state else 0

    async with asyncio.timeout(PATIENCE):
        while here.learner.alive and await messages():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.05)


async def _receipted(wire: Wire, through: int) -> int:
    """Up to where there is a receipt: it follows the last message's ack."""
    stream = names.stream(JOB_UID, Stream.RECEIPTS)
    whose = names.robot_subject(NAMESPACE, MALLORY, JOB, Channel.RECEIPT)
    found = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while found != through:
                last = await wire.last(stream, whose)
                found = Receipt.open(last).through if last else 0
                await asyncio.sleep(0.05)
    return found


def _wrong(here: Plane, attack: Attack) -> tuple[list[str], int]:
    wrong: list[str] = []
    left, missing = set(attack.good), dict(attack.bad)
    for segment in Journal(here.store, JOB_UID, 10**6).replay():
        for entry in segment.entries:
            key = entry.record.robot, entry.record.n
            if key in left and entry.refusal is None:
                left.discard(key)
                continue
            family, bad = (
                missing.pop(entry.record.n, ("", None)) if key[0] == MALLORY else ("", None)
            )
            if bad is None:
                wrong.append(f"{key} is journaled: {entry.refusal or 'admitted'}")
            elif entry.refusal is None:
                wrong.append(f"{family} {entry.record.n} was admitted")
            elif entry.refusal.code not in bad.codes or not entry.refusal.message:
                wrong.append(f"{family} {entry.record.n}: {entry.refusal.code} {entry.refusal}")
    wrong += [f"{family} {n}: no answer" for n, (family, _) in missing.items()]
    wrong += [f"{robot} {n} is sound and was not admitted" for robot, n in sorted(left)]
    kept = {
        names.quarantine_key(JOB_UID, digest_of(b.payload))
        for _, b in attack.bad.values()
        if b.payload
    }
    wrong += [f"{key} is not in quarantine" for key in sorted(kept) if not here.store.exists(key)]
    return wrong[:10], len(attack.bad) - len(missing)
