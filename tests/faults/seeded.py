"""The seeded bugs, such as are really made: one table for all programs.

    python -m faults.seeded NAME FOLDER ANSWER PROGRAMS

plays the case of one with the programs that are on the path, and writes what it tells to ANSWER.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import fleet_runtime
from faults import attacks, drive, hostile, losses, offline, power, publishing
from faults.injections import KillWhere, StaleWhere
from faults.mutants import Law, Mutant
from faults.stream import CUTS
from fleet_runtime.robot.guard import GuardSettings
from helpers.cable import Harm

if TYPE_CHECKING:
    from faults.mutants import Case

_RUN = partial(KillWhere, resource="jobs", said="learner")
_STABLE = partial(KillWhere, resource="fleettrainingjobs/status", said='"stable"')
_NOTHING = partial(StaleWhere, resource="fleettrainingjobs/status", said='"stable"')
_TELL = "    await _tell(office, world, decision, after)\n"
_WRITE = """    if wait:
        office.wake_in(Key(Kind.TRAINING_JOB, name), wait)
    elif wait is not None:
        await office.cluster.write_status(Kind.TRAINING_JOB, world.job.metadata, after.dump())
        office.written_at[uid] = office.inbox.now
"""

_R, _L = "fleet_runtime/robot/", "fleet_runtime/learner/"
_ONCE = """            if self._ledger.settled(record) or key in found.keys:
                self._repeated(record, inline, found)
                return
            episode = None
            if not (record.evicted or record.closes):
                payload = fetch_payload(self._store, record, inline, self._strikes)
                found.fetched += len(payload) if record.uri else 0
                episode = self._rules.check_payload(record, payload)
                self._unique(record, found)
"""
_DELTAS = """            for delta, parts in told:
                self._keep(delta.files, parts)
"""
_MANIFEST = """            deltas = tuple(one.delta for one in told)
            manifest = self._manifest(snapshot, refs, tensor_refs, deltas)
            data = manifest.seal(self.sign)
            try:
                self._store.create(names.version_key(self._job_uid, manifest.sequence), data)
            except Exists:
                self._lost(manifest.sequence)
                told = self._told(files, ours)
                continue
"""
_ASIDE = """        temporary = Path(self._root) / _TEMPORARY / secrets.token_hex(12)
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
"""
_IN_PLACE = """        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            made = True
        except FileExistsError:
            made = False
"""
_LOOK = """        state = await self._wire.stream_state(self._who.stream(Stream.EXPERIENCE))
        if state is not None and self._ledger.stream(state.id, state.last):
            log.warning("the broker lost experience; it is sent again")
