"""Row 11: somebody who owns the broker and the store, but no key, against a robot in its states.

The table is TUF's: forged, mixed and matched, replayed, frozen, fast-forwarded, endless. What must
never happen is that the robot's next episode would run under anything it was not given by learner
and operator both; what must happen is that it says why, and follows the next true document.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet_contract import names
from fleet_contract.messages import (
    Assignment,
    AssignmentRole,
    Manifest,
    PolicyRef,
    canonical,
    digest_of,
)
from fleet_contract.names import Signatory
from fleet_contract.trust import PrivateKey
from fleet_runtime import trust
from fleet_runtime.artifacts import Store
from fleet_runtime.policies.bundle import MODEL, to_files
from fleet_runtime.robot.desk import Desk
from fleet_runtime.robot.fetch import MAX_BUNDLE, Library, Memory
from fleet_runtime.robot.follower import Follower
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.swap import Slot
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.nats import lose_streams, make_streams, running_broker
from helpers.world import SPEC, TASKS, assignment, flow, publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    from helpers.nats import Broker

HOUR = 3_600_000
HELD = 5  # the epoch that the robot knows, where it knows one
PATIENCE = 60.0
"""Seconds for the robot to say something."""
RETIRED = PrivateKey.generate()
"""A key of the operator's and the learner's that was taken out of the public keys."""


class Target:
    """A robot's follower over a real broker and a store, and what it says."""

    def __init__(self, folder: Path, wire: Wire, job: str) -> None:
        self.wire, self.job, self.uid, self._folder = wire, job, f"{job}-uid", folder
        self.store = Store(f"file://{folder}/objects")
        self.good = publish(self.store, 1, job_uid=self.uid)
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.start()

    def start(self) -> None:
        """The program, from what lies on its disk."""
        public = keys.trust(self._folder / "trust")
        self.desk, self.memory = Desk(), Memory(self._folder / "memory.json")
        self.library = Library(
            self.store,
            self._folder / "policies",
            job_uid=self.uid,
            spec=SPEC,
            tasks=TASKS,
            verify=trust.verifier(public, Signatory.LEARNER),
        )
        self.follower = Follower(
            Identity("default", "r0", "robot-uid", self.job, self.uid),
            self.wire,
            self.library,
            self.memory,
            self.desk,
            self._report,
            poll=0.2,
            verify=trust.verifier(public, Signatory.OPERATOR),
        )

    def _report(self, ref: PolicyRef | None, _: int, reason: str, role: AssignmentRole) -> None:
        self.said.put_nowait(reason)

    async def send(self, data: bytes) -> None:
        await self.wire.store(names.assign_subject("default", self.job), data)

    def document(self, epoch: int, policy: PolicyRef | None, **fields: object) -> Assignment:
        return assignment(epoch, policy, **{"job_uid": self.uid, **fields})

    def drive(self) -> None:
        """An episode begins and ends under what it was given."""
        self.desk.change(Slot.begin)
        self.memory.drive(self.desk.slot.active)
        self.desk.change(lambda slot: slot.end(clean=True))

    @property
    def next(self) -> int:
        """The version that the next episode would run under; 0: none."""
        chosen = self.desk.slot.next
        return chosen.ref.sequence if chosen else 0

    async def comes_to(self, sequence: int) -> bool:
        """Awaits a change of the desk, in a thread: that is how the control thread hears of it."""

        def wait() -> bool:
            with self.desk._changed:
                return self.desk._changed.wait_for(lambda: self.next == sequence, PATIENCE)

        return await asyncio.to_thread(wait)

    async def answer(self, drives: int, *, waits: bool) -> str:
        """What it says, or with `waits` what it waits for; nothing where it takes something up."""
        end = time.monotonic() + PATIENCE
        while self.next == drives and time.monotonic() < end:
            if waits and self.follower.fault:
                return self.follower.fault
            if not self.said.empty():
                return self.said.get_nowait()
            await asyncio.sleep(0.02)
        return ""


async def fresh(_: Target) -> int:
    """Its disk is empty."""
    return 0


