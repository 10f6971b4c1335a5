"""`make torture`: the rows of the scoreboard at full size, one line of JSON for each run.

What passed already, with this very operator, is not run again: end it at any time and start it
anew. What failed is, for the bench may have been mended; the last run of a case counts.
"""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from faults import alone, applied, cases, mutants, power, seeded, silence, verdict
from faults.bench import STEADY, Ground
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Api
from helpers.kinds import install

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]
SEQUENCES = 1000
DEAD_WATCHES = 20
QUIET_RUNS = 10
BUGS = 24
"""The row of which a part needs a cluster."""
DEFAULTS = {"FLEET_RESYNC_SECONDS": "60", "FLEET_LOST_AFTER": "20", "FLEET_PATIENCE_SECONDS": "30"}
Run = Callable[[], Awaitable[dict[str, Any]]]
"""Plays one case; of what it returns, `wrong` is a list that is empty where it passed."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One line of the results to be."""

    key: tuple[str, int]
    run: Run


class Torture:
    """One cluster and what is run in it."""

    def __init__(self, cluster: LocalCluster, api: Api, folder: Path) -> None:
        # What is run for hours is not what is being edited meanwhile.
        program = mutants.copied(folder / "program")
        self.ground = Ground(cluster, api, folder, STEADY, program=program)
        self.usual = self.ground._replace(env=DEFAULTS)
        self.stamp = _stamp()
        self._reference: verdict.Reference | None = None

    async def tasks(self, row: int) -> list[Task]:
        """All that the row consists of."""
        if row in {5, 6, 7}:
            reference = await self.reference()
            return [
                Task((case.fault, case.number), partial(self.fault, case, reference))
                for case in cases.of_row(row, reference.writes)
            ]
        if row == 8:
            return [Task(("60 s", seed), self.quiet) for seed in range(1, QUIET_RUNS + 1)]
        if row == 9:
            return [
                Task(("sequence", seed), partial(self.sequence, seed))
                for seed in range(1, SEQUENCES + 1)
            ]
        if row == 23:
            return [
                Task(("dead watch", seed), partial(self.watch, seed))
                for seed in range(1, DEAD_WATCHES + 1)
            ]
        reference = await self.reference()
        return [
            Task((one.name, 0), partial(self.mutant, one, reference))
            for one in seeded.MUTANTS
            if one.case is None
        ]

    async def reference(self) -> verdict.Reference:
        """Two runs without a fault, which must be alike."""
        if self._reference is None:
            first, found = await verdict.run(self.ground)
            second, _ = await verdict.run(self.ground, reference=found)
            if first.wrong or second.wrong:
                sys.exit(f"the scenario does not even pass by itself: {first} {second}")
            self._reference = found
            print(f"reference: {found.writes} writes in {first.seconds:.0f} s", flush=True)
        return self._reference

    async def fault(self, case: cases.Case, reference: verdict.Reference) -> dict[str, Any]:
        found, _ = await verdict.run(self.ground, fault=case.make, reference=reference)
        return found._asdict() | {"of": reference.writes}

    async def quiet(self) -> dict[str, Any]:
        found, _ = await verdict.run(self.usual, quiet=60.0)
        return found._asdict()

    async def sequence(self, seed: int) -> dict[str, Any]:
        return (await applied.run(self.ground, seed))._asdict()

    async def watch(self, seed: int) -> dict[str, Any]:
        found = await silence.detect(self.usual, seed)
        late = [f"after {found.seconds} s"] if found.seconds > 90 else []
        return found._asdict() | {"wrong": late}

    async def mutant(self, one: mutants.Mutant, reference: verdict.Reference) -> dict[str, Any]:
        """Passed where the oracle has something against it."""
        with tempfile.TemporaryDirectory() as folder:
            found, _ = await verdict.run(
                self.ground._replace(program=one.plant(Path(folder))),
                fault=one.shown_by,
                reference=reference,
                within=40.0,
            )
        noticed = [one for one in found.wrong if not one.startswith(verdict.BROKE)]
        missed = [] if noticed else ["nobody noticed", *found.wrong]
        return {"wrong": missed, "caught": noticed[:3], "law": one.law, "seconds": found.seconds}


class Alone:
    """Rows without a cluster; each run has a folder of its own."""

    def __init__(self) -> None:
        self.stamp = _stamp("runtime")

    async def tasks(self, row: int) -> list[Task]:
        """All that the row consists of."""
        if row == BUGS:
            return [
                Task((one.name, 0), partial(self.mutant, one))
                for one in seeded.MUTANTS
                if one.case and (power.possible() or not one.wants_root)
            ]
        return [Task(key, partial(self.play, row, key)) for key in alone.ROWS[row].cases]

    async def play(self, row: int, key: tuple[str, int]) -> dict[str, Any]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            found = await alone.ROWS[row].play(Path(name), *key)
        return found | {"seconds": round(time.monotonic() - began, 1)}

    async def mutant(self, one: mutants.Mutant) -> dict[str, Any]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            found = await asyncio.to_thread(mutants.noticed, one, Path(name))
        return {**found, "law": one.law, "seconds": round(time.monotonic() - began, 1)}


