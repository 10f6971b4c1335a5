"""The object store: one winner per key, nothing half-made, nothing trusted."""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_cli.local.ports import free_ports
from fleet_contract.errors import Reject, Retry
from fleet_contract.messages import digest_of
from fleet_runtime.artifacts import Exists, Missing, Store
from helpers.s3 import ObjectServer, running_object_server

RACER = """
import json, sys
from fleet_runtime.artifacts import Exists, Store

store, name = Store(sys.argv[1]), sys.argv[2].encode()
store.exists("claims")
print("ready", flush=True)
sys.stdin.readline()
won = []
for turn in range(20):
    try:
        store.create(f"claims/{turn}", name)
        won.append(turn)
    except Exists:
        pass
print(json.dumps(won))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running_object_server(tmp_path_factory.mktemp("s3") / "objects") as running:
        yield running


@pytest.fixture
def s3(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store; credentials are where a program of ours finds them."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"{server.url}/{secrets.token_hex(8)}"


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return Store(request.getfixturevalue("s3"))
    if request.param == "file":
        return Store(f"file://{tmp_path}/objects")
    return Store(f"memory://{secrets.token_hex(8)}")


def test_every_store_tells_size_and_time_of_its_objects(store: Store) -> None:
    before = time.time()
    store.create("folder/a", b"12")
    store.create("folder/deeper/b", b"")
    store.create("another", b"1")
    found = store.described("folder")
    assert {key: told.size for key, told in found.items()} == {"folder/a": 2, "folder/deeper/b": 0}
    assert all(abs(told.made - before) < 600 for told in found.values())
    assert store.described("nothing") == {}


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    store.create("jobs/a/1", b"1")
    (tmp_path / "jobs" / "b").symlink_to("b")  # nothing reads it, whoever runs this
    for look in (store.list, store.described):
        assert list(look("jobs/a")) == list(look("jobs/a/")) == ["jobs/a/1"]
        assert not look("jobs/nothing")
        assert not look("jobs/a/1")
        with pytest.raises(Retry, match="list jobs/b"):
            look("jobs/b")
        assert "does not do its work" in store.trouble


def test_what_nobody_may_remove_of_a_dead_writers_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / ".tmp" / "folder"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    Store(f"file://{tmp_path}").create("key", b"1")
    assert left.is_dir()


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


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_of_many_racing_processes_exactly_one_wins(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("s3") if kind == "s3" else f"file://{tmp_path}/objects"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, url, f"racer {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [json.loads(racer.communicate()[0]) for racer in racers]
    assert sorted(turn for turns in won for turn in turns) == list(range(20))
    store = Store(url)
    for number, turns in enumerate(won):
        for turn in turns:
            assert store.get(f"claims/{turn}") == b"racer %d" % number


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


def test_an_object_of_no_bytes_is_there(store: Store) -> None:
    store.create("marks/empty", b"")
    store.create("marks/empty", b"")
    assert store.get("marks/empty") == b""
    assert store.get("marks/empty", digest_of(b""), max_bytes=0) == b""
    assert store.exists("marks/empty")
    assert store.list("marks") == ["marks/empty"]
    with pytest.raises(Exists):
        store.create("marks/empty", b"x")


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


def test_a_store_that_lets_a_second_writer_win_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(path: str, data: bytes) -> bool:
        store._fs.pipe_file(path, data)
        return True

    for how in ("_create_file", "_create_memory", "_create_remote"):
        monkeypatch.setattr(store, how, lambda path, data: overwrite(str(path), data))
    store._fs.mkdirs(f"{store._root}/probe", exist_ok=True)
    with pytest.raises(ValueError, match=r"second writer win.*Point spec.transport.storage.url"):
        store.probe("probe/x")
    assert store.list("probe") == []


def test_on_s3_an_object_of_many_megabytes_is_one_put_and_comes_back_whole(s3: str) -> None:
    store, data = Store(s3), secrets.token_bytes(2**20) * 120
    store.create("large", data)
    with pytest.raises(Exists):
        store.create("large", data[:-1] + b"?")
    assert digest_of(store.get("large")) == digest_of(data)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_on_s3_the_digest_of_a_put_is_signed(
    scheme: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a server refuses half a body; over TLS the driver would leave it out by itself."""
    port = free_ports(["none"])["none"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{scheme}://127.0.0.1:{port}")
    store, said = Store(s3, skip_instance_cache=True), set[str]()

    def before_send(request: Any, **_: Any) -> None:
        said.add(request.headers["X-Amz-Content-SHA256"].decode())

    store._fs.s3.meta.events.register("before-send.s3.PutObject", before_send)
    with pytest.raises(Retry):
        store.create("a", b"x")
    assert {f"sha256:{digest}" for digest in said} == {digest_of(b"x")}


def test_on_s3_other_credentials_and_no_bucket_are_a_retry(
    s3: str, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Retry, match=r"NoSuchBucket|bucket does not exist"):
        Store("s3://no-such-bucket/x").create("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of somebody else")
    stranger = Store(s3, skip_instance_cache=True)
    for call in (lambda: stranger.create("a", b"x"), lambda: stranger.get("a")):
        with pytest.raises(Retry, match=r"signature|Forbidden|denied"):
            call()


def test_on_s3_a_server_that_does_not_answer_is_a_retry(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(['none'])['none']}")
    store = Store(s3, skip_instance_cache=True)
    for call in (
        lambda: store.create("a", b"x"),
        lambda: store.get("a"),
        lambda: store.exists("a"),
        lambda: store.list("a"),
        lambda: store.delete("a"),
    ):
        with pytest.raises(Retry):
            call()


def test_a_store_that_cannot_be_reached_is_a_retry(tmp_path: Path) -> None:
    blocked = tmp_path / "objects"
    blocked.write_bytes(b"a file where a folder should be")
    with pytest.raises(Retry):
        Store(f"file://{blocked}").create("a", b"x")


def test_a_store_remembers_what_is_wrong_with_it_until_it_answers(tmp_path: Path) -> None:
    blocked = tmp_path / "objects"
    blocked.write_bytes(b"a file where a folder should be")
    store = Store(f"file://{blocked}")
    assert store.trouble == ""
    for key in ("a", "b"):
        with pytest.raises(Retry):
            store.create(key, b"x")
    assert "create a in file://" in store.trouble
    assert store.list("a") == []
    assert store.trouble  # reading tells nothing of writing
    blocked.unlink()
    store.create("a", b"x")
    assert store.trouble == ""
