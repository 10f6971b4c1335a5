"""Policies from the store: nothing reaches the robot that is not exactly what was assigned."""

from pathlib import Path

import pytest

from fleet_contract import names
from fleet_contract.errors import Retry, Untrusted
from fleet_contract.messages import PolicyRef
from fleet_runtime.artifacts import Store
from fleet_runtime.policies.bundle import to_files
from fleet_runtime.robot.fetch import Library, Memory
from helpers.world import SPEC, TASKS, flow, publish


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


def test_a_kept_copy_that_the_disk_garbled_is_fetched_anew(
    store: Store, library: Library, tmp_path: Path
) -> None:
    ref = publish(store, 1)
    library.load(ref, 1)
    for path in (tmp_path / "kept").rglob("sha256-*"):
        path.write_bytes(b"garbled")
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
