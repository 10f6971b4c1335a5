"""Publishing: old or new, never half, wherever the learner dies."""

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fleet_contract import names
from fleet_contract.errors import Fenced, FleetError
from fleet_contract.messages import (
    Announcement,
    Assignment,
    Lineage,
    Manifest,
    PolicyRef,
    digest_of,
)
from fleet_contract.names import Stream
from fleet_contract.resources.learning import Weights
from fleet_runtime.artifacts import Store
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.learner import epoch
from fleet_runtime.learner.announce import Pace, Publisher
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.publish import Snapshot, Version, Versions
from fleet_runtime.policies import delta as codec
from fleet_runtime.policies.bundle import MODEL, from_files
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.published import bundle
from fleet_runtime.waiting import event_within
from fleet_runtime.wire import Wire
from helpers.learner import JOB, JOB_UID, NAMESPACE
from helpers.nats import Broker, make_streams, running_broker

SPACES = Spaces(
    tasks=("push",), observation_size=3, action_low=(-1.0, -1.0), action_high=(1.0, 1.0)
)
SUBJECT = names.announce_subject(NAMESPACE, JOB)
CONTROL = names.stream(JOB_UID, Stream.CONTROL)


def snapshot(step: int) -> Snapshot:
    """A policy that moves a little with each step."""
    torch.manual_seed(0)
    policy = FlowPolicy(
        FlowConfig(spaces=SPACES, hidden=16, layers=2), Normalization.identity(3, 2)
    )
    with torch.no_grad():
        for weight in policy.net.parameters():
            weight.add_(1e-3 * step * torch.randn(weight.shape))
    return Snapshot(policy, step, {"loss": 0.5}, Lineage(first=0, through=0, episodes=1))


class Died(BaseException):
    """kill -9, as far as a call can feel it."""


class Mortal(Store):
    """A real store whose program dies before or after its n-th creation."""

    def __init__(self, url: str, dies_at: int, *, after: bool) -> None:
        super().__init__(url)
        self._count = itertools.count()
        self._dies_at = dies_at
        self._after = after

    def create(self, key: str, data: bytes) -> None:
        dies = next(self._count) == self._dies_at
        if dies and not self._after:
            raise Died
        super().create(key, data)
        if dies:
            raise Died


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'store'}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


def versions(store: Store, holder: int) -> Versions:
    found = Versions(store, JOB_UID, holder, control_hz=20.0)
    found.recover()
    return found


def whole(store: Store, version: Version) -> bool:
    """Whether a robot could fetch, verify and build it."""
    manifest = Manifest.open(store.get(version.ref.uri, version.ref.digest))
    files = {f.name: store.get(names.blob_key(JOB_UID, f.digest), f.digest) for f in manifest.files}
    return from_files(files).spaces == SPACES


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(5))
def test_dying_around_any_creation_leaves_whole_versions_and_growing_sequences(
    url: str, step: int, after: bool
) -> None:
    store = Store(url)
    old = versions(store, 1).publish(snapshot(1))
    with pytest.raises(Died):
        versions(Mortal(url, step, after=after), 1).publish(snapshot(2))
    left = versions(store, 2).last
    assert left is not None
    assert left.ref.sequence == (2 if (step, after) == (4, True) else 1)
    assert whole(store, left)
    new = versions(store, 2).publish(snapshot(3))
    assert new.ref.sequence == left.ref.sequence + 1
    assert new.manifest.parent == left.ref.digest
    assert whole(store, new)
    assert whole(store, old)


def test_a_learner_with_a_newer_one_beside_it_publishes_nothing_more(url: str) -> None:
    store = Store(url)
    assert epoch.claim(store, JOB_UID, "old") == 1
    assert epoch.claim(store, JOB_UID, "new") == 2
    with pytest.raises(Fenced, match="epoch 2"):
        versions(store, 1).publish(snapshot(1))
    assert versions(store, 2).last is None


def test_a_sequence_that_a_newer_learner_took_fences_and_an_older_ones_is_passed_over(
    url: str,
) -> None:
    store = Store(url)
    old, new = versions(store, 1), versions(store, 2)
    old.publish(snapshot(1))
    assert new.publish(snapshot(2)).ref.sequence == 2
    with pytest.raises(Fenced, match="version 2"):
        old.publish(snapshot(3))


def test_weights_travel_rounded_and_statistics_as_they_are(url: str) -> None:
    store = Store(url)
    found = Versions(store, JOB_UID, 1, 20.0, Weights.BFLOAT16).publish(snapshot(1))
    assert {tensor.dtype for tensor in found.manifest.tensors} == {"bfloat16"}
    told, ours = from_files(bundle(store, found.manifest)), snapshot(1).policy
    for name, weight in ours.tensors().items():
        assert torch.equal(told.tensors()[name], weight.bfloat16().float())
    assert all(torch.equal(told.statistics()[n], x) for n, x in ours.statistics().items())


def test_a_weight_that_rounding_makes_infinite_is_never_published(url: str) -> None:
    large = snapshot(1)
    next(iter(large.policy.tensors().values())).view(-1)[0] = torch.finfo(torch.float32).max
    Versions(Store(url), JOB_UID, 1, 20.0).publish(large)
    with pytest.raises(FleetError, match="not finite"):
        Versions(Store(url), JOB_UID, 1, 20.0, Weights.BFLOAT16).publish(large)


