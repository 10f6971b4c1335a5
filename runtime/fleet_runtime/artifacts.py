"""The object store; the only room that knows fsspec. Calls block: run them in a thread.

Nothing is ever overwritten. Objects are content (any writer writes the same bytes) or claims (a
version number, a journal position, an epoch: one writer wins), and `create` serves both.
fsspec's own exclusive mode let both of two racers win on local files, and leaving a `with
fs.open(…)` by an exception commits what was written so far, so neither is used here.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import logging
import os
import re
import secrets
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import fsspec

from fleet_contract.errors import FleetError, Reject, RejectCode, Retry
from fleet_contract.messages import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 2 * 2**30
"""Largest object read unless the caller says less."""
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")
_TEMPORARY = ".tmp"
_ABANDONED = 3600.0  # seconds after which a temporary file belongs to a writer that died
_S3_PUT = 5 * 2**30  # bytes: what S3 takes in one put
# At this level it would tell whatever it signs, and whoever has that may do it.
logging.getLogger("botocore.auth").setLevel(logging.INFO)
_memory_lock = threading.Lock()  # fsspec's memory:// is one per process, and so is this


class Exists(FleetError):
    """The key holds other content: the claim is somebody else's. Read again and go on from there.

    Not a `Retry`: the same claim will never succeed.
    """


class Missing(FleetError):
    """There is no such object (yet)."""


class Described(NamedTuple):
    """An object, without its bytes."""

    size: int
    made: float
    """Unix seconds by the store's clock; for caution only, never for order."""


class Objects(Protocol):
    """What a robot needs of a store, whether it has keys of it or not."""

    url: str
    owner: str
    """Below whose name payloads lie; empty: nobody's."""

    def get(self, key: str, digest: str | None = None, *, max_bytes: int = ...) -> bytes:
        """As `Store.get`."""

    def read(self, key: str, start: int, end: int) -> bytes:
        """As `Store.read`."""

    def create(self, key: str, data: bytes) -> None:
        """As `Store.create`."""

    def delete(self, key: str) -> None:
        """As `Store.delete`."""


def whole(store: Objects, key: str, digest: str | None, max_bytes: int) -> bytes:
    """An object read at once; see `Store.get`."""
    data = store.read(key, 0, max_bytes + 1)
    if len(data) > max_bytes:
        raise Reject(RejectCode.TOO_LARGE, f"{key} has more than {max_bytes} bytes")
    if digest is not None and digest_of(data) != digest:
        raise Retry(f"{key} in {store.url} has digest {digest_of(data)}, wanted {digest}")
    return data


class Signed(NamedTuple):
    """A request that the store takes from whoever has it, until it is over."""

    url: str
    headers: dict[str, str]
    """To be sent with it."""


