"""Somebody who owns the broker and the store, but no key, against a robot in each of its states.

The table is TUF's: forged, mixed and matched, replayed, frozen, fast-forwarded, endless. What must
never happen is that the robot's next episode would run under anything it was not given by learner
and operator both; what must happen is that it says why, and follows the next true document.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

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
from fleet_runtime.robot.desk import Desk
from fleet_runtime.robot.fetch import MAX_BUNDLE, Library, Memory
from fleet_runtime.robot.follower import Follower
from fleet_runtime.robot.identity import Identity
from fleet_runtime.robot.swap import Slot
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.nats import Broker, lose_streams, make_streams, running_broker
from helpers.world import SPEC, TASKS, assignment, flow, publish

HOUR = 3_600_000
HELD = 5  # the epoch that the robot knows, where it knows one
RETIRED = PrivateKey.generate()
"""A key of the operator's and the learner's that was taken out of the public keys."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("nats")) as running:
        yield running


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

    async def until_next(self, sequence: int) -> None:
        """Awaits a change of the desk, in a thread: that is how the control thread hears of it."""

        def wait() -> None:
            with self.desk._changed:
                assert self.desk._changed.wait_for(lambda: self.next == sequence, 30)

        await asyncio.to_thread(wait)


async def fresh(_: Target) -> int:
    """Its disk is empty."""
    return 0


async def running(target: Target) -> int:
    """It follows a document and drives version 1."""
    await target.send(target.document(HELD, target.good).seal(keys.OPERATOR.sign))
    await target.until_next(1)
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


def flipped(sealed: bytes) -> bytes:
    signature = json.loads(sealed)["sig"]
    return envelope(sealed, sig=("0" if signature[0] != "0" else "1") + signature[1:])


ATTACKS: dict[str, tuple[Callable[[Target], bytes], str]] = {
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
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_attack_is_accepted_and_the_robot_goes_on(
    broker: Broker, tmp_path: Path, attack: str, state: str
) -> None:
    make, reason = ATTACKS[attack]
    async with attacked(broker, tmp_path, state) as (target, drives):
        held = target.memory.order
        data = make(target)
        await target.send(data)
        async with asyncio.timeout(60):
            said = await target.said.get()
        assert re.search(reason, said), said
        assert target.next == drives
        # Also what is on the disk: a restart would drive no other, and remembers no forged epoch.
        assert (target.memory.active.sequence if target.memory.active else 0) == drives
        true = attack.startswith(("policy", "mix"))  # the document was; what it names was not
        assert target.memory.order == ((0, HELD + 5) if true else held)
        better = publish(target.store, 3, flow(seed=9), job_uid=target.uid)
        await target.send(target.document(HELD + 9, better).seal(keys.OPERATOR.sign))
        await target.until_next(3)
        assert target.follower.disbelieved == ""


async def test_an_older_document_is_refused_though_it_is_true_and_not_out_of_date(
    broker: Broker, tmp_path: Path
) -> None:
    for state in ("running a version", "back after days"):
        async with attacked(broker, tmp_path / state, state) as (target, drives):
            old = target.document(HELD - 1, evil(target).default)
            await target.send(old.seal(keys.OPERATOR.sign))
            async with asyncio.timeout(60):
                assert "is older than (0, 5), which is held" in await target.said.get()
            assert target.next == drives
            assert target.follower.disbelieved


async def test_the_true_document_seen_again_ends_the_complaint(
    broker: Broker, tmp_path: Path
) -> None:
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        await target.send(sealed(target, keys.STRANGER))
        async with asyncio.timeout(60):
            await target.said.get()
        assert target.follower.disbelieved
        followed = target.follower._followed
        assert followed is not None
        await target.follower._hear("", followed)
        assert target.follower.disbelieved == ""


async def test_a_document_that_went_out_of_date_does_not_stop_who_runs_by_it(
    broker: Broker, tmp_path: Path
) -> None:
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        await target.send(sealed(target, **ago(25)))
        async with asyncio.timeout(60):
            assert "expired" in await target.said.get()
        target.drive()
        assert target.next == 1


async def test_keys_follow_one_another_while_documents_of_both_are_about(
    broker: Broker, tmp_path: Path
) -> None:
    after = PrivateKey.generate()
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        learner = publish(target.store, 2, job_uid=target.uid, sign=after.sign)
        await target.send(target.document(HELD + 1, learner).seal(keys.OPERATOR.sign))
        async with asyncio.timeout(60):
            assert f"signed with key {after.id}, nobody's" in await target.said.get()
        keys.trust(
            tmp_path / "trust", learner=(keys.LEARNER, after), operator=(keys.OPERATOR, after)
        )
        await target.send(target.document(HELD + 2, learner).seal(after.sign))
        await target.until_next(2)
        both = publish(target.store, 3, job_uid=target.uid)  # by the old key still
        await target.send(target.document(HELD + 3, both).seal(keys.OPERATOR.sign))
        await target.until_next(3)
        keys.trust(tmp_path / "trust", learner=(after,), operator=(after,))
        old = target.document(HELD + 4, target.good).seal(keys.OPERATOR.sign)
        await target.send(old)
        async with asyncio.timeout(60):
            assert f"signed with key {keys.OPERATOR.id}, nobody's" in await target.said.get()
        assert target.next == 3


async def test_a_robot_whose_public_keys_are_gone_believes_nothing_and_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        (tmp_path / "trust" / Signatory.OPERATOR).unlink()
        await target.send(sealed(target))
        async with asyncio.timeout(60):
            assert "must hold the public keys of the fleet" in await target.said.get()
        assert target.next == 1
        keys.trust(tmp_path / "trust")
        await target.until_next(2)  # the same document, at the next look
