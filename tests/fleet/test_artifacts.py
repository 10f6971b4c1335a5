"""The object store: one winner per key, nothing half-made, nothing trusted."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract.errors import Reject, Retry
from fleet_contract.messages import digest_of
from fleet_runtime.artifacts import Exists, Missing, Store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store(f"file://{tmp_path}/objects")
    return Store(f"memory://{secrets.token_hex(8)}")


def test_of_many_racing_creators_with_different_content_exactly_one_wins(store: Store) -> None:
    racers = 8
    for turn in range(20):
        start = threading.Barrier(racers)

        def race(racer: int, key: str = f"claims/{turn}", start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                store.create(key, b"racer %d" % racer)
            except Exists:
                return False
            return True

        with ThreadPoolExecutor(racers) as pool:
            won = list(pool.map(race, range(racers)))
        assert won.count(True) == 1
        assert store.get(f"claims/{turn}") == b"racer %d" % won.index(True)


def test_the_same_content_twice_is_success_and_other_content_is_refused(store: Store) -> None:
    store.create("a/b", b"one")
    store.create("a/b", b"one")
    with pytest.raises(Exists, match="a/b"):
        store.create("a/b", b"two")
    with pytest.raises(Exists):
        store.create("a/b", b"o")
    assert store.get("a/b") == b"one"


def test_bytes_of_another_digest_are_a_retry_and_never_returned(store: Store) -> None:
    store.create("a", b"one")
    assert store.get("a", digest_of(b"one")) == b"one"
    with pytest.raises(Retry, match="digest"):
        store.get("a", digest_of(b"two"))


def test_an_object_larger_than_the_reader_allows_is_refused(store: Store) -> None:
    store.create("a", b"12345")
    assert store.get("a", max_bytes=5) == b"12345"
    with pytest.raises(Reject):
        store.get("a", max_bytes=4)


def test_what_is_not_there_is_missing_and_deleting_it_is_fine(store: Store) -> None:
    with pytest.raises(Missing):
        store.get("no/such")
    store.delete("no/such")
    assert store.list("no") == []
    assert not store.exists("no/such")


def test_a_listing_is_sorted_and_holds_only_finished_objects(store: Store) -> None:
    for name in ("j/2", "j/10", "j/1", "k/1"):
        store.create(name, b"x")
    assert store.list("j") == ["j/1", "j/10", "j/2"]
    assert store.list("j/") == ["j/1", "j/10", "j/2"]
    store.delete("j/10")
    assert store.list("j") == ["j/1", "j/2"]


@given(key=st.sampled_from(["../x", "/x", "a/../b", "a//b", "", "a/", ".tmp/x", "a\n", "~x"]))
def test_a_key_cannot_point_out_of_the_store(key: str) -> None:
    with pytest.raises(Reject, match="object key"):
        Store("memory://keys").get(key)


@settings(max_examples=30)
@given(data=st.binary(max_size=2000))
def test_any_bytes_come_back_as_they_went_in(data: bytes) -> None:
    store = Store(f"memory://{secrets.token_hex(8)}")
    store.create("a", data)
    assert store.get("a", digest_of(data)) == data


def test_a_probe_accepts_a_store_with_conditional_creation_and_leaves_nothing(store: Store) -> None:
    store.probe("probe/x")
    assert store.list("probe") == []


def test_a_store_that_cannot_be_reached_is_a_retry(tmp_path: Path) -> None:
    blocked = tmp_path / "objects"
    blocked.write_bytes(b"a file where a folder should be")
    with pytest.raises(Retry):
        Store(f"file://{blocked}").create("a", b"x")
