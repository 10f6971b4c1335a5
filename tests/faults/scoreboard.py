"""`python -m faults.scoreboard`: what stands in the results, as a table for docs/reliability.md."""

import json
from pathlib import Path
from typing import Any

from faults import alone
from faults.cases import of_row
from faults.seeded import MUTANTS

RESULTS = Path(__file__).parent / "results"
ROWS = {
    5: "operator killed before, after each write",
    6: "API faults at each write, or throughout",
    7: "old lists after a restart, events never seen",
    8: "writes in 60 s after the end, at default times",
    9: "sequences of edits: end as if freshly applied",
    23: "dead watch until the probe fails, at default times",
    24: "seeded bugs noticed",
    **{row: one.what for row, one in alone.ROWS.items()},
}
FULL = {8: 10, 9: 1000, 23: 20, 24: len(MUTANTS)} | {
    row: len(one.cases) for row, one in alone.ROWS.items()
}


def read(row: int) -> list[dict[str, Any]]:
    """Of each case of a row its last run; what an older tree did is history."""
    path = RESULTS / f"row{row}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    runs = [json.loads(line) for line in lines]
    return list({(one["case"], one["number"]): one for one in runs}.values())


def table() -> list[str]:
    """Lines of Markdown."""
    lines = ["| row | what | passed / run / full size | slowest to the end | program's tree |"]
    lines += ["|---|---|---|---|---|"]
    for row, what in sorted(ROWS.items()):
        runs = read(row)
        passed = sum(not one["wrong"] for one in runs)
        writes = max(runs, key=lambda one: one["at"], default={}).get("of", 0)
        full = FULL[row] if row in FULL else len(list(of_row(row, writes)))
        ends = [one.get("settled", one.get("caught_up")) for one in runs]
        slowest = max((end for end in ends if end is not None), default=None)
        told = "" if slowest is None else f"{slowest} s"
        trees = ", ".join(sorted({one["operator"] for one in runs}))
        lines.append(f"| {row} | {what} | {passed} / {len(runs)} / {full} | {told} | {trees} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
