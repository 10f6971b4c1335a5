"""Policies from the store: nothing reaches the robot that is not exactly what was assigned."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from fleet_contract import names
from fleet_contract.errors import Retry, Untrusted
from fleet_contract.messages import FileRef, Lineage, Manifest, PolicyRef, digest_of
from fleet_contract.names import Traffic
from fleet_contract.resources.learning import Weights
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.publish import Snapshot, Versions
from fleet_runtime.policies.bundle import MODEL, to_files
from fleet_runtime.policies.delta import encode
from fleet_runtime.robot.fetch import Library, Memory
from fleet_runtime.robot.rebuild import MOST_STEPS
from helpers.world import SPEC, TASKS, flow, publish

CONFIG = b'{"format": 1, "architecture": "moon"}'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/objects")


@pytest.fixture
def library(store: Store, tmp_path: Path) -> Library:
    return Library(store, tmp_path / "kept", job_uid="uid-1", spec=SPEC, tasks=TASKS)


def test_a_published_policy_is_loaded_as_it_was_made(store: Store, library: Library) -> None:
    ref = publish(store, 1)
    loaded = library.load(ref, epoch=7)
    assert (loaded.ref, loaded.epoch) == (ref, 7)
    assert to_files(loaded.policy) == to_files(flow(seed=1))
    assert loaded.policy.spaces == SPEC.spaces()
    assert loaded.created_at > 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import lunar_dust", "lunar_dust"),
        ("class Policy:\n    @classmethod\n    def build(cls, *parts): return {}['moon']", "moon"),
    ],
)
def test_a_plug_in_that_fails_is_a_refused_policy_and_nothing_worse(
    store: Store,
    library: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    words: str,
) -> None:
    told = tmp_path / "plug-in" / "moon-1.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: moon\nVersion: 1\n")
    (told / "entry_points.txt").write_text("[fleetloop.policies]\nmoon = moon_policy:Policy\n")
    (told.parent / "moon_policy.py").write_text(code)
    monkeypatch.syspath_prepend(told.parent)
    monkeypatch.delitem(sys.modules, "moon_policy", raising=False)
    made = publish(store, 1, files=to_files(flow()) | {"config.json": CONFIG})
    with pytest.raises(Untrusted, match=words):
        library.load(made, 1)


def test_what_was_loaded_once_is_loaded_again_without_the_store(
    store: Store, library: Library, tmp_path: Path
) -> None:
    ref = publish(store, 1)
    library.load(ref, 1)
    away = Store(f"file://{tmp_path}/elsewhere")
    offline = Library(away, tmp_path / "kept", job_uid="uid-1", spec=SPEC, tasks=TASKS)
    assert offline.load(ref, 1).digest == ref.digest
    other = publish(store, 2)
    with pytest.raises(Retry):
        offline.load(other, 1)
    offline.keep([])
    with pytest.raises(Retry):
        offline.load(ref, 1)


@pytest.mark.parametrize("garbled", [lambda _: b"garbled", lambda data: data + b"?"])
def test_a_kept_copy_that_the_disk_garbled_is_fetched_anew(
    store: Store, library: Library, tmp_path: Path, garbled: Callable[[bytes], bytes]
) -> None:
    ref = publish(store, 1)
    library.load(ref, 1)
    for path in (tmp_path / "kept").rglob("sha256-*"):
        path.write_bytes(garbled(path.read_bytes()))
    assert library.load(ref, 1).digest == ref.digest


def test_an_object_with_other_bytes_than_its_digest_is_a_retry(
    store: Store, library: Library, tmp_path: Path
) -> None:
    ref = publish(store, 1)
    blob = next((tmp_path / "objects").rglob("blobs/*"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(Retry, match="digest"):
        library.load(ref, 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({"uri": "jobs/uid-2/versions/1.json"}, "outside", id="another job's place"),
        pytest.param({"uri": "../../etc/passwd"}, "outside", id="a path out of the store"),
        pytest.param({"sequence": 9}, "version 1", id="another number"),
    ],
)
def test_a_reference_that_lies_is_untrusted(
    store: Store, library: Library, change: dict[str, object], fault: str
) -> None:
    ref = publish(store, 1)
    with pytest.raises(Untrusted, match=fault):
        library.load(PolicyRef.model_validate(ref.model_dump() | change), 1)


def test_another_jobs_manifest_under_our_prefix_is_untrusted(
    store: Store, library: Library
) -> None:
    theirs = publish(store, 1, job_uid="uid-2")
    key = names.version_key("uid-1", 1)
    store.create(key, store.get(theirs.uri))
    with pytest.raises(Untrusted, match="job uid-2"):
        library.load(theirs.model_copy(update={"uri": key}), 1)


def test_a_bundle_that_cannot_be_built_is_untrusted(store: Store, library: Library) -> None:
    files = to_files(flow()) | {"model.safetensors": b"\x80\x04pickle"}
    with pytest.raises(Untrusted, match=r"model\.safetensors"):
        library.load(publish(store, 1, files=files), 1)


def test_a_policy_for_another_robot_or_without_our_tasks_is_untrusted(
    store: Store, tmp_path: Path
) -> None:
    ref = publish(store, 1)
    library = Library(store, tmp_path / "kept", job_uid="uid-1", spec=SPEC, tasks=("left", "up"))
    with pytest.raises(Untrusted, match="up"):
        library.load(ref, 1)


def test_memory_survives_a_restart_and_a_garbled_file_counts_as_none(
    store: Store, library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "memory.json"
    loaded = library.load(publish(store, 3), epoch=5)
    memory = Memory(path)
    assert (memory.order, memory.active) == (None, None)
    memory.hold((0, 5))
    memory.drive(loaded)
    again = Memory(path)
    assert (again.order, again.active, again.epoch) == ((0, 5), loaded.ref, 5)
    path.write_bytes(b"{")
    assert Memory(path).order is None


# --- Deltas --------------------------------------------------------------------------------


class Counted:
    """Bytes over the network by what they were for."""

    def __init__(self) -> None:
        self.bytes: Counter[Traffic] = Counter()

    def __call__(self, kind: Traffic, count: int) -> None:
        self.bytes[kind] += count


@dataclasses.dataclass
class Ground:
    """A learner's store with versions that are a little apart, and robots beside it."""

    store: Store
    folder: Path
    learner: Versions

    def publish(
        self, step: int, *, by: float = 1e-4, at_work: Iterable[PolicyRef] = ()
    ) -> PolicyRef:
        policy = flow(SPEC, seed=0, hidden=64)
        torch.manual_seed(1)
        with torch.no_grad():
            for weight in policy.net.parameters():
                weight.add_(by * step * torch.randn(weight.shape))
        lineage = Lineage(first=0, through=0, episodes=0)
        return self.learner.publish(Snapshot(policy, step, {}, lineage), at_work).ref

    def robot(self, name: str = "arm", *, metered: bool = False) -> tuple[Library, Counted]:
        counted = Counted()
        library = Library(
            self.store,
            self.folder / name,
            job_uid="uid-1",
            spec=SPEC,
            tasks=TASKS,
            metered=metered,
            received=counted,
        )
        return library, counted

    def manifest(self, ref: PolicyRef) -> Manifest:
        return Manifest.open(self.store.get(ref.uri, ref.digest))

    def object(self, digest: str) -> Path:
        return Path(self.store.url.removeprefix("file://")) / names.blob_key("uid-1", digest)

    def has(self, library: Library, ref: PolicyRef) -> bool:
        """Whether the robot holds exactly the published files."""
        files = self.manifest(ref).files
        return all(library._cache.get(library._key(file), file.digest) for file in files)


