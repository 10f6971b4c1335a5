"""What the robot lived through and the learner has not receipted, on the robot's own disk.

One file per record, `<n>.rec`: a batch of one, so its header carries the payload's digest. Numbers
grow from 1 and are never used twice under one spool id: the header file remembers how far they
have come, and whether the newest is a part of an episode that goes on, before the last file that
shows it is deleted. A wiped disk is a new spool id. Files of other jobs below the same folder are
kept apart, bounded, and never sent: a job made anew under an old name must not ingest them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import secrets
import shutil
import threading
from typing import IO, TYPE_CHECKING, Any

from pydantic import ValidationError

from fleet_contract.agents import SPOOL_BYTES, SPOOL_RECORDS
from fleet_contract.errors import Fenced, Reject, RejectCode, Retry
from fleet_contract.messages import Outcome, Record, decode_batch, digest_of, encode_batch
from fleet_runtime.robot.files import flush_folder, full, remedy, remove_unfinished, write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

CLOSED_BYTES = 1 * 2**30
"""Room for what earlier jobs left unreceipted; the oldest goes first."""

RECENT_BYTES, RECENT_RECORDS = 4 * 2**20, 256
"""How much of the newest is kept in memory, too: mostly it is sent at once, and reading it again
would wait for whatever is being written. A robot that is cut off for days spools on."""

_HEADER = "spool.json"
_LOCK = "lock"
_SUFFIX = ".rec"


class Spool:
    """The records of one job on this disk. Safe to use from several threads."""

    def __init__(
        self,
        root: Path,
        *,
        job_uid: str,
        max_bytes: int = SPOOL_BYTES,
        max_records: int = SPOOL_RECORDS,
    ) -> None:
        """Open or make the job's spool below `root`.

        Args:
            root: a folder on a disk that outlives the program.
            job_uid: whose records these are.
            max_bytes: payload bytes kept; beyond it the oldest payloads become tombstones.
            max_records: records kept, tombstones among them; beyond it `append` refuses.

        Raises:
            Fenced: another process has this spool open.
        """
        self.folder = root / job_uid
        self.folder.mkdir(parents=True, exist_ok=True)
        flush_folder(root)
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._guard = threading.Lock()
        self._lock = _locked(self.folder / _LOCK)
        remove_unfinished(self.folder)
        self._files = {
            int(path.stem): path.stat().st_size for path in self.folder.glob(f"*{_SUFFIX}")
        }
        self._recent: dict[int, tuple[Record, bytes]] = {}
        self.evicted = 0
        """Payloads given up since the program started, for want of room or to a bad disk."""
        header = self._read_header()
        if header is None:
            header = {"spoolId": secrets.token_hex(16), "next": 1}
            self._renumber(header["spoolId"])
            self._write_header(header)
        self.spool_id: str = header["spoolId"]
        self._promised: int = header["next"]
        self._next = max([self._promised, *(n + 1 for n in self._files)])
        self._unfinished = self._goes_on(header.get("unfinished"))
        _bound_closed(root, keep=self.folder)

    def close(self) -> None:
        """Let another process open it."""
        self._lock.close()

    @property
    def depth(self) -> int:
        """Records that no receipt has settled."""
        return len(self._files)

    @property
    def nbytes(self) -> int:
        """Bytes of these records."""
        return sum(self._files.values())

    @property
    def free(self) -> float:
        """Share of the limits that is left, or that the disk has room for; 0 to 1."""
        try:
            disk = shutil.disk_usage(self.folder).free
        except OSError:  # a folder that is gone takes nothing
            disk = 0
        room = min(self._max_bytes - self.nbytes, disk)
        shares = room / self._max_bytes, 1 - self.depth / self._max_records
        return max(0.0, min(shares))

    def pending(self) -> list[int]:
        """Their numbers, in order."""
        return sorted(list(self._files))  # noqa: C414 - one step, so it need not wait for a write

    def append(self, draft: Record, payload: bytes) -> Record:
        """Number a record and keep it; when this returns it survives kill and power cut.

        Args:
            draft: the record; its number and spool id are filled in here.
            payload: its bytes, those of `draft.digest`.

        Raises:
            Retry: no room, even after giving up older payloads; nothing was kept.
        """
        with self._guard, self._on_disk():
            if len(self._files) >= self._max_records:
                raise Retry(f"spool {self.folder} holds {len(self._files)} records, its limit")
            record = draft.model_copy(update={"n": self._next, "spool_id": self.spool_id})
            data = encode_batch([(record, payload)])
            if len(data) > self._max_bytes:
                raise Retry(f"record of {len(data)} bytes, {self.folder} takes {self._max_bytes}")
            self._make_room(len(data))
            while True:
                try:
                    write_whole(self._path(record.n), data)
                    break
                except OSError as fault:
                    if not full(fault) or not self._evict_oldest():
                        raise
            self._files[record.n] = len(data)
            self._next = record.n + 1
            self._unfinished = None if record.last else record
            self._remember(record, payload)
            return record

    def close_unfinished(self) -> Record | None:
        """Append that no more will come of the episode whose part came last; None where none did.

        To be called while no episode is under way. Raises as `append`.
        """
        part = self._unfinished
        if part is None:
            return None
        end = {"segment": part.segment + 1, "last": True, "outcome": Outcome.ABORTED}
        nothing = {"digest": digest_of(b""), "size": 0, "evicted": False}
        return self.append(part.model_copy(update=end | nothing), b"")

    def read(self, n: int) -> tuple[Record, bytes]:
        """A record and its payload, empty where it is a tombstone.

        A file that the disk no longer gives back whole becomes a tombstone. Raises KeyError for
        a number that is settled, `Retry` while the disk takes not even that.
        """
        if (recent := self._recent.get(n)) is not None:
            return recent
        with self._guard, self._on_disk():
            if n not in self._files:
                raise KeyError(n)
            try:
                record, payload = _parse(self._path(n).read_bytes())
            except (OSError, Reject) as fault:
                log.error("record %d of %s is unreadable (%s); tombstone", n, self.folder, fault)  # noqa: TRY400
                return self._evict(n), b""
            return record, payload

    def settle(self, numbers: Collection[int]) -> int:
        """Delete records the learner has receipted; returns how many were still here.

        What the disk does not let go is found at the next start, sent again, and counts once.
        """
        with self._guard:
            here = [n for n in numbers if n in self._files]
            if not here:
                return 0
            try:
                self._delete(here)
            except OSError as fault:
                log.error("receipted records stay in %s: %s; %s", self.folder, fault, remedy(fault))  # noqa: TRY400
            for n in here:
                del self._files[n]
                self._recent.pop(n, None)
            return len(here)

    def _delete(self, numbers: Sequence[int]) -> None:
        if max(numbers) >= self._promised:
            # First remember that these numbers are spent, then delete what shows it.
            self._write_header(self._header())
            self._promised = self._next
        for n in numbers:
            self._path(n).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise Retry(f"spool {self.folder}: {fault}; {remedy(fault)}") from fault

    def _renumber(self, spool_id: str) -> None:
        """Carry files without their header over to a new id; nobody knows which numbers are spent.

        A crash on the way leaves no header, so the next start does it again under yet another id.
        """
        files: dict[int, int] = {}
        for n in sorted(self._files):
            try:
                record, payload = _parse(self._path(n).read_bytes())
            except (OSError, Reject) as fault:
                log.error("record %d of %s is unreadable (%s); dropped", n, self.folder, fault)  # noqa: TRY400
                self.evicted += 1
            else:
                record = record.model_copy(update={"n": len(files) + 1, "spool_id": spool_id})
                data = encode_batch([(record, payload)])
                write_whole(self._path(record.n), data)  # never a later file's place: it is <= n
                files[record.n] = len(data)
            if n not in files:
                self._path(n).unlink(missing_ok=True)
        self._files = files

    def _remember(self, record: Record, payload: bytes) -> None:
        kept = self._recent
        kept[record.n] = record, payload
        while (
            len(kept) > RECENT_RECORDS or sum(len(one) for _, one in kept.values()) > RECENT_BYTES
        ):
            del kept[next(iter(kept))]

    def _make_room(self, size: int) -> None:
        while self.nbytes + size > self._max_bytes and self._evict_oldest():
            pass

    def _evict_oldest(self) -> bool:
        """Turn the oldest payload into a tombstone; False when there is none left."""
        for n in sorted(self._files):
            if self._files[n] > _TOMBSTONE_BYTES:
                log.warning(
                    "spool %s is full: the payload of record %d is given up", self.folder, n
                )
                self._evict(n)
                return True
        return False

    def _evict(self, n: int) -> Record:
        try:
            record, _ = _parse(self._path(n).read_bytes())
        except (OSError, Reject):
            record = _unreadable(self.spool_id, n)
        tombstone = record.model_copy(update={"evicted": True})
        self._recent.pop(n, None)
        data = encode_batch([(tombstone, b"")])
        # A full disk may refuse the new file while the old one stands: shrink it in place then.
        try:
            write_whole(self._path(n), data)
        except OSError:
            self._path(n).write_bytes(data)
        self._files[n] = len(data)
        self.evicted += 1
        return tombstone

    def _path(self, n: int) -> Path:
        return self.folder / f"{n:012d}{_SUFFIX}"

    def _read_header(self) -> dict[str, Any] | None:
        try:
            header: dict[str, Any] = json.loads((self.folder / _HEADER).read_bytes())
            return header | {"spoolId": str(header["spoolId"]), "next": int(header["next"])}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as fault:
            log.error("%s is unreadable (%s); a new spool begins", self.folder / _HEADER, fault)  # noqa: TRY400
            return None

    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = {"spoolId": self.spool_id, "next": self._next}
        if (part := self._unfinished) is not None:
            told = part.model_dump(mode="json", by_alias=True, exclude_none=True)
            header["unfinished"] = told
        return header

    def _goes_on(self, told: object) -> Record | None:
        """The newest record, as a file shows it or the header tells, where its episode goes on."""
        newest = max(self._files, default=0)
        try:
            if newest >= self._promised:
                record, _ = _parse(self._path(newest).read_bytes())
            elif told is None:
                return None
            else:
                record = Record.model_validate(told)
        except (OSError, Reject, ValidationError) as fault:
            log.warning("whether an episode of %s goes on is not known: %s", self.folder, fault)
            return None
        return None if record.last else record

    def _write_header(self, header: dict[str, Any]) -> None:
        write_whole(self.folder / _HEADER, json.dumps(header).encode())


_TOMBSTONE_BYTES = 2048
"""No larger file is a tombstone; smaller ones are not worth evicting."""


def _parse(data: bytes) -> tuple[Record, bytes]:
    entries = decode_batch(data)
    if len(entries) != 1:
        raise Reject(RejectCode.MALFORMED, f"{len(entries)} records in one file")
    record, payload = entries[0]
    if not record.evicted and digest_of(payload) != record.digest:
        raise Reject(RejectCode.MALFORMED, f"the payload of record {record.n} has another digest")
    return record, payload


def _unreadable(spool_id: str, n: int) -> Record:
    """A tombstone for a record of which the disk gives back nothing."""
    return Record(
        robot="",
        robot_uid="",
        job_uid="",
        spool_id=spool_id,
        n=n,
        episode_id="",
        task="",
        evicted=True,
        digest=digest_of(b""),
        size=0,
        started_at=0.0,
        ended_at=0.0,
    )


def _locked(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        file.close()
        raise Fenced(f"{path.parent} is open in another process; one robot, one agent") from fault
    return file


def _bound_closed(root: Path, *, keep: Path) -> None:
    """Drop the oldest leavings of earlier jobs beyond `CLOSED_BYTES`."""
    sizes = {
        folder: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in root.iterdir()
        if folder.is_dir() and folder != keep and (folder / _HEADER).exists()
    }
    for folder in sorted(sizes, key=lambda item: item.stat().st_mtime):
        if sum(sizes.values()) <= CLOSED_BYTES:
            return
        log.warning("the unreceipted spool of an earlier job is dropped: %s", folder)
        shutil.rmtree(folder)
        del sizes[folder]
