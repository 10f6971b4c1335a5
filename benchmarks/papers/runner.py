"""Runs a table: says what it will cost, goes on where it was, writes down what it found.

    python -m benchmarks.papers.NAME [--smoke] [--plan JSON] [--arms NAME,NAME] [--workers N]

Two processes with one torch thread each. Each finished cell is on disk at once (`results`), the
tables are written anew after each (`report`).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.papers import report
from benchmarks.papers.cell import Cell, live
from benchmarks.papers.plan import Arm, Plan
from benchmarks.papers.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.papers.plan import Table

Job = tuple[Arm, int]
Done = tuple[Job, dict[str, Any], float]
Run = Callable[[Arm, Plan, int], dict[str, Any]]


def main(table: Table, arguments: Sequence[str] | None = None) -> int:
    """Run a table from the command line; 0 when it reached its goal."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.papers.{table.name}")
    parser.add_argument("--smoke", action="store_true", help="one easy task, under a minute")
    parser.add_argument("--plan", type=json.loads, default={}, help="JSON of fields to change")
    parser.add_argument("--arms", default="", help="only these, by name, with commas")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    changed: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in chosen.plan.items()
    }
    plan = dataclasses.replace(table.smoke if chosen.smoke else table.plan, **changed)
    name = f"{table.name}-smoke" if chosen.smoke else table.name
    results = Results(chosen.out or Path("out/papers") / name)
    only = chosen.arms.split(",") if chosen.arms else [arm.name for arm in table.arms(plan)]
    started = time.perf_counter()
    work(table, plan, results, only=only, workers=chosen.workers, estimated=not chosen.smoke)
    report.write(table, plan, results, picture=True)
    rows, _ = results.rows(table, plan)
    words, good = table.goal(rows)
    if chosen.smoke:  # so few attempts judge no method: that every cell has figures is the goal
        there, wanted = sum(map(len, rows.values())), len(table.arms(plan)) * len(plan.seeds)
        words, good = f"{there} cells (goal {wanted}); {words}", there == wanted
    spent = time.perf_counter() - started
    print(f"{words}, {spent:.0f} s, {results.folder}/: " + ("ok" if good else "short"))
    return 0 if good else 1


def work(
    table: Table,
    plan: Plan,
    results: Results,
    *,
    only: Sequence[str],
    workers: int = 2,
    estimated: bool = True,
    run: Run = live,
) -> None:
    """Live through the cells that are missing. Seeds in turn, so that all arms grow together."""
    torch.set_num_threads(1)
    there = results.lines()
    arms = [arm for arm in table.arms(plan) if arm.name in only]
    missing: list[Job] = [
        (arm, seed) for seed in plan.seeds for arm in arms if arm.key(plan, seed) not in there
    ]
    total = len(arms) * len(plan.seeds)
    print(f"{table.title}: {total} cells, {total - len(missing)} of them there", flush=True)
    if not missing:
        return
    cost = estimate(missing, plan) if estimated else {arm.name: 1.0 for arm in arms}
    whole = sum(cost[arm.name] for arm, _ in missing)
    if estimated:
        print(f"estimated: {whole / workers / 60:.0f} min on {workers} cores", flush=True)
    started, done = time.perf_counter(), 0.0
    for (arm, seed), found, seconds in _lived(missing, plan, workers, run):
        cell = {"key": arm.key(plan, seed), "arm": arm.name, "seed": seed, "found": found}
        results.add(cell | {"seconds": round(seconds, 1)})
        report.write(table, plan, results)
        done += cost[arm.name]
        left = (time.perf_counter() - started) * (whole - done) / done
        print(
            f"{arm.name}, seed {seed}: {report.words(found)}, {seconds:.0f} s; "
            f"{left / 60:.0f} min left",
            flush=True,
        )


def _lived(jobs: Sequence[Job], plan: Plan, workers: int, run: Run) -> Iterator[Done]:
    """Cells as they are finished; without workers here and in order."""
    if not workers:
        for arm, seed in jobs:
            yield (arm, seed), *_timed(run, arm, plan, seed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_alone) as pool:
        running = {pool.submit(_timed, run, arm, plan, seed): (arm, seed) for arm, seed in jobs}
        for job in as_completed(running):
            yield running[job], *job.result()


def _alone() -> None:
    """A worker: one thread of torch, and no life of its own when the runner was killed."""
    torch.set_num_threads(1)
    runner = multiprocessing.parent_process()
    assert runner is not None

    def watch() -> None:
        runner.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def estimate(missing: Sequence[Job], plan: Plan) -> dict[str, float]:
    """Seconds of one core per cell of each arm, measured on the first updates and attempts."""
    cost: dict[str, float] = {}
    per_update: dict[str, float] = {}
    per_attempt = 0.0
    arms = {arm.name: arm for arm, _ in missing}
    for arm in arms.values():
        own = arm.plan(plan)
        kind = json.dumps([arm.algorithm, arm.parameters])
        if kind not in per_update:
            small = Arm(name=arm.name, algorithm=arm.algorithm, parameters=arm.parameters)
            cell = Cell(small, _small(own), plan.seeds[0])
            per_update[kind] = _seconds(cell.learner.update, 20)
            # An arm that is still bad needs all its steps; later ones are cheaper.
            per_attempt = per_attempt or _seconds(lambda c=cell: c.measure(c.base, 2), 1) / (  # type: ignore[misc]
                2 * len(own.tasks)
            )
        updates, episodes = arm.total("updates", plan), arm.total("episodes", plan)
        looks = sum(p.minutes / own.watch_every for p in arm.phases if own.watch_every)
        attempts = len(own.tasks) * (own.attempts + looks * own.watched)
        cost[arm.name] = (
            updates * per_update[kind] + own.first_updates * 0.005 + episodes * per_attempt
        ) + attempts * per_attempt
        seeds = sum(one.name == arm.name for one, _ in missing)
        print(
            f"  {arm.name}: {seeds} seeds x ({updates:.0f} updates x {per_update[kind] * 1e3:.1f} "
            f"ms + {episodes + attempts:.0f} attempts x {per_attempt * 1e3:.0f} ms)",
            flush=True,
        )
    return cost


def _small(plan: Plan) -> Plan:
    return dataclasses.replace(plan, first_updates=5, robots=1, rollouts=0, play=0)


def _seconds(call: Callable[[], object], times: int) -> float:
    call()
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def _timed(run: Run, arm: Arm, plan: Plan, seed: int) -> tuple[dict[str, Any], float]:
    started = time.process_time()  # of this core: what runs beside is not the cell's
    found = run(arm, plan, seed)
    # Simulators lie in cycles of many megabytes and few objects, so collecting waits for long.
    gc.collect()
    return found, time.process_time() - started