def test_a_version_is_told_from_its_parent_and_from_what_the_fleet_has(url: str) -> None:
    store = Store(url)
    learner = Versions(store, JOB_UID, 1, 20.0, Weights.BFLOAT16)
    first, second, _ = (learner.publish(snapshot(step)) for step in (1, 2, 3))
    learner = Versions(
        store, JOB_UID, 2, 20.0, Weights.BFLOAT16
    )  # memory is gone, the store is not
    learner.recover()
    gone = PolicyRef(sequence=9, digest=digest_of(b""), uri=names.version_key(JOB_UID, 9))
    theirs = first.ref.model_copy(update={"uri": names.version_key("another", 1)})
    found = learner.publish(snapshot(4), [first.ref, gone, theirs])
    assert [delta.base.sequence for delta in found.manifest.deltas] == [3, 1]
    wanted = bundle(store, found.manifest)
    for told in found.manifest.deltas:
        base = bundle(store, Manifest.open(store.get(told.base.uri, told.base.digest)))
        (part,) = told.files
        made = codec.decode(
            base[part.name], store.get(names.blob_key(JOB_UID, part.digest)), len(wanted[MODEL])
        )
        assert (part.name, made) == (MODEL, wanted[MODEL])
    assert (
        found.delta_size == min(told.size for told in found.manifest.deltas) < second.manifest.size
    )


def test_a_version_made_otherwise_is_not_told_from_its_parent(url: str) -> None:
    learner = versions(Store(url), 1)
    learner.publish(snapshot(1))
    other = FlowPolicy(FlowConfig(spaces=SPACES, hidden=8), Normalization.identity(3, 2))
    found = learner.publish(dataclasses.replace(snapshot(2), policy=other))
    assert (found.manifest.deltas, found.delta_size) == ((), None)


def test_weights_that_are_not_finite_are_never_published(url: str) -> None:
    bad = snapshot(1)
    next(iter(bad.policy.tensors().values())).fill_(float("nan"))
    with pytest.raises(FleetError, match="lower the learning rate"):
        versions(Store(url), 1).publish(bad)


@pytest.mark.parametrize(
    ("steps", "elapsed", "first", "due"),
    [
        (0, 0.0, True, True),
        (25, 5.0, False, True),
        (24, 5.0, False, False),
        (25, 4.9, False, False),
    ],
)
def test_a_version_is_due_after_enough_updates_and_enough_time(
    steps: int, elapsed: float, first: bool, due: bool
) -> None:
    assert Pace(25, 5.0).due(steps, elapsed, first=first) is due


@contextlib.asynccontextmanager
async def publishing(url: str, found: Versions, **over: Any) -> AsyncIterator[Publisher]:
    wire = await Wire.connect(url, "learner")
    publisher = Publisher(
        versions=found,
        pace=Pace(1, 0.0),
        progress=Progress(),
        namespace=NAMESPACE,
        job=JOB,
        job_uid=JOB_UID,
        **over,
    )
    publisher.resume(found.last, 0)
    task = asyncio.create_task(publisher.run(wire))
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await wire.close()


async def announced(url: str, sequence: int) -> Announcement:
    """The last announcement, once it is of this sequence."""
    wire = await Wire.connect(url, "operator")
    news = asyncio.Event()

    async def hear(_: str, __: bytes) -> None:
        news.set()

    await wire.subscribe(SUBJECT, hear)
    try:
        async with asyncio.timeout(60):
            while True:
                news.clear()
                data = await wire.last(CONTROL, SUBJECT)
                if data and Announcement.decode(data).policy.sequence >= sequence:
                    return Announcement.decode(data)
                # The broker may deliver a message a moment before its stream has it.
                await event_within(news, 0.5)
    finally:
        await wire.close()


async def test_a_version_whose_learner_died_before_telling_is_announced_by_the_next(
    broker: Broker, url: str
) -> None:
    await make_streams(broker.url)
    store = Store(url)
    untold = versions(store, 1).publish(snapshot(1))
    async with publishing(broker.url, versions(store, 2)):
        found = await announced(broker.url, 1)
    assert found.policy == untold.ref


async def test_an_announced_version_names_its_parent_and_can_be_fetched(
    broker: Broker, url: str
) -> None:
    await make_streams(broker.url)
    store = Store(url)
    async with publishing(broker.url, versions(store, 1)) as publisher:
        for step in (1, 2):
            publisher.offer(snapshot(step), 0.0)
            found = await announced(broker.url, step)
    assert (found.policy.sequence, found.parent, found.step) == (2, 1, 2)
    last = versions(store, 2).last
    assert last is not None
    assert last.ref == found.policy
    assert whole(store, last)
    assert (found.size, found.delta_size) == (last.manifest.size, last.delta_size)


async def test_a_version_is_told_from_the_one_that_the_fleet_is_assigned(
    broker: Broker, url: str
) -> None:
    await make_streams(broker.url)
    found = versions(Store(url), 1)
    stable = found.publish(snapshot(1)).ref
    found.publish(snapshot(2))
    document = Assignment(job_uid=JOB_UID, epoch=1, issued_at_ms=0, expires_at_ms=1, default=stable)
    wire = await Wire.connect(broker.url, "operator")
    await wire.store(names.assign_subject(NAMESPACE, JOB), document.seal(), stream=CONTROL)
    await wire.close()
    async with publishing(broker.url, found) as publisher:
        publisher.offer(snapshot(3), 0.0)
        await announced(broker.url, 3)
    assert found.last is not None
    assert [delta.base.sequence for delta in found.last.manifest.deltas] == [2, 1]


async def test_a_version_made_while_the_broker_is_away_is_announced_when_it_is_back(
    broker: Broker, url: str
) -> None:
    await make_streams(broker.url)
    async with publishing(broker.url, versions(Store(url), 1)) as publisher:
        publisher.offer(snapshot(1), 0.0)
        await announced(broker.url, 1)
        broker.kill()
        publisher.offer(snapshot(2), 0.0)
        broker.start()
        assert (await announced(broker.url, 2)).step == 2