async def running(target: Target) -> int:
    """It follows a document and drives version 1."""
    await target.send(target.document(HELD, target.good).seal(keys.OPERATOR.sign))
    assert await target.comes_to(1)
    target.drive()
    return 1


async def back(target: Target) -> int:
    """It was away for days: it has its disk, and drives from there."""
    loaded = target.library.load(target.good, HELD)
    target.memory.hold((0, HELD))
    target.memory.drive(loaded)
    target.start()
    known = target.library.load(target.good, target.memory.epoch)
    target.desk.change(lambda slot: slot.offer(known))
    target.drive()
    return 1


STATES = {"fresh disk": fresh, "running a version": running, "back after days": back}


@asynccontextmanager
async def attacked(broker: Broker, folder: Path, state: str) -> AsyncIterator[tuple[Target, int]]:
    job = f"job-{next(_numbers)}"
    await make_streams(broker.url, job, f"{job}-uid")
    wire = await Wire.connect(broker.url, "robot")
    target = Target(folder, wire, job)
    if state == "back after days":
        drives = await back(target)
    following = asyncio.create_task(target.follower.run())
    try:
        if state != "back after days":
            drives = await STATES[state](target)
        yield target, drives
    finally:
        following.cancel()
        await asyncio.wait([following])
        await wire.close()
        await lose_streams(broker.url, target.uid)  # each reserves room at the server they share


_numbers = count(1)


# --- what is sent: a forged document, or a true one that names a forged policy ----------------


def evil(target: Target, **fields: Any) -> Assignment:
    """What the attacker wants followed: version 2, which learner and store really have."""
    return target.document(HELD + 5, publish(target.store, 2, job_uid=target.uid), **fields)


def envelope(sealed: bytes, **change: Any) -> bytes:
    return canonical(json.loads(sealed) | change)


def body(sealed: bytes, **change: Any) -> bytes:
    found = json.loads(sealed)
    return canonical(found | {"body": found["body"] | change})


def sealed(target: Target, key: PrivateKey = keys.OPERATOR, **fields: Any) -> bytes:
    return evil(target, **fields).seal(key.sign)


def as_of_kind(target: Target, kind: str, version: int = 1) -> bytes:
    """Truly signed by the operator, but as something else."""
    told = evil(target).model_dump(mode="json", by_alias=True, exclude_none=True)
    key_id, sig = keys.OPERATOR.sign(canonical({"kind": kind, "v": version, "body": told}))
    return canonical({"kind": kind, "v": version, "keyId": key_id, "body": told, "sig": sig})


def ago(hours: int) -> dict[str, Any]:
    """The dates of a document that was made so long ago."""
    made = time.time_ns() // 1_000_000 - hours * HOUR
    return {"issued_at_ms": made, "expires_at_ms": made + 24 * HOUR}


def naming(target: Target, change: Callable[[Manifest], bytes], sequence: int = 2) -> bytes:
    """The operator was deceived: it truly assigns a manifest that the attacker made."""
    real = publish(target.store, sequence, job_uid=target.uid)
    data = change(Manifest.open(target.store.get(real.uri)))
    key = names.version_key(target.uid, 90)
    target.store.create(key, data)
    ref = PolicyRef(sequence=sequence, digest=digest_of(data), uri=key)
    return target.document(HELD + 5, ref).seal(keys.OPERATOR.sign)


def seal(key: PrivateKey, **change: Any) -> Callable[[Manifest], bytes]:
    return lambda made: made.model_copy(update=change).seal(key.sign)


def of_another_kind(target: Target) -> bytes:
    """Files that build another policy than the manifest says."""
    return naming(target, seal(keys.LEARNER, architecture="other"))


def for_another_robot(target: Target) -> bytes:
    twice = replace(SPEC, observation=(*SPEC.observation, *SPEC.observation))
    ref = publish(target.store, 2, flow(twice), job_uid=target.uid)
    return target.document(HELD + 5, ref).seal(keys.OPERATOR.sign)


