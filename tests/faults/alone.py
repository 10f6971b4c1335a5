"""Rows that need no cluster: a robot's control loop or agent, the data plane, a learner."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from faults import attacks, drive, hostile, losses, offline, power, publishing
from helpers.cable import Harm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    Play = Callable[[Path, str, int], Awaitable[dict[str, Any]]]
    """(folder of its own, case, number) → what is told; `wrong` is empty where it passed."""

RECORDS = 5_000
EPISODES = 1000
ACTIONS = 100_000
INPUTS = 5_000
HOURS = 72.0
OUTLIVED = "a learner outlived"


class Row(NamedTuple):
    """What it says, and all that it consists of."""

    what: str
    cases: list[tuple[str, int]]
    play: Play


async def _swaps(folder: Path, _case: str, seed: int) -> dict[str, Any]:
    return await asyncio.to_thread(drive.swaps, folder, seed, EPISODES)


async def _bad_actions(folder: Path, _case: str, seed: int) -> dict[str, Any]:
    return await asyncio.to_thread(drive.bad_actions, folder, seed, ACTIONS)


async def _offline(folder: Path, _case: str, _seed: int) -> dict[str, Any]:
    return await offline.hours_alone(folder, HOURS)


async def _kills(folder: Path, _case: str, seed: int) -> dict[str, Any]:
    return await losses.kills(folder, seed, RECORDS)


async def _power(folder: Path, case: str, seed: int) -> dict[str, Any]:
    return await power.power_cuts(folder, case, seed, RECORDS // 5)


async def _rots(folder: Path, case: str, seed: int) -> dict[str, Any]:
    return await losses.rots(folder, seed, RECORDS // 5, case)


async def _repeats(folder: Path, case: str, seed: int) -> dict[str, Any]:
    if case == OUTLIVED:
        return await losses.outlived(folder, seed, RECORDS // 5)
    return await losses.repeats(folder, seed, RECORDS)


async def _hostile(folder: Path, _case: str, seed: int) -> dict[str, Any]:
    return await hostile.attacked(folder, seed, INPUTS)


async def _attacked(folder: Path, case: str, _seed: int) -> dict[str, Any]:
    name, _, state = case.rpartition(" / ")
    return await attacks.played(folder, name, state)


async def _killed(folder: Path, _case: str, at: int) -> dict[str, Any]:
    return await publishing.killed(folder, at)


async def _parted(folder: Path, case: str, seed: int) -> dict[str, Any]:
    return await losses.partition(folder, seed, Harm(case))


def _seeds(cases: Iterable[str], most: int) -> list[tuple[str, int]]:
    """Each case with its first seed before any with its second."""
    return [(case, seed) for seed, case in itertools.product(range(1, most + 1), list(cases))]


ROWS: dict[int, Row] = {
    1: Row(
        f"broker killed twice in {RECORDS:,} records: receipted and lost",
        _seeds([f"{RECORDS} records"], 200),
        _kills,
    ),
    2: Row(
        "the power fails twice under broker, learner or a robot: receipted or spooled, and lost",
        _seeds(power.CASES, 17),
        _power,
    ),
    3: Row(
        f"the broker's disk rots or goes, {RECORDS // 5:,} records: lost",
        _seeds(losses.KINDS, 4),
        _rots,
    ),
    4: Row(
        f"all resent, learner and broker killed or outlived, {RECORDS:,} records: trained twice",
        [*_seeds([f"{RECORDS} records"], 20), *_seeds([OUTLIVED], 10)],
        _repeats,
    ),
    10: Row(
        f"bad inputs, {INPUTS:,} a run: refused with a reason, neighbours admitted",
        _seeds([f"{INPUTS} inputs"], 20),
        _hostile,
    ),
    11: Row(
        f"{len(attacks.ATTACKS)} attacks on a robot in {len(attacks.STATES)} states: none accepted",
        _seeds([f"{name} / {state}" for name, state in attacks.CASES], 1),
        _attacked,
    ),
    12: Row(
        "learner killed at each step of three publications: partial versions",
        [("step", at) for at in range(1, publishing.STEPS + 1)],
        _killed,
    ),
    13: Row(
        "versions offered at every step, 1,000 episodes a run: one version an episode",
        _seeds([f"{EPISODES} episodes"], 10),
        _swaps,
    ),
    16: Row(
        "policies that answer late, never or badly, 100,000 actions a run",
        _seeds([f"{ACTIONS} actions"], 10),
        _bad_actions,
    ),
    17: Row("a robot 72 hours without its network", _seeds([f"{HOURS:.0f} hours"], 1), _offline),
    18: Row(
        "robots cut off the broker, up to 40 s: all receipted within 60 s after",
        _seeds([harm.value for harm in Harm], 4),
        _parted,
    ),
}