@pytest.fixture
def ground(store: Store, tmp_path: Path) -> Ground:
    return Ground(store, tmp_path, Versions(store, "uid-1", 1, 20.0, Weights.BFLOAT16))


def without_wholes(ground: Ground, ref: PolicyRef) -> None:
    """Nobody can fetch this version's weights whole any more."""
    for file in ground.manifest(ref).files:
        if file.name == MODEL:
            ground.object(file.digest).unlink()


def test_a_robot_with_the_parent_fetches_the_delta_and_holds_the_same_bytes(
    ground: Ground,
) -> None:
    first, second = ground.publish(1), ground.publish(2)
    library, counted = ground.robot()
    library.load(first, 1)
    before = counted.bytes.copy()
    loaded = library.load(second, 1)
    assert ground.has(library, second)
    assert counted.bytes[Traffic.DELTA] == ground.manifest(second).deltas[0].size
    assert counted.bytes - before == Counter(
        {
            Traffic.DELTA: counted.bytes[Traffic.DELTA],
            Traffic.POLICY: len(ground.store.get(second.uri)),
        }
    )
    fresh, _ = ground.robot("new")
    other = fresh.load(second, 1).policy
    assert to_files(loaded.policy) == to_files(other)


def test_a_robot_that_lags_walks_the_deltas_between_while_they_are_less_than_the_whole(
    ground: Ground,
) -> None:
    refs = [ground.publish(step) for step in (1, 2, 3, 4)]
    library, counted = ground.robot()
    library.load(refs[0], 1)
    library.load(refs[2], 1)
    between = [ground.manifest(ref).deltas[0].size for ref in refs[1:3]]
    assert counted.bytes[Traffic.DELTA] == sum(between)
    assert ground.has(library, refs[2])
    library.keep([refs[2]])
    assert library.load(refs[3], 1).ref == refs[3]
    assert counted.bytes[Traffic.DELTA] == sum(between) + ground.manifest(refs[3]).deltas[0].size


