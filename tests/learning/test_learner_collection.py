"""What nobody may still want leaves the store, and nothing else does, wherever the learner dies."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import names
from fleet_contract.errors import Fenced
from fleet_contract.messages import Kept, Manifest, PolicyRef, digest_of
from fleet_contract.names import Signatory, Stream
from fleet_contract.resources.learning import Weights
from fleet_runtime import trust
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import collection, epoch
from fleet_runtime.learner.collection import Collector, Named, ripe, steps
from fleet_runtime.learner.publish import Versions
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.policies.bundle import from_files
from fleet_runtime.published import bundle
from fleet_runtime.robot.rebuild import MOST_STEPS, rebuild, route
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.learner import JOB, JOB_UID, NAMESPACE
from helpers.nats import Broker, make_streams, running_broker
from learning.test_learner_publish import SPACES, Died, announced, publishing, snapshot, versions

ALL = Kept(job_uid=JOB_UID, before=1)


def tells(*bases: int) -> Named:
    return Named(frozenset(), frozenset(), frozenset(bases))


@pytest.mark.parametrize(
    ("bases", "whole", "between"),
    [
        pytest.param({3: [2], 2: [1], 1: []}, {3}, {1, 2}, id="parent after parent"),
        pytest.param({3: [2], 2: [1], 1: []}, {1, 3}, {2}, id="up to one that is kept"),
        pytest.param({3: [2, 1], 2: [1]}, {3}, {2}, id="what is gone already is not there"),
        pytest.param({2: [1], 1: [2]}, {2}, {1}, id="a circle"),
        pytest.param(
            {n: [n - 1] for n in range(1, 21)},
            {20},
            set(range(20 - MOST_STEPS, 20)),
            id="no further than a robot walks",
        ),
    ],
)
def test_what_lies_between_versions(
    bases: Mapping[int, list[int]], whole: set[int], between: set[int]
) -> None:
    assert steps(whole, bases, lambda one: tells(*bases[one])) == between


@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=12))
def test_nothing_goes_that_was_of_use_within_the_grace(looks: list[set[str]]) -> None:
    """A look a second; three seconds of grace."""
    since: dict[str, float] = {}
    for now, useless in enumerate(looks):
        going, since = ripe(useless, since, now, 3.0)
        for key in "abcd":
            lately = looks[max(0, now - 3) : now + 1]
            assert (key in going) == (len(lately) == 4 and all(key in one for one in lately))


class Mortal(Store):
    """A store whose program dies at its n-th removal."""

    def __init__(self, url: str, dies_at: int) -> None:
        super().__init__(url)
        self._left = dies_at

    def delete(self, key: str) -> None:
        self._left -= 1
        if self._left == 0:
            raise Died
        super().delete(key)


def collector(store: Store, *, grace: float = 0.0, learner: int = 1) -> Collector:
    metrics = LearnerMetrics(NAMESPACE, JOB)
    return Collector(store, JOB_UID, learner, metrics, grace=grace, every=0.0)


def history(store: Store, count: int) -> list[PolicyRef]:
    """Versions 1 to `count`; the fleet was assigned the second all the time."""
    epoch.claim(store, JOB_UID, "test")
    learner = Versions(store, JOB_UID, 1, 20.0, Weights.BFLOAT16)
    found: list[PolicyRef] = []
    for step in range(1, count + 1):
        found.append(learner.publish(snapshot(step), found[1:2]).ref)
    return found


def manifest(store: Store, ref: PolicyRef) -> Manifest:
    return Manifest.open(store.get(ref.uri, ref.digest))


def there(store: Store) -> set[int]:
    keys = store.list(f"{names.job_root(JOB_UID)}/versions")
    return {int(key.rsplit("/", 1)[1].removesuffix(".json")) for key in keys}


def whole(store: Store, ref: PolicyRef) -> bool:
    return from_files(bundle(store, manifest(store, ref))).spaces == SPACES


def named(store: Store, refs: Iterable[PolicyRef], *, deltas: bool) -> set[str]:
    """Keys of the whole files, or of the deltas, of these versions."""
    found = [manifest(store, ref) for ref in refs]
    files = [file for one in found for file in one.files]
    parts = [file for one in found for delta in one.deltas for file in delta.files]
    return {names.blob_key(JOB_UID, file.digest) for file in (parts if deltas else files)}


def all_of(store: Store) -> set[str]:
    return {key for key in store.list(names.job_root(JOB_UID)) if "/epochs/" not in key}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'store'}"


def test_the_kept_ones_stay_whole_and_of_others_the_way_that_leads_there(url: str) -> None:
    store = Store(url)
    refs = history(store, 20)
    at = {ref.sequence: ref for ref in refs}
    held = manifest(store, at[12])
    disk = bundle(store, held)
    between = {1, *range(12, 20)}
    stays = {ref.uri for n, ref in at.items() if n in between | {2, 20}}
    stays |= named(store, (at[n] for n in between | {2, 20}), deltas=True)
    stays |= named(store, (at[2], at[20]), deltas=False)
    collector(store).collect(Kept(job_uid=JOB_UID, before=20, versions=(2,)), 0.0)
    assert all_of(store) == stays
    assert whole(store, at[2])
    assert whole(store, at[20])
    # A robot that still has version 12 comes by deltas alone.
    ways = route(
        manifest(store, at[20]), {at[12].digest: held}, 2**30, lambda ref: manifest(store, ref)
    )
    assert len(ways) == MOST_STEPS
    made = rebuild(
        disk,
        ways,
        lambda file: store.get(names.blob_key(JOB_UID, file.digest), file.digest),
    )
    assert made == bundle(store, manifest(store, at[20]))
    # The next learner goes on behind the newest.
    assert versions(store, 1).publish(snapshot(21)).ref.sequence == 21


FEW = Kept(job_uid=JOB_UID, before=6, versions=(2,))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PolicyRef]]:
    folder = tmp_path_factory.mktemp("six")
    return folder, history(Store(f"file://{folder}"), 6)


@pytest.fixture
def refs(
    six: tuple[Path, list[PolicyRef]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[PolicyRef]:
    """Six versions in the store, and robots that walk two steps: 3 goes, 1, 4 and 5 in part."""
    shutil.copytree(six[0], tmp_path / "store")
    monkeypatch.setattr(collection, "MOST_STEPS", 2)
    return six[1]


REMOVED = 6  # a manifest, a delta, four files of weights


@pytest.mark.parametrize("dies_at", range(1, REMOVED + 2))
def test_dying_at_any_removal_leaves_whole_what_is_kept_and_the_rest_to_the_next(
    dies_at: int, refs: list[PolicyRef], url: str, tmp_path: Path
) -> None:
    store = Store(url)
    shutil.copytree(tmp_path / "store", tmp_path / "undisturbed")
    undisturbed = Store(f"file://{tmp_path / 'undisturbed'}")
    collector(undisturbed).collect(FEW, 0.0)
    if dies_at <= REMOVED:
        with pytest.raises(Died):
            collector(Mortal(url, dies_at)).collect(FEW, 0.0)
    else:
        assert collector(Mortal(url, dies_at)).collect(FEW, 0.0) == REMOVED
    for ref in refs:  # a manifest goes before what it names
        if ref.sequence in there(store) - {1, 4, 5}:
            assert whole(store, ref)
    epoch.claim(store, JOB_UID, "its successor")
    collector(store, learner=2).collect(FEW, 0.0)
    assert all_of(store) == all_of(undisturbed)
    assert there(store) == {1, 2, 4, 5, 6}


@pytest.mark.usefixtures("refs")
def test_what_is_of_no_use_stays_for_the_grace_and_goes_a_part_at_a_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(url)
    found = collector(store, grace=3600.0)
    before = all_of(store)
    assert [found.collect(FEW, now) for now in (0.0, 1800.0, 3599.0)] == [0, 0, 0]
    assert all_of(store) == before
    monkeypatch.setattr(collection, "MOST", 4)
    assert [found.collect(FEW, now) for now in (3600.0, 3601.0, 3602.0)] == [4, 2, 0]


@pytest.mark.usefixtures("refs")
def test_what_a_learner_left_half_made_goes_and_what_is_not_told_of_stays(url: str) -> None:
    store = Store(url)
    orphan = names.blob_key(JOB_UID, digest_of(b"of a version that was never claimed"))
    store.create(orphan, b"of a version that was never claimed")
    before = all_of(store)
    collector(store).collect(ALL, 0.0)
    assert all_of(store) == before - {orphan}


@pytest.mark.usefixtures("refs")
def test_the_newest_stays_whatever_is_said(url: str) -> None:
    store = Store(url)
    collector(store).collect(Kept(job_uid=JOB_UID, before=99), 0.0)
    assert there(store) == {1, 2, 4, 5, 6}  # and what leads there in two steps
    assert versions(store, 1).publish(snapshot(7)).ref.sequence == 7


@pytest.mark.usefixtures("refs")
def test_a_learner_with_a_newer_one_beside_it_removes_nothing(url: str) -> None:
    store = Store(url)
    epoch.claim(store, JOB_UID, "its successor")
    before = all_of(store)
    with pytest.raises(Fenced):
        collector(store).collect(FEW, 0.0)
    assert all_of(store) == before


def test_nothing_goes_while_a_kept_manifest_cannot_be_read(
    refs: list[PolicyRef], url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(url)
    rotten = tmp_path / "store" / refs[1].uri
    sound = rotten.read_bytes()
    rotten.write_bytes(sound[:50])
    assert collector(store).collect(FEW, 0.0) == 0
    assert refs[1].uri in caplog.text
    rotten.write_bytes(sound)
    assert collector(store).collect(FEW, 0.0) == REMOVED


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


@pytest.mark.usefixtures("refs")
async def test_the_learner_removes_what_its_operator_says_and_nobody_else(
    broker: Broker, url: str, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    store = Store(url)
    wire = await Wire.connect(broker.url, "operator")

    async def tell(data: bytes) -> None:
        stream = names.stream(JOB_UID, Stream.CONTROL)
        await wire.store(names.kept_subject(NAMESPACE, JOB), data, stream=stream)

    verify = trust.verifier(keys.trust(tmp_path / "trust"), Signatory.OPERATOR)
    others = FEW.model_copy(update={"job_uid": "another"})
    sequence = 7
    async with publishing(
        broker.url, versions(store, 1), collector=collector(store), verify=verify
    ) as publisher:
        for data in (FEW.seal(), FEW.seal(keys.LEARNER.sign), others.seal(keys.OPERATOR.sign)):
            await tell(data)
            # One is collected for before the next begins.
            for _ in range(2):
                publisher.offer(snapshot(sequence), 0.0)
                await announced(broker.url, sequence)
                sequence += 1
            assert there(store) >= set(range(1, 7))
        await tell(FEW.seal(keys.OPERATOR.sign))
        for _ in range(2):
            publisher.offer(snapshot(sequence), 0.0)
            await announced(broker.url, sequence)
            sequence += 1
    await wire.close()
    assert there(store) == {1, 2, 4, 5, *range(6, sequence)}