async def torture(cluster: LocalCluster, rows: Iterable[int], *, jobs: int, most: int) -> bool:
    """Whether all passed."""
    passed = True
    folder = cluster.dir / "runs"
    folder.mkdir(exist_ok=True)
    async with Api(cluster.kubeconfig) as api:
        await install(api)
        of = Torture(cluster, api, folder)
        for row in rows:
            passed &= await _row(of, row, jobs=jobs, most=most)
    return passed


async def without_cluster(rows: Iterable[int], *, most: int) -> bool:
    """Whether all passed; one run after the other, for they share the processor."""
    logging.disable(logging.CRITICAL)  # what they do wrong is done on purpose
    passed = True
    for row in rows:
        if row == 2 and not power.possible():
            print("row 2 is left out: to mount disks it wants root and loop devices", flush=True)
            continue
        passed &= await _row(Alone(), row, jobs=1, most=most)
    logging.disable(logging.NOTSET)
    return passed


async def _row(of: Torture | Alone, row: int, *, jobs: int, most: int) -> bool:
    path, stamp = RESULTS / f"row{row}.jsonl", of.stamp
    known = {
        (one["case"], one["number"]): one
        for one in _read(path)
        if one["operator"] == stamp["operator"] and not one["wrong"]
    }
    every = await of.tasks(row)
    left = sorted((one for one in every if one.key not in known), key=_urgency(path))[:most]
    print(f"row {row}: {len(every)} runs, {len(known)} known, {len(left)} now", flush=True)
    slots, began, done, failed = asyncio.Semaphore(jobs), time.monotonic(), 0, 0

    async def play(task: Task) -> None:
        nonlocal failed, done
        case, number = task.key
        async with slots:
            try:
                found = await task.run()
            except Exception:  # noqa: BLE001 - one run's, and no result: it is run again next time
                failed += 1
                print(f"row {row}: {case} {number}: {traceback.format_exc(limit=-4)}", flush=True)
                return
        line = {"row": row, "case": case, "number": number, **found, **stamp, "at": _now()}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        failed, done = failed + bool(found["wrong"]), done + 1
        pace = (time.monotonic() - began) / done
        print(
            f"row {row}: {done}/{len(left)} {case} {number}: "
            f"{'ok' if not found['wrong'] else found['wrong'][:3]} "
            f"({failed} failed, {pace * (len(left) - done) / 60:.0f} min left)",
            flush=True,
        )

    async with asyncio.TaskGroup() as group:
        for task in left:
            group.create_task(play(task))
    print(f"row {row}: {len(known) + done} of {len(every)} run, {failed} failed", flush=True)
    return not failed


def _urgency(path: Path) -> Callable[[Task], int]:
    """What failed last comes first, then what was never run, then what passed with another tree."""
    last = {(one["case"], one["number"]): bool(one["wrong"]) for one in _read(path)}
    return lambda task: {True: 0, None: 1, False: 2}[last.get(task.key)]


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _stamp(folder: str = "operator") -> dict[str, str]:
    """Which tree, on what. Of the program its content counts, so that other commits do not."""
    return {
        "commit": _git("rev-parse", "--short", "HEAD"),
        "operator": _git("rev-parse", "--short", f"HEAD:{folder}")
        + ("+" if _git("status", "--porcelain", folder, "crds") else ""),
        "machine": f"{os.cpu_count()} CPUs, {platform.system()}, Python "
        f"{platform.python_version()}",
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    """Exit code 1 where a run failed."""
    ask = argparse.ArgumentParser(prog="make torture")
    ask.add_argument(
        "--rows",
        default="1,2,3,4,5,6,7,8,9,10,11,12,13,16,17,18,23,24",
        help="of RELIABILITY's scoreboard",
    )
    ask.add_argument("--jobs", type=int, default=4, help="runs at the same time")
    ask.add_argument("--alone", action="store_true", help="only what needs no cluster")
    ask.add_argument("--most", type=int, default=10**6, help="runs of a row in this go")
    told = ask.parse_args()
    # Also in a script's background, where Ctrl-C is ignored: nobody else would end the operators.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    rows = [int(one) for one in told.rows.split(",")]
    without = [one for one in rows if one in alone.ROWS or one == BUGS]
    others = asyncio.run(without_cluster(without, most=told.most))
    rows = [one for one in rows if one not in alone.ROWS]
    if told.alone or not rows:
        sys.exit(not others)
    folder = Path(tempfile.mkdtemp(prefix="fleetloop-torture-"))
    try:
        with LocalCluster(folder) as cluster:
            passed = asyncio.run(torture(cluster, rows, jobs=told.jobs, most=told.most))
        if passed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"the operators' logs stay in {folder}/runs")
    finally:
        print(f"results: {RESULTS}")
    sys.exit(not (passed and others))


if __name__ == "__main__":
    main()