def another_jobs(target: Target) -> bytes:
    theirs = publish(target.store, 2, job_uid="other-uid")
    key = names.version_key(target.uid, 90)
    target.store.create(key, target.store.get(theirs.uri))
    ref = theirs.model_copy(update={"uri": key})
    return target.document(HELD + 5, ref).seal(keys.OPERATOR.sign)


def outside(target: Target) -> bytes:
    theirs = publish(target.store, 2, job_uid="other-uid")
    return target.document(HELD + 5, theirs).seal(keys.OPERATOR.sign)


def endless(made: Manifest) -> bytes:
    (first, *rest) = made.files
    huge = first.model_copy(update={"size": MAX_BUNDLE + 1})
    return made.model_copy(update={"files": (huge, *rest)}).seal(keys.LEARNER.sign)


def mirrored(target: Target, file: str, change: Callable[[bytes], bytes | None]) -> bytes:
    """All is true, and the store gives something else for a file of it, or for its manifest."""
    ref = publish(target.store, 2, job_uid=target.uid)
    files = Manifest.open(target.store.get(ref.uri)).files
    blobs = {one.name: names.blob_key(target.uid, one.digest) for one in files}
    key = blobs.get(file, ref.uri)
    other = change(target.store.get(key))
    target.store.delete(key)
    if other is not None:
        target.store.create(key, other)
    return target.document(HELD + 5, ref).seal(keys.OPERATOR.sign)


def flipped(sealed: bytes) -> bytes:
    signature = json.loads(sealed)["sig"]
    return envelope(sealed, sig=("0" if signature[0] != "0" else "1") + signature[1:])


class Attack(NamedTuple):
    """What is sent, and the words in which it is refused or, with `waits`, waited for."""

    make: Callable[[Target], bytes]
    words: str
    believed: bool = False  # the document was true; what it names was not
    waits: bool = False  # the robot asks again: another store may give what this one does not
    states: Collection[str] = tuple(STATES)


