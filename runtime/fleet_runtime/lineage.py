"""``python -m fleet_runtime.lineage``: what `fleet lineage` asks of a job's store. Reads only.

From a version to the episodes of its snapshot: those that the journal's segments, up to the one
that its manifest names, gave to training. From an episode to its record: who lived it, under which
version, what became of it, and which versions came after. The answer is one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from fleet_contract import names
from fleet_contract.errors import FleetError, Untrusted
from fleet_contract.messages import Manifest, digest_of
from fleet_runtime.artifacts import Missing, Store
from fleet_runtime.learner import retention
from fleet_runtime.learner.admission import trains
from fleet_runtime.learner.intake import absorb
from fleet_runtime.learner.journal import Journal
from fleet_runtime.learner.library import Library
from fleet_runtime.learner.receipts import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_contract.messages import Record
    from fleet_runtime.learner.journal import Segment

NOBODY = 2**62
"""An epoch above every learner's: whoever only reads is not fenced."""


def of_version(store: Store, job_uid: str, sequence: int) -> dict[str, Any]:
    """Its manifest and the episodes behind it. Raises FleetError, `Missing` among them."""
    key = names.version_key(job_uid, sequence)
    data = store.get(key)
    manifest = Manifest.open(data)
    base = retention.newest(store, job_uid)
    journal = Journal(store, job_uid, NOBODY, base.position)
    ledger, library = Ledger(base.spools), Library(journal)
    through = manifest.lineage.through
    # Of one that came in parts the newest word counts; as yet unfinished it has no outcome.
    episodes = {
        change.record.episode_id: _told(change.record) | {"segment": segment.position}
        for segment in journal.replay()
        if segment.position <= through
        for change in absorb(segment, ledger, library)
    }
    return {
        "manifest": {"uri": key, "digest": digest_of(data), "step": manifest.step},
        "segments": {"first": manifest.lineage.first, "through": through},
        "told": manifest.lineage.episodes,
        "episodes": list(episodes.values()),
        "forgotten": sum(base.episodes.values()),
    }


def of_episode(store: Store, job_uid: str, episode_id: str) -> dict[str, Any]:
    """Its record, the version that acted and those that learned from it. Raises FleetError."""
    base = retention.newest(store, job_uid)
    found, since, ended = None, NOBODY, False
    for segment, record, refusal in _records(store, job_uid, base.position):
        if record.episode_id != episode_id:
            continue
        if not refusal:  # it may have been learned from since its first part came
            since = min(since, segment.position)
        # Of parts the last one tells most: how it ended.
        if found is None or found["refused"] or (record.last and not (refusal or ended)):
            ended = record.last and not refusal
            found = _told(record) | {
                "robotUid": record.robot_uid,
                "spool": record.spool_id,
                "number": record.n,
                "segment": segment.position,
                "assignmentEpoch": record.assignment_epoch,
                "startedAt": record.started_at,
                "endedAt": record.ended_at,
                "evicted": record.evicted,
                "refused": refusal,
            }
    if found is None:
        gone = f"; the journal begins at segment {base.position}" if base.position else ""
        raise Missing(f"no record in {names.job_root(job_uid)}/journal names {episode_id}{gone}")
    found["learned"] = []
    if found["trains"] and not found["refused"]:
        found["learned"] = [
            one.sequence
            for one in _manifests(store, job_uid)
            if one.lineage.first <= since <= one.lineage.through
        ]
    return found


def _told(record: Record) -> dict[str, Any]:
    acted = record.manifest is not None
    return {
        "id": record.episode_id,
        "robot": record.robot,
        "task": record.task,
        "outcome": record.outcome.value if record.outcome else "",
        "mode": record.mode.value,
        "trains": trains(record),
        "version": record.sequence if acted else None,
        "manifest": record.manifest,
    }


def _records(store: Store, job_uid: str, first: int) -> Iterator[tuple[Segment, Record, str]]:
    for segment in Journal(store, job_uid, NOBODY, first).replay():
        for entry in segment.entries:
            yield segment, entry.record, str(entry.refusal) if entry.refusal else ""


def _manifests(store: Store, job_uid: str) -> Iterator[Manifest]:
    for key in store.list(names.version_key(job_uid, 0).rsplit("/", 1)[0]):
        with contextlib.suppress(Untrusted, Missing):  # its number is spent, no more
            yield Manifest.open(store.get(key))


def main(arguments: list[str] | None = None) -> int:
    """The exit code; 1 with a sentence on stderr for what cannot be found."""
    parser = argparse.ArgumentParser(prog="fleet_runtime.lineage", description=__doc__)
    parser.add_argument("--storage", required=True, help="URL of the job's store")
    parser.add_argument("--job-uid", required=True)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--version", type=int)
    which.add_argument("--episode")
    chosen = parser.parse_args(arguments)
    try:
        store = Store(chosen.storage)
        if chosen.episode:
            answer = of_episode(store, chosen.job_uid, chosen.episode)
        else:
            answer = of_version(store, chosen.job_uid, chosen.version)
    except (FleetError, ValueError) as fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
