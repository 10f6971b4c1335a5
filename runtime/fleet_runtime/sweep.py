"""``python -m fleet_runtime.sweep``: the objects of jobs that were deleted, told of or removed.

Without arguments it tells what lies in the store, job by job. With jobs' UIDs it tells what it
would remove of them, and removes it where ``--yes`` stands beside. Nothing here speaks Kubernetes:
a job is there while the broker has its streams, which the operator keeps as long as the job exists
and removes when it is gone. Where the wrong broker is asked, or a broker with accounts as another
namespace's reader, a job that works is still known by what its learner has just stored.

Exit codes: 0 done, 1 refused or unreachable, with a sentence on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract import names
from fleet_contract.errors import FleetError
from fleet_contract.names import Env, Identity, Stream, shown
from fleet_runtime.artifacts import Store
from fleet_runtime.settings import UID_PATTERN
from fleet_runtime.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet_runtime.artifacts import Described

IDLE_HOURS = 24.0
HOUR = 3600.0
PATIENCE = 10.0  # seconds until the broker must have answered


class Held(NamedTuple):
    """What a store holds of one job."""

    objects: Mapping[str, Described]
    streams: bool

    @property
    def nbytes(self) -> int:
        return sum(one.size for one in self.objects.values())

    def idle(self, now: float) -> float:
        """Hours since the newest of them was made."""
        newest = max((one.made for one in self.objects.values()), default=0.0)
        return (now - newest) / HOUR


def refusal(uid: str, held: Held, now: float, least: float) -> str:
    """Why nothing may be removed of a job; empty where it may. Pure."""
    if held.streams:
        return f"{uid}: the job exists, the broker has its streams; delete it first"
    if not held.objects:
        return f"{uid}: the store holds nothing of such a job"
    if (idle := held.idle(now)) < least:
        return (
            f"{uid}: something was stored {max(0.0, idle):.1f} hours ago, so it may be at work at "
            f"another broker; make sure that it is gone, then wait {least:g} hours or say --idle"
        )
    return ""


def by_job(objects: Mapping[str, Described]) -> dict[str, dict[str, Described]]:
    """Objects below ``jobs/``, by the UID of their job. Pure."""
    found: dict[str, dict[str, Described]] = {}
    for key, told in objects.items():
        found.setdefault(key.split("/")[1], {})[key] = told
    return found


async def with_streams(
    nats_url: str,
    uids: Iterable[str],
    credentials: Path | None = None,
    authorities: Path | None = None,
) -> set[str]:
    """Those of them that the broker has a stream of. Raises `Retry` where it does not answer."""
    inbox = names.inbox(Identity.READER, names.READER)
    try:
        async with asyncio.timeout(PATIENCE):
            wire = await Wire.connect(
                nats_url, "sweep", inbox=inbox, credentials=credentials, authorities=authorities
            )
    except TimeoutError:
        raise FleetError(
            f"NATS at {shown(nats_url)} does not answer, or takes nobody without an "
            f"identity (--credentials, {Env.NATS_CREDENTIALS}): without it nobody knows which jobs "
            "exist"
        ) from None
    try:
        there = await wire.streams()
    finally:
        await wire.close()
    return {uid for uid in uids if any(names.stream(uid, kind) in there for kind in Stream)}


def sweep(chosen: argparse.Namespace, now: float) -> int:
    """The exit code. Raises FleetError and ValueError."""
    store = Store(chosen.storage)
    if chosen.uid:
        jobs = {uid: store.described(names.job_root(uid)) for uid in chosen.uid}
    else:
        jobs = by_job(store.described(names.JOBS_ROOT))
    streams = asyncio.run(with_streams(chosen.nats, jobs, chosen.credentials, chosen.authorities))
    wrong = 0
    for uid, objects in sorted(jobs.items()):
        held = Held(objects, uid in streams)
        size = f"{len(objects)} objects, {held.nbytes / 1e6:.1f} MB"
        why = refusal(uid, held, now, chosen.idle)
        if not chosen.uid:
            state = "exists" if held.streams else f"no streams, idle for {held.idle(now):.0f} hours"
            sys.stdout.write(f"{uid}: {size}, {state}\n")
        elif why:
            sys.stderr.write(f"error: {why}\n")
            wrong = 1
        elif chosen.yes:
            for key in objects:
                store.delete(key)
            sys.stdout.write(f"{uid}: {size} removed\n")
        else:
            sys.stdout.write(f"{uid}: {size} would go; say --yes to remove them\n")
    return wrong


def a_uid(text: str) -> str:
    """Itself. Raises ValueError for what could stand for another folder."""
    if not re.fullmatch(UID_PATTERN, text):
        raise ValueError(text)
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="fleet_runtime.sweep", description=__doc__)
    made.add_argument("uid", nargs="*", type=a_uid, help="UID of a job that was deleted")
    made.add_argument("--storage", default=os.environ.get(Env.STORAGE_URL), help=Env.STORAGE_URL)
    made.add_argument("--nats", default=os.environ.get(Env.NATS_URL), help=Env.NATS_URL)
    ca, file = os.environ.get(Env.NATS_CA), os.environ.get(Env.NATS_CREDENTIALS)
    made.add_argument(
        "--authorities",
        type=Path,
        default=Path(ca) if ca else None,
        help=f"file of who may sign the certificate of NATS; {Env.NATS_CA}",
    )
    made.add_argument(
        "--credentials",
        type=Path,
        default=Path(file) if file else None,
        help=f"file of the reader's identity, where NATS has accounts; {Env.NATS_CREDENTIALS}",
    )
    made.add_argument("--idle", type=float, default=IDLE_HOURS, help="hours without a new object")
    made.add_argument("--yes", action="store_true", help="remove; else only tell")
    return made


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    asked = parser()
    chosen = asked.parse_args(arguments)
    if not chosen.storage or not chosen.nats:
        asked.error(f"--storage and --nats, or {Env.STORAGE_URL} and {Env.NATS_URL}, must be given")
    if chosen.credentials is not None and not chosen.credentials.is_file():
        asked.error(f"--credentials: there is no file {chosen.credentials}")
    try:
        return sweep(chosen, time.time())
    except (FleetError, ValueError) as fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