def test_a_robot_takes_the_one_delta_from_what_it_has_rather_than_all_between(
    ground: Ground,
) -> None:
    first, *_ = (ground.publish(step) for step in (1, 2, 3))
    newest = ground.publish(4, at_work=[first])
    library, counted = ground.robot()
    library.load(first, 1)
    library.load(newest, 1)
    assert counted.bytes[Traffic.DELTA] == ground.manifest(newest).deltas[1].size


@pytest.mark.parametrize(("lag", "walked"), [(MOST_STEPS, True), (MOST_STEPS + 1, False)])
def test_the_walk_has_an_end(ground: Ground, lag: int, walked: bool) -> None:
    refs = [ground.publish(step, by=1e-6) for step in range(lag + 1)]
    library, counted = ground.robot()
    library.load(refs[0], 1)
    library.load(refs[-1], 1)
    deltas = [ground.manifest(ref).deltas[0].size for ref in refs[1:]]
    assert sum(deltas) < ground.manifest(refs[-1]).size
    assert counted.bytes[Traffic.DELTA] == (sum(deltas) if walked else 0)
    assert ground.has(library, refs[-1])


def test_a_walk_that_costs_more_than_the_whole_is_not_begun(ground: Ground) -> None:
    refs = [ground.publish(step, by=1e-1) for step in range(4)]
    library, counted = ground.robot()
    library.load(refs[0], 1)
    library.load(refs[-1], 1)
    assert (
        sum(ground.manifest(ref).deltas[0].size for ref in refs[1:])
        > ground.manifest(refs[-1]).size
    )
    assert counted.bytes[Traffic.DELTA] == 0


def damage(ground: Ground, ref: PolicyRef) -> None:
    """The delta in the store is cut short."""
    for file in ground.manifest(ref).deltas[0].files:
        path = ground.object(file.digest)
        path.write_bytes(path.read_bytes()[:-3])


def lie(ground: Ground, ref: PolicyRef, **change: object) -> PolicyRef:
    """A later version whose manifest tells the same bundle by another delta."""
    told = ground.manifest(ref)
    delta = told.deltas[0].model_copy(update=change)
    manifest = told.model_copy(update={"sequence": ref.sequence + 1, "deltas": (delta,)})
    key = names.version_key("uid-1", manifest.sequence)
    ground.store.create(key, manifest.seal())
    return PolicyRef(sequence=manifest.sequence, digest=digest_of(manifest.seal()), uri=key)


def stored(ground: Ground, data: bytes) -> tuple[FileRef, ...]:
    ref = FileRef(name=MODEL, digest=digest_of(data), size=len(data))
    ground.store.create(names.blob_key("uid-1", ref.digest), data)
    return (ref,)


def model(ground: Ground, ref: PolicyRef) -> bytes:
    (file,) = (file for file in ground.manifest(ref).files if file.name == MODEL)
    return ground.store.get(names.blob_key("uid-1", file.digest))


