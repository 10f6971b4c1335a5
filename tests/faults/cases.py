"""Which faults there are, and at which writes each row of the scoreboard has them strike."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from faults import injections
from faults.bench import Bench
from faults.injections import REFUSALS
from helpers.proxy import Fault

Make = Callable[[int, Bench], Fault]
KILLS: dict[str, Make] = {
    "kill before": injections.KillBefore,
    "kill after": injections.KillAfter,
}
AT_A_WRITE: dict[str, Make] = {
    "410 answer": injections.Gone,
    "lost reply": injections.LostReply,
    "stalled watches": partial(injections.Watches, harm=injections.stall),
    "error event": partial(injections.Watches, harm=injections.fail),
    "410 event": partial(injections.Watches, harm=injections.expire),
    "cut watches": partial(injections.Watches, harm=injections.cut),
    **{said: partial(injections.Refused, said=said) for said in REFUSALS},
}
THROUGHOUT: dict[str, Make] = {"storm": injections.Storm, "slow": injections.Slow}
STALE: dict[str, Make] = {
    "lists one change old": partial(injections.Stale, back=1),
    "lists three changes old": partial(injections.Stale, back=3),
    "empty lists": partial(injections.Stale, back=0),
}
UNOBSERVED: dict[str, Make] = {"swallowed events": injections.Swallowed}
FAULTS = KILLS | AT_A_WRITE | THROUGHOUT | STALE | UNOBSERVED
ROWS: dict[int, tuple[dict[str, Make], dict[str, Make]]] = {
    5: (KILLS, {}),
    6: (AT_A_WRITE, THROUGHOUT),
    7: (STALE, UNOBSERVED),
}
"""What strikes at one write, and what throughout a run."""
SEEDS = 20  # of a fault that acts throughout a run


class Case(NamedTuple):
    """One run: which fault, and at which write, or by which seed."""

    row: int
    fault: str
    number: int

    def make(self, bench: Bench) -> Fault:
        return FAULTS[self.fault](self.number, bench)


def of_row(row: int, writes: int) -> Iterator[Case]:
    """All of them, each once; the first ones are spread over writes and faults."""
    at_a_write, throughout = ROWS[row]
    seeds = [Case(row, fault, seed) for seed in range(1, SEEDS + 1) for fault in throughout]
    first = len(throughout)
    yield from seeds[:first]
    names, at = list(at_a_write), _spread(writes)
    for turn in range(len(names)):
        for index, number in enumerate(at):
            yield Case(row, names[(index + turn) % len(names)], number)
    yield from seeds[first:]


def _spread(writes: int) -> list[int]:
    """1 to ``writes``, by the golden ratio, so that any first part of it is spread evenly."""
    return sorted(range(1, writes + 1), key=lambda number: number * 0.618033988749895 % 1)