"""


def _attack(name: str, state: str = "running a version") -> Case:
    return partial(attacks.played, name=name, state=state)


OPERATOR = (
    Mutant(
        "one robot too many",
        Law.STAGE,
        "fleet_operator/decide/cohort.py",
        "count = size(step, len(there))",
        "count = size(step, len(there)) + 1",
    ),
    Mutant(
        "promoted an episode early",
        Law.STAGE,
        "fleet_operator/decide/analysis.py",
        "evidence.episodes < step.min_episodes",
        "evidence.episodes < step.min_episodes - 1",
    ),
    Mutant(
        "the clock in a status",
        Law.QUIET,
        "fleet_operator/decide/conditions.py",
        "if old and old.status == status",
        'if old and old.status == status and status != "True"',
    ),
    Mutant(
        "what exists is a fault",
        Law.QUIET,
        "fleet_operator/cluster.py",
        'self._call("POST", path, query=query, body=manifest, absent={409})',
        'self._call("POST", path, query=query, body=manifest)',
        shown_by=partial(KillWhere, resource="events", said="FirstVersion"),
    ),
    Mutant(
        "a run numbered by the status alone",
        Law.QUIET,
        "fleet_operator/decide/learner.py",
        "number = max([last_number, *(run.number for run in runs if run.ours)])",
        "number = last_number",
        shown_by=_RUN,
    ),
    Mutant(
        "people told after the status",
        Law.QUIET,
        "fleet_operator/handlers/training_job.py",
        _TELL + _WRITE,
        _WRITE + _TELL,
        shown_by=_STABLE,
    ),
    Mutant(
        "streams that a list calls orphans",
        Law.ONCE,
        "fleet_operator/handlers/endings.py",
        "                and not await _has_job(office, one)\n",
        "",
        shown_by=_NOTHING,
    ),
    Mutant(
        "a learner that a list does not show",
        Law.QUIET,
        "fleet_operator/handlers/job_children.py",
        " and not await _lives(office, world, run.number - 1)",
        "",
        shown_by=_NOTHING,
    ),
)
RUNTIME = (
    Mutant(
        "let go of at the broker's ack",
        Law.ONCE,
        f"{_R}uploader.py",
        '        self.records["stored"] += len(entries)\n',
        "        self._spool.settle([record.n for record, _ in entries])\n",
        partial(losses.rots, seed=1, records=200, kind="all gone"),
    ),
    Mutant(
        "the watermark one too high",
        Law.ONCE,
        f"{_L}receipts.py",
        "learner_epoch=epoch,\n            through=spool.through,",
        "learner_epoch=epoch,\n            through=spool.through + 1,",
        partial(losses.rots, seed=1, records=400, kind="all gone"),
    ),
    Mutant(
        "a stream made anew is not noticed",
        Law.ONCE,
        f"{_R}uploader.py",
        _LOOK,
        "",
        partial(losses.rots, seed=1, records=200, kind="the stream gone"),
    ),
    Mutant(
        "a spool that is not flushed",
        Law.ONCE,
        f"{_R}files.py",
        "        os.fsync(file.fileno())\n",
        "",
        partial(power.power_cuts, case="robot", seed=1, records=1000),
        wants_root=True,
    ),
    Mutant(
        "a store that is not flushed",
        Law.ONCE,
        "fleet_runtime/artifacts.py",
        "                os.fsync(file.fileno())\n",
        "",
        partial(power.power_cuts, case="learner", seed=1, records=400),
        wants_root=True,
    ),
    Mutant(
        "receipts before the journal",
        Law.ONCE,
        f"{_L}journal.py",
        "            self._store.create(key, data)\n",
        "            threading.Timer(1, self._store.create, (key, data)).start()\n",
        partial(losses.repeats, seed=1, records=400, times=1),
    ),
    Mutant(
        "nobody looks whether it came before",
        Law.ONCE,
        f"{_L}intake.py",
        _ONCE,
        _ONCE.replace("self._ledger.settled(record) or ", "").replace(
            "                self._unique(record, found)\n", ""
        ),
        partial(losses.repeats, seed=1, records=400, times=1),
    ),
    Mutant(
        "parts stay beside the whole",
        Law.ONCE,
        "fleet_runtime/replay/index.py",
        "        for number in taken[1:]:\n            self._remove(number)\n",
        "",
        partial(losses.repeats, seed=1, records=60, times=1, cuts=CUTS),
    ),
    Mutant(
        "a learner of before is not stopped by its fence",
        Law.ONCE,
        f"{_L}journal.py",
        "        self._fence(segment)\n        self.position += 1\n",
        "        self.position += 1\n",
        partial(losses.outlived, seed=1, records=200),
    ),
    Mutant(
        "the last writer wins",
        Law.ONCE,
        "fleet_runtime/artifacts.py",
        "path.hardlink_to(temporary)",
        "temporary.rename(path)",
        partial(losses.outlived, seed=1, records=200),
    ),
    Mutant(
        "an older epoch is taken",
        Law.TRUE,
        f"{_R}assignment.py",
        "if document.order < held:",
        "if document.order[0] < held[0]:",
        _attack("rollback: a true one of before, in time"),
    ),
    Mutant(
        "dates are not looked at",
        Law.TRUE,
        f"{_R}assignment.py",
        "if now_ms > document.expires_at_ms:",
        "if document.issued_at_ms > document.expires_at_ms:",
        _attack("freeze: a true one that is out of date", "fresh disk"),
    ),
    Mutant(
        "an epoch is held before its document is believed",
        Law.TRUE,
        f"{_R}follower.py",
        "            held = self._memory.order or NEVER\n",
        "            held = self._memory.order or NEVER\n"
        "            self._memory.hold(document.order)\n",
        _attack("freeze: a true one that is out of date"),
    ),
    Mutant(
        "a manifest that nobody signed",
        Law.TRUE,
        f"{_R}fetch.py",
        "Manifest.open(self._got(ref.uri, ref.digest, MAX_MANIFEST), self._verify)",
        "Manifest.open(self._got(ref.uri, ref.digest, MAX_MANIFEST))",
        _attack("policy: unsigned"),
    ),
    Mutant(
        "what the store gives is right",
        Law.TRUE,
        "fleet_runtime/artifacts.py",
        "if digest is not None and digest_of(data) != digest:",
        "if digest is not None and not data:",
        _attack("mirror: another version's weights"),
    ),
    Mutant(
        "a manifest before its deltas",
        Law.TRUE,
        f"{_L}publish.py",
        _DELTAS + _MANIFEST,
        _MANIFEST + _DELTAS,
        partial(publishing.killed, at=36),
    ),
    Mutant(
        "objects written in their place",
        Law.TRUE,
        "fleet_runtime/artifacts.py",
        _ASIDE,
        _IN_PLACE,
        partial(publishing.killed, at=14),
    ),
    Mutant(
        "what is offered drives at once",
        Law.SWAP,
        f"{_R}loop.py",
        "        guard, seed, seen = self._guard, self._shadow.seed(), run.seen\n",
        "        loaded = self._desk.slot.next or loaded\n"
        "        guard, seed, seen = self._guard, self._shadow.seed(), run.seen\n",
        partial(drive.swaps, seed=1, episodes=60),
    ),
    Mutant(
        "a version taken back leaves nothing to drive",
        Law.SWAP,
        f"{_R}swap.py",
        "self, active=good, pending=pending",
        "self, active=None, pending=pending",
        partial(drive.swaps, seed=1, episodes=300),
    ),
    Mutant(
        "what is denied begins an episode",
        Law.SWAP,
        f"{_R}swap.py",
        "return None if chosen is None or chosen.digest in self.denied else chosen",
        "return chosen",
        partial(drive.swaps, seed=1, episodes=200),
    ),
    Mutant(
        "other bytes than the digest says",
        Law.REFUSED,
        f"{_L}admission.py",
        "whole = digest_of(payload) == record.digest",
        "whole = len(payload) == record.size",
        partial(hostile.attacked, seed=1, inputs=300),
    ),
    Mutant(
        "a broken record ends its message",
        Law.REFUSED,
        f"{_L}intake.py",
        "                found.touched.add(spool_of(record))\n            except Retry",
        "                return True\n            except Retry",
        partial(hostile.attacked, seed=1, inputs=300),
    ),
    Mutant(
        "a forger spends others' numbers",
        Law.REFUSED,
        f"{_L}intake.py",
        "if record.robot != robot or record.n < 1:",
        "if record.n < 1:",
        partial(hostile.attacked, seed=1, inputs=300),
    ),
    Mutant(
        "one number that is finite is enough",
        Law.REFUSED,
        "fleet_runtime/experience/types.py",
        "not np.isfinite(getattr(self, name)).all()",
        "not np.isfinite(getattr(self, name)).any()",
        partial(hostile.attacked, seed=1, inputs=300),
    ),
    Mutant(
        "the guard's answer is not what is done",
        Law.MOTOR,
        f"{_R}episode.py",
        "        executed = self._robot.act(self._guard(asked))\n",
        "        self._guard(asked)\n        executed = self._robot.act(asked)\n",
        partial(drive.bad_actions, seed=1, acts=4000),
    ),
    Mutant(
        "a late answer counts",
        Law.MOTOR,
        f"{_R}loop.py",
        "guard.patience * self._period if moves else _HANGS",
        "_HANGS",
        partial(drive.bad_actions, seed=1, acts=4000),
    ),
    Mutant(
        "every action is an episode's first",
        Law.MOTOR,
        f"{_R}guard.py",
        "self._held, self._moved = safe, True",
        "self._held = safe",
        partial(drive.bad_actions, seed=1, acts=4000, settings=GuardSettings(rate=0.3)),
    ),
    Mutant(
        "a spool without a bound",
        Law.BOUND,
        f"{_R}spool.py",
        "            self._make_room(len(data))\n",
        "",
        partial(offline.hours_alone, hours=0.6, steps=120, room=60_000),
    ),
    Mutant(
        "a refusal keeps what it was found in",
        Law.BOUND,
        f"{_L}intake.py",
        "kept = Reject(refusal.code, refusal.message)",
        "kept = refusal",
        partial(hostile.attacked, seed=1, inputs=1500),
    ),
    Mutant(
        "a connection that is forgotten is held for alive",
        Law.BOUND,
        "fleet_runtime/wire.py",
        "_PING = 10\n",
        "_PING = 120\n",
        partial(losses.partition, seed=1, how=Harm.FORGOTTEN, seconds=2),
    ),
)
MUTANTS = (*OPERATOR, *RUNTIME)


async def _play(one: Mutant, folder: Path) -> object:
    assert one.case is not None
    found = one.case(folder)
    return await found if inspect.isawaitable(found) else found


def main() -> None:
    """Exit code 0 whatever is found."""
    logging.disable(logging.CRITICAL)
    name, folder, answer, programs = sys.argv[1:]
    assert Path(fleet_runtime.__path__[0]).is_relative_to(programs), fleet_runtime.__path__
    (one,) = (one for one in MUTANTS if one.name == name)
    found = asyncio.run(_play(one, Path(folder)))
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
