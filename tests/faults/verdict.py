"""One run of the scenario under one fault, and what the oracle says of it."""

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import nats.errors

from faults import scenario
from faults.bench import Bench, Ground
from faults.injections import Throughout
from faults.oracle import Exposure, Ledger, differences, end_state
from helpers.proxy import Fault

WITHIN = 120.0  # seconds to the reference's end state once the scenario is over
LOOK_EVERY = 1.0
BROKE = "the bench broke"
MOST = 1800.0  # seconds for all of it


class Reference(NamedTuple):
    """What a run without faults left and made."""

    state: dict[str, Any]
    counts: dict[str, list[int]]
    told: frozenset[str]
    writes: int


class Verdict(NamedTuple):
    """What became of one run."""

    wrong: list[str]  # empty: it passed
    hit: str  # what the fault met; empty: the run ended before
    namespace: str  # whose name its logs bear
    starts: int  # of the operator
    writes: int
    documents: int
    seconds: float  # of the scenario
    settled: float  # seconds from its end to the reference's state
    late_writes: int  # after that, in the quiet while
    ghosts: int  # children made for an owner that had just gone
    twice: int  # Events that people were told more than once


async def run(
    ground: Ground,
    *,
    fault: Callable[[Bench], Fault] | None = None,
    reference: Reference | None = None,
    within: float = WITHIN,
    quiet: float | None = None,
) -> tuple[Verdict, Reference]:
    """Plays it, waits for the reference's end state, then listens for ``quiet`` seconds.

    Without a number that is two resyncs.
    """
    quiet = 2 * ground.resync if quiet is None else quiet
    # That nobody is heard is told so late, even where the scenario was over sooner.
    silent = max(min(ground.resync, 10.0), ground.lost_after) + 1
    began, wrong, seen = time.monotonic(), list[str](), Exposure(stage=1)
    over = settled = 0.0
    state: dict[str, Any] = {}
    late, twice, told = 0, 0, frozenset[str]()
    async with Bench.of(ground) as bench:
        async with Ledger.of(bench.kube, bench.nats_url) as ledger:
            if fault is not None:
                bench.proxy.fault = fault(bench)
            try:
                async with asyncio.timeout(MOST), scenario.played(bench, seen):
                    over = time.monotonic()
                    if isinstance(bench.proxy.fault, Throughout):
                        bench.proxy.fault = Fault()
                        await asyncio.sleep(
                            ground.resync + 1
                        )  # what could not be told is told by then
                    state = await _settle(bench, reference, within, silent)
                    settled = time.monotonic() - over
                    late = await _quiet(bench, quiet)
                    after = await end_state(bench.kube, bench.nats_url)
                wrong += [f"it moved again: {one}" for one in differences(state, after)]
                told, twice = await _told(bench)
            except (AssertionError, TimeoutError, LookupError, nats.errors.Error) as stuck:
                wrong.append(f"stuck: {_last(stuck)}")
            except Exception:  # noqa: BLE001 - a bench that breaks is told of, not hidden
                wrong.append(f"{BROKE}: {traceback.format_exc(limit=-3)}")
            counts = ledger.counts()
            story = ledger.story
        wrong += seen.violations
        if late:
            wrong.append(f"{late} writes in {quiet:.0f} s of quiet: {_latest(bench, late)}")
        found = Reference(state, counts, told, len(bench.proxy.writes))
        if reference is not None and not any(one.startswith("stuck") for one in wrong):
            wrong += differences(reference.state, state)
            wrong += [f"counts {one}" for one in differences(reference.counts, counts)]
            wrong += [f"nobody was told {one}" for one in sorted(reference.told - told)]
        if wrong:
            writes = [f"{one.at} {one.call} → {one.status}" for one in bench.proxy.writes]
            (ground.folder / f"{bench.kube.namespace}.story").write_text(
                "\n".join(sorted(story + writes))
            )
        verdict = Verdict(
            wrong,
            bench.hit,
            bench.kube.namespace,
            bench.starts,
            found.writes,
            seen.documents,
            round((over or time.monotonic()) - began, 1),
            round(settled, 1),
            late,
            ledger.ghosts,
            twice,
        )
    return verdict, found


async def _settle(
    bench: Bench, reference: Reference | None, within: float, silent: float
) -> dict[str, Any]:
    """Once it is as the reference; without one, when nothing was written for ``silent`` seconds."""
    deadline = time.monotonic() + within
    while True:
        before = len(bench.proxy.writes)
        await asyncio.sleep(LOOK_EVERY if reference else silent)
        state = await end_state(bench.kube, bench.nats_url)
        done = state == reference.state if reference else before == len(bench.proxy.writes)
        if done or time.monotonic() > deadline:
            return state


async def _quiet(bench: Bench, duration: float) -> int:
    before = len(bench.proxy.writes)
    await asyncio.sleep(duration)
    return len(bench.proxy.writes) - before


def _latest(bench: Bench, count: int) -> list[str]:
    return [f"{one.call} → {one.status}" for one in bench.proxy.writes[-count:][:5]]


async def _told(bench: Bench) -> tuple[frozenset[str], int]:
    """The reasons that people were told of the job, and how many Events said what one had said."""
    events = [
        (one["reason"], one["message"])
        for one in (await bench.kube.get("events"))["items"]
        if one["involvedObject"]["name"] == "job" and one["reason"] in scenario.TOLD
    ]
    counts = Counter(events)
    return frozenset(reason for reason, _ in events), sum(counts.values()) - len(counts)


def _last(stuck: BaseException) -> str:
    lines = traceback.extract_tb(stuck.__traceback__)
    where = [one.line for one in lines if one.filename.endswith("scenario.py")]
    return f"at `{where[-1] if where else '?'}`: {str(stuck)[:300]}"