DOCUMENTS: dict[str, tuple[Callable[[Target], bytes], str]] = {
    "unsigned": (lambda t: evil(t).seal(), "no signature of the operator"),
    "signed by a stranger": (lambda t: sealed(t, keys.STRANGER), "nobody's that is known"),
    "signed by the learner": (lambda t: sealed(t, keys.LEARNER), "the learner's, not the oper"),
    "a stranger's signature under the operator's name": (
        lambda t: envelope(sealed(t, keys.STRANGER), keyId=keys.OPERATOR.id),
        "does not fit what it says",
    ),
    "under the learner's name": (
        lambda t: envelope(sealed(t), keyId=keys.LEARNER.id),
        "the learner's, not the operator's",
    ),
    "its signature taken away": (lambda t: envelope(sealed(t), sig=""), "no signature"),
    "one digit of its signature changed": (lambda t: flipped(sealed(t)), "does not fit"),
    "another version put in": (
        lambda t: body(
            t.document(HELD + 5, t.good).seal(keys.OPERATOR.sign),
            default=evil(t).model_dump(mode="json", by_alias=True)["default"],
        ),
        "does not fit",
    ),
    "fast-forward: its epoch raised": (lambda t: body(sealed(t), epoch=2**40), "does not fit"),
    "freeze: its expiry put off": (
        lambda t: body(sealed(t, **ago(48)), expiresAtMs=2**50),
        "does not fit",
    ),
    "freeze: a true one that is out of date": (lambda t: sealed(t, **ago(25)), "expired"),
    "rollback: a true one of days ago": (
        lambda t: t.document(1, evil(t).default, **ago(72)).seal(keys.OPERATOR.sign),
        "expired|older",
    ),
    "a true one of another job": (lambda t: sealed(t, job_uid="other-uid"), "of job other-uid"),
    "a document of another kind": (lambda t: as_of_kind(t, "Manifest"), "expected Assignment"),
    "a document of another format": (
        lambda t: as_of_kind(t, "Assignment", 2),
        "expected Assignment v1, found Assignment v2",
    ),
    "signed with a key that was taken back": (lambda t: sealed(t, RETIRED), "nobody's that"),
    "endless: brackets without end": (lambda _: b"[" * 200_000, "not a signed document"),
}
POLICIES: dict[str, tuple[Callable[[Target], bytes], str]] = {
    "policy: unsigned": (lambda t: naming(t, Manifest.seal), "no signature of the learner"),
    "policy: signed by a stranger": (lambda t: naming(t, seal(keys.STRANGER)), "nobody's that"),
    "policy: signed by the operator": (
        lambda t: naming(t, seal(keys.OPERATOR)),
        "the operator's, not the learner's",
    ),
    "policy: signed with a key that was taken back": (
        lambda t: naming(t, seal(RETIRED)),
        "nobody's that is known",
    ),
    "policy: changed after it was signed": (
        lambda t: naming(t, lambda made: body(made.seal(keys.LEARNER.sign), step=10**6)),
        "does not fit what it says",
    ),
    "mix and match: another version's manifest": (
        lambda t: naming(t, seal(keys.LEARNER, sequence=7)),
        "is version 7 of job",
    ),
    "mix and match: another job's manifest": (another_jobs, "of job other-uid"),
    "mix and match: out of the job's own place": (outside, "outside"),
    "policy: its files build another kind": (of_another_kind, "its manifest says"),
    "policy: for another robot": (for_another_robot, "is for another robot"),
    "policy: endless": (lambda t: naming(t, endless), "too many files or bytes"),
    "mirror: a file that has no end": (
        lambda t: mirrored(t, MODEL, lambda data: data * 2),
        "has more than",
    ),
}
MIRRORS: dict[str, tuple[Callable[[Target], bytes], str]] = {
    "mirror: another version's weights": (
        lambda t: mirrored(t, MODEL, lambda _: to_files(flow(seed=7))[MODEL]),
        "has digest sha256:.*, wanted",
    ),
    "mirror: another version's manifest": (
        lambda t: mirrored(t, "", lambda _: t.store.get(t.good.uri)),
        "has digest sha256:.*, wanted",
    ),
    "mirror: a file that it does not give": (
        lambda t: mirrored(t, MODEL, lambda _: None),
        "may still be on its way",
    ),
}
ATTACKS = {
    **{name: Attack(*one) for name, one in DOCUMENTS.items()},
    "rollback: a true one of before, in time": Attack(
        lambda t: t.document(HELD - 1, evil(t).default).seal(keys.OPERATOR.sign),
        r"is older than \(0, 5\), which is held",
        states=("running a version", "back after days"),  # a fresh disk knows of no newer one
    ),
    **{name: Attack(*one, believed=True) for name, one in POLICIES.items()},
    **{name: Attack(*one, believed=True, waits=True) for name, one in MIRRORS.items()},
}
CASES = [(name, state) for name, one in ATTACKS.items() for state in one.states]


async def attempted(broker: Broker, folder: Path, name: str, state: str) -> dict[str, Any]:
    """What came of it, and of the true document after it."""
    attack = ATTACKS[name]
    async with attacked(broker, folder, state) as (target, drives):
        held = (0, HELD + 5) if attack.believed else target.memory.order
        await target.send(attack.make(target))
        said = await target.answer(drives, waits=attack.waits)
        kept = target.memory.active.sequence if target.memory.active else 0
        rules = {
            f"the next episode would run under {target.next}, not {drives}": target.next != drives,
            # A restart would drive no other, and remembers no forged epoch.
            f"version {kept} is on its disk, not {drives}": kept != drives,
            f"it holds {target.memory.order}, not {held}": target.memory.order != held,
            f"it says {said!r}": not re.search(attack.words, said),
        }
        better = publish(target.store, 3, flow(seed=9), job_uid=target.uid)
        await target.send(target.document(HELD + 9, better).seal(keys.OPERATOR.sign))
        follows = await target.comes_to(3)
        rules["it does not follow the next true document"] = not follows
        rules["it still complains"] = bool(follows and target.follower.disbelieved)
    return {"wrong": [rule for rule, broken in rules.items() if broken], "said": said}


async def played(folder: Path, name: str, state: str) -> dict[str, Any]:
    """The same, with a broker of its own."""
    with running_broker(folder / "nats") as broker:
        return await attempted(broker, folder, name, state)
