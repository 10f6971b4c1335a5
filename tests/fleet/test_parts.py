"""A large bundle on a bad link: what came stays, and nothing counts before the whole is here."""

import errno
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.messages import Manifest, PolicyRef
from fleet_runtime.artifacts import Store
from fleet_runtime.policies.bundle import MODEL
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.robot import files, parts
from fleet_runtime.robot.fetch import Library
from helpers.link import Link
from helpers.s3 import ObjectServer, running_object_server
from helpers.world import SPEC, TASKS, publish

PIECE = 2**17
FETCH = f"""
import sys
from pathlib import Path
from fleet_runtime.artifacts import Store
from fleet_runtime.robot import parts

parts.FIRST = {PIECE}
url, folder, key, digest, size = sys.argv[1:]
parts.Parts(Path(folder)).fetch(Store(url), key, digest, int(size), lambda _: None)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running_object_server(tmp_path_factory.mktemp("s3") / "objects") as running:
        yield running


class Ground:
    """A version of a few megabytes in a real store, and a robot behind a link."""

    def __init__(self, server: ObjectServer, folder: Path) -> None:
        self.url = f"{server.url}/{secrets.token_hex(8)}"
        self.kept = folder / "kept"
        store = Store(self.url)
        spaces = SPEC.spaces()
        identity = Normalization.identity(spaces.observation_size, spaces.action_size)
        torch.manual_seed(0)
        policy = FlowPolicy(FlowConfig(spaces=spaces, hidden=640, layers=3), identity)
        self.ref: PolicyRef = publish(store, 1, policy)
        manifest = Manifest.open(store.get(self.ref.uri))
        (self.model,) = (file for file in manifest.files if file.name == MODEL)
        self.key = names.blob_key("uid-1", self.model.digest)
        assert self.model.size > 20 * PIECE

    def library(self) -> Library:
        store = Store(self.url, skip_instance_cache=True)
        return Library(store, self.kept, job_uid="uid-1", spec=SPEC, tasks=TASKS)

    @property
    def here(self) -> int:
        """Bytes of the weights that have come so far."""
        return sum(path.stat().st_size for path in (self.kept / "parts").glob("*"))


@pytest.fixture
def ground(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parts, "FIRST", PIECE)
    return Ground(server, tmp_path)


@contextmanager
def behind(server: ObjectServer, link: Link) -> Iterator[None]:
    port = int(server.endpoint.rpartition(":")[2])
    with link.running(port) as (ours,), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{ours}")
        yield


def test_a_fetch_that_the_link_cut_goes_on_where_it_was(
    server: ObjectServer, ground: Ground
) -> None:
    link = Link()
    with behind(server, link):
        link.cut_at = ground.model.size // 2
        with pytest.raises(Retry):
            ground.library().load(ground.ref, 1)
        came = ground.here
        assert 0 < came <= link.cut_at
        before, link.cut_at = link.passed, None
        library = ground.library()
        assert library.load(ground.ref, 1).ref == ground.ref
    # What was there already did not come again: only what was missing, manifest and headers.
    assert link.passed - before < ground.model.size - came + PIECE
    assert ground.here == 0
    assert library.load(ground.ref, 2).epoch == 2


def test_a_robot_whose_program_was_killed_in_the_midst_goes_on_where_it_was(
    server: ObjectServer, ground: Ground
) -> None:
    link = Link(rate=ground.model.size / 4)
    with behind(server, link):
        key, digest, size = ground.key, ground.model.digest, str(ground.model.size)
        arguments = (ground.url, str(ground.kept / "parts"), key, digest, size)
        robot = subprocess.Popen([sys.executable, "-c", FETCH, *arguments])
        assert link.reached(ground.model.size // 2, 120)
        robot.send_signal(signal.SIGKILL)
        assert robot.wait() == -signal.SIGKILL
        came, before = ground.here, link.passed
        assert 0 < came < ground.model.size
        assert ground.library().load(ground.ref, 1).ref == ground.ref
    assert link.passed - before < ground.model.size - came + PIECE


def test_what_came_is_believed_by_the_digest_of_the_whole_alone(ground: Ground) -> None:
    folder = ground.kept / "parts"
    folder.mkdir(parents=True)
    (folder / ground.model.digest.replace(":", "-")).write_bytes(b"garbled" * PIECE)
    library = ground.library()
    with pytest.raises(Retry, match=r"has digest .*, wanted"):
        library.load(ground.ref, 1)
    assert ground.here == 0
    assert library.load(ground.ref, 1).ref == ground.ref


@pytest.mark.parametrize("size", [0, 1])
def test_more_bytes_than_the_manifest_says_and_a_fetch_nobody_goes_on_with_are_dropped(
    ground: Ground, size: int
) -> None:
    folder = ground.kept / "parts"
    folder.mkdir(parents=True)
    name = ground.model.digest.replace(":", "-") if size else "sha256-of-another"
    (folder / name).write_bytes(bytes(ground.model.size + size))
    assert ground.library().load(ground.ref, 1).ref == ground.ref
    assert ground.here == 0


def test_an_object_that_ends_too_early_is_a_retry(ground: Ground) -> None:
    store = Store(ground.url)
    size = ground.model.size + 1
    with pytest.raises(Retry, match="ends before byte"):
        parts.Parts(ground.kept / "parts").fetch(
            store, ground.key, ground.model.digest, size, lambda _: None
        )
    assert ground.here == 0


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """A limit on the size of a file stands for a full disk: it needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_on_the_way_is_a_refusal_in_words_and_nothing_is_left(
    ground: Ground,
) -> None:
    library = ground.library()
    with full_at(10 * PIECE), pytest.raises(Retry, match=r"no room for the .* free the robot's"):
        library.load(ground.ref, 1)
    assert ground.here == 0
    assert library.load(ground.ref, 1).ref == ground.ref


def test_a_fault_that_is_no_want_of_room_is_told_as_it_is(ground: Ground) -> None:
    (ground.kept / "parts" / ground.model.digest.replace(":", "-")).mkdir(parents=True)
    with pytest.raises(Retry, match=r"nothing can be kept of the .* Is a directory") as told:
        ground.library().load(ground.ref, 1)
    assert "room" not in str(told.value)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free the robot's disk"),
        (errno.EDQUOT, "free the robot's disk"),
        (errno.EFBIG, "free the robot's disk"),
        (errno.EACCES, "let the robot's program write"),
        (errno.EROFS, "check it"),
        (errno.EIO, "check it"),
        (errno.ENOTDIR, "put it right"),
    ],
)
def test_each_fault_of_a_disk_has_its_remedy(number: int, words: str) -> None:
    assert words in files.remedy(OSError(number, "so it is"))


def test_what_has_come_outlives_the_tidying_between_two_tries(ground: Ground) -> None:
    folder = ground.kept / "parts"
    folder.mkdir(parents=True)
    (folder / ground.model.digest.replace(":", "-")).write_bytes(b"half")
    ground.library().keep([])
    assert ground.here == len(b"half")


def test_what_has_no_room_is_not_begun(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []
    store = Store(ground.url)
    with pytest.raises(Retry, match=r"no room for the \d+ bytes .* bytes are free"):
        parts.Parts(ground.kept / "parts").fetch(store, "none", "sha256:0", 2**60, came.append)
    assert came == []