class Store:
    """Objects by key below one URL: `file:///path`, `s3://bucket/prefix` or `memory://name`."""

    owner = ""  # who has keys of the store puts under nobody's name

    def __init__(self, url: str, **options: Any) -> None:
        """`options` go to fsspec. Raises ValueError for a URL nothing here can serve.

        On s3:// the endpoint and the credentials are those of the AWS environment variables.
        """
        self.url = url
        self._s3 = url.startswith(("s3://", "s3a://"))
        if self._s3:
            options = _s3_options() | options
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        except (ImportError, ValueError) as fault:
            raise ValueError(f"storage URL {url!r}: {fault}; install its fsspec driver") from fault
        self._root = str(root).rstrip("/")
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else self._fs.protocol
        self._local = "file" in protocols
        self._memory = "memory" in protocols
        self._troubles: dict[str, tuple[str, str]] = {}
        if self._local:
            self._remove_abandoned()

    @property
    def trouble(self) -> str:
        """What is wrong with the store and what to do, empty while it answers.

        Reading and writing count apart: a full disk still reads. The words stay the same while
        the cause does, whatever is asked of the store meanwhile.
        """
        return next((said for _, said in self._troubles.copy().values()), "")

    def create(self, key: str, data: bytes) -> None:
        """Make an object, whole and durable, if the key is free.

        The same content already there is success, so a writer that lost the answer may ask again.

        Raises:
            Exists: the key holds other content.
            Retry: the store did not answer or has no room; it may have been made.
        """
        path = self._path(key)
        with self._reached(f"create {key}", "write"):
            if self._local:
                made = self._create_file(Path(path), data)
            elif self._memory:
                made = self._create_memory(path, data)
            else:
                made = self._create_remote(path, data)
        if not made and self._existing(key, len(data)) != data:
            raise Exists(f"{key} in {self.url} holds other content; whoever made it won")

    def get(self, key: str, digest: str | None = None, *, max_bytes: int = MAX_BYTES) -> bytes:
        """The object's bytes, checked against `digest` when given.

        Raises:
            Missing: no such object.
            Retry: unreachable, or the bytes are not those of the digest.
            Reject: larger than `max_bytes`.
        """
        return whole(self, key, digest, max_bytes)

    def read(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of the object, fewer where it ends, checked against nothing.

        Raises `Missing` and `Retry` as `get`.
        """
        path = self._path(key)
        with self._reached(f"get {key}"):
            try:
                return self._read(path, start, end)
            except FileNotFoundError:
                raise Missing(f"{key} is not in {self.url}") from None

    def exists(self, key: str) -> bool:
        """Whether the key is taken. Raises `Retry`."""
        with self._reached(f"look for {key}"):
            return bool(self._fs.exists(self._path(key)))

    def list(self, folder: str) -> list[str]:
        """All keys below a folder, sorted; none when it does not exist. Raises `Retry`."""
        path = self._path(folder.rstrip("/"))
        with self._reached(f"list {folder}"):
            found = _files(path) if self._local else self._found(path, detail=False)
        below = len(self._root) + 1
        return sorted(str(item)[below:] for item in found if str(item) != path)

    def described(self, folder: str) -> dict[str, Described]:
        """As `list`, with what the store says of each object. Raises `Retry`."""
        path = self._path(folder.rstrip("/"))
        with self._reached(f"list {folder}"):
            found = dict(self._stats(path) if self._local else self._found(path, detail=True))
        below = len(self._root) + 1
        return {
            str(item)[below:]: Described(int(told["size"]), _made(told))
            for item, told in sorted(found.items())
            if str(item) != path
        }

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is as good as removed. Raises `Retry`."""
        with self._reached(f"delete {key}", "delete"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def sign_get(self, key: str, within: float) -> Signed:
        """Let whoever has it fetch an object, for so many seconds. s3:// only.

        Raises `Reject` for what is no key, `Retry` where nothing can be signed.
        """
        return Signed(self._signed(key, within, "get_object"), {})

    def sign_create(self, key: str, digest: str, size: int, within: float) -> Signed:
        """Let whoever has it make the object of this content, if the key is free. Else as above.

        The condition, the length and the digest are part of what is signed.
        """
        checksum = base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()
        said = {"IfNoneMatch": "*", "ContentLength": size, "ChecksumSHA256": checksum}
        url = self._signed(key, within, "put_object", **said)
        return Signed(url, {"If-None-Match": "*", "x-amz-checksum-sha256": checksum})

    def _signed(self, key: str, within: float, what: str, **said: object) -> str:
        path = self._path(key)
        if not self._s3:
            raise Retry(f"{self.url}: only requests to s3:// can be signed for others")
        with self._reached(f"sign for {key}", "sign"):
            url: str = self._fs.url(path, expires=round(within), client_method=what, **said)
            return url

    def probe(self, key: str) -> None:
        """Check that the store honours conditional creation.

        A store that ignores the condition would let two learners claim one version number.

        Raises:
            ValueError: it does not.
            Retry: the store did not answer.
        """
        token = f"{key}-{secrets.token_hex(8)}"
        self.create(token, b"first")
        try:
            self.create(token, b"second")
        except Exists:
            return
        finally:
            self.delete(token)
        raise ValueError(
            f"{self.url} lets a second writer win: it ignores If-None-Match on a put. Point "
            "spec.transport.storage.url at a store that honours it, or bring this one up to date"
        )

    def _path(self, key: str) -> str:
        # Keys arrive in messages: one with dots could point out of the store.
        if not _KEY.fullmatch(key):
            raise Reject(RejectCode.MALFORMED, f"object key {key!r}: use words joined by slashes")
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _reached(self, what: str, way: str = "read") -> Iterator[None]:
        try:
            yield
        except FleetError:
            self._troubles.pop(way, None)  # it answered
            raise
        except Exception as fault:  # drivers raise what their HTTP libraries do
            advice = _advice(fault)
            said = f"{what} in {self.url}: {fault!r}; {advice}"
            known, _ = self._troubles.get(way, ("", ""))
            if way != "delete" and known != advice:  # nobody tries to delete again
                self._troubles[way] = advice, f"The store does not do its work: {said}."
            raise Retry(said) from fault
        self._troubles.pop(way, None)

    def _found(self, path: str, *, detail: bool) -> Any:
        try:
            return self._fs.find(path, detail=detail)
        except FileNotFoundError:
            return {} if detail else []

    def _stats(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for file in _files(path):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                yield file, self._fs.info(file)

    def _read(self, path: str, start: int, end: int) -> bytes:
        if self._local:  # Python makes room for as much as is asked for: two gigabytes, mostly
            end = min(end, Path(path).stat().st_size)
            if end <= start:
                return b""
        try:
            data: bytes = self._fs.cat_file(path, start=start, end=end)
        except OSError as fault:
            # Where S3 has no first byte of a range to give, it says that the range is wrong.
            if not self._s3 or fault.errno != errno.EINVAL or self._fs.size(path) > start:
                raise
            return b""
        return data

    def _existing(self, key: str, size: int) -> bytes | None:
        try:
            return self.get(key, max_bytes=size)
        except (Missing, Reject):
            return None

    def _create_file(self, path: Path, data: bytes) -> bool:
        self._make_folder(path.parent)
        temporary = Path(self._root) / _TEMPORARY / secrets.token_hex(12)
        self._make_folder(temporary.parent)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(temporary)  # the one step that is atomic and exclusive
                made = True
            except FileExistsError:
                made = False
        finally:
            temporary.unlink(missing_ok=True)
        # Also when it was there: its maker may have died before its own flush.
        _flush_folder(path.parent)
        return made

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)

    def _remove_abandoned(self) -> None:
        for path in (Path(self._root) / _TEMPORARY).glob("*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _ABANDONED:
                    path.unlink()

    def _create_memory(self, path: str, data: bytes) -> bool:
        with _memory_lock:
            if self._fs.exists(path):
                return False
            self._fs.pipe_file(path, data)
            return True

    def _create_remote(self, path: str, data: bytes) -> bool:
        """One put with If-None-Match: the store decides who was first."""
        # In parts, the bytes of both racers would travel before one is told that it lost.
        whole = {"chunksize": _S3_PUT} if self._s3 else {}
        try:
            self._fs.pipe_file(path, data, mode="create", **whole)
        except FileExistsError:
            return False
        except Exception:  # another driver's word for it, or an answer that was lost
            if self._fs.isfile(path):
                return False
            raise
        return True


def _files(folder: str) -> list[str]:
    """Below a folder. fsspec takes one that it cannot read for an empty one: a learner would begin
    anew beside its journal.
    """

    def failed(fault: OSError) -> None:
        if not isinstance(fault, FileNotFoundError | NotADirectoryError):
            raise fault

    walk = os.walk(folder, onerror=failed)
    return [f"{at}/{name}" for at, _, names in walk for name in names]


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _advice(fault: Exception) -> str:
    """What to do about an answer of the store, or about none."""
    if isinstance(fault, PermissionError):
        return "let these credentials read and write there, or give others"
    if isinstance(fault, FileNotFoundError | NotADirectoryError):
        return "make the bucket or folder, or correct spec.transport.storage.url"
    if isinstance(fault, OSError) and fault.errno in _FULL:
        return "it is full: free some of it, or raise its quota"
    return "start it, or correct spec.transport.storage.url and the endpoint in AWS_ENDPOINT_URL"


def _made(told: dict[str, Any]) -> float:
    """When, in the words of whichever driver."""
    at = told.get("mtime") or told.get("LastModified") or told.get("created") or 0.0
    return at.timestamp() if isinstance(at, datetime) else float(at)


def _s3_options() -> dict[str, Any]:
    """What the AWS environment variables do not say, or botocore does not read from them."""
    options: dict[str, Any] = {
        "config_kwargs": {
            # The digest of a put is part of its signature: half a body is refused, not stored.
            "s3": {"payload_signing_enabled": True},
            # In some regions it would sign for others in a way that says nothing of headers.
            "signature_version": "s3v4",
            "request_checksum_calculation": "when_required",
            # s3fs asks again by itself: both together would keep a caller waiting for minutes.
            "retries": {"total_max_attempts": 1},
        }
    }
    if region := os.environ.get("AWS_REGION"):
        options["client_kwargs"] = {"region_name": region}
    return options


def _flush_folder(folder: Path) -> None:
    """Make the folder's entries survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