LIES: dict[str, Callable[[Ground, PolicyRef, PolicyRef], bytes]] = {
    "of another base": lambda ground, first, second: encode(
        model(ground, second), model(ground, first)
    ),
    "makes other weights": lambda ground, first, second: encode(
        model(ground, first), model(ground, first)
    ),
    "makes the base itself": lambda ground, first, second: encode(
        model(ground, first), model(ground, first)[:-2] + b"\0\0"
    ),
    "no delta": lambda ground, first, second: b"\x80\x04pickle",
}


@pytest.mark.parametrize("case", LIES)
@pytest.mark.parametrize("metered", [False, True])
def test_a_delta_that_is_off_costs_the_whole_bundle_or_is_waited_out_and_told_once(
    ground: Ground, case: str, metered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = ground.publish(1), ground.publish(2)
    third = lie(ground, second, files=stored(ground, LIES[case](ground, first, second)))
    library, counted = ground.robot(metered=metered)
    library.load(first, 1)
    if metered:
        for _ in range(3):
            with pytest.raises(Retry, match=r"metered link .*delta of model\.safetensors"):
                library.load(third, 1)
        assert model(ground, first) == library._cache.get(
            library._key(ground.manifest(first).files[1])
        )
    else:
        assert library.load(third, 1).ref == third
        assert ground.has(library, third)
    said = [one for one in caplog.records if "does not come as a delta" in one.message]
    assert len(said) == 1
    assert counted.bytes[Traffic.DELTA] > 0


def test_a_delta_that_the_store_garbled_costs_the_whole_bundle(ground: Ground) -> None:
    first, second = ground.publish(1), ground.publish(2)
    damage(ground, second)
    library, _ = ground.robot()
    library.load(first, 1)
    assert library.load(second, 1).ref == second
    assert ground.has(library, second)


def test_an_encoding_of_tomorrow_is_passed_over(ground: Ground) -> None:
    first, second = ground.publish(1), ground.publish(2)
    third = lie(ground, second, encoding="tomorrow-1")
    library, counted = ground.robot()
    library.load(first, 1)
    library.load(third, 1)
    assert counted.bytes[Traffic.DELTA] == 0


def test_a_base_that_the_disk_garbled_is_dropped_and_the_whole_bundle_fetched(
    ground: Ground, tmp_path: Path
) -> None:
    first, second = ground.publish(1), ground.publish(2)
    for metered in (False, True):
        library, _ = ground.robot(f"arm-{metered}", metered=metered)
        library.load(first, 1)
        for path in (tmp_path / f"arm-{metered}").rglob("blobs/*"):
            path.write_bytes(b"garbled")
        if metered:
            with pytest.raises(Retry):
                library.load(second, 1)
        assert library.load(second, 1).ref == second


def test_a_robot_on_a_metered_link_takes_its_first_policy_whole_and_then_deltas_alone(
    ground: Ground,
) -> None:
    library, counted = ground.robot(metered=True)
    first = ground.publish(1)
    library.load(first, 1)
    untold = ground.publish(2)
    untold = lie(ground, untold, encoding="tomorrow-1")
    ground.learner.recover()
    before = counted.bytes.copy()
    with pytest.raises(Retry, match=r"would come whole, \d+ bytes, over a metered link"):
        library.load(untold, 1)
    manifests = len(ground.store.get(untold.uri))
    assert counted.bytes - before == Counter({Traffic.POLICY: manifests})
    newer = ground.publish(3, at_work=[first])
    assert library.load(newer, 1).ref == newer
    assert ground.has(library, newer)


def test_a_robot_on_a_metered_link_goes_back_to_the_version_before_without_a_byte(
    ground: Ground,
) -> None:
    library, counted = ground.robot(metered=True)
    refs = [ground.publish(step) for step in (1, 2, 3)]
    for ref in refs:
        library.load(ref, 1)
        library.keep([ref])
    before = counted.bytes.copy()
    assert library.load(refs[1], 2).ref == refs[1]
    assert counted.bytes == before
    normal, counted = ground.robot("normal")
    for ref in refs:
        normal.load(ref, 1)
        normal.keep([ref])
    before = counted.bytes.copy()
    normal.load(refs[1], 2)
    assert counted.bytes[Traffic.POLICY] > before[Traffic.POLICY]
