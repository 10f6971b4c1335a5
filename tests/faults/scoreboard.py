"""`python -m faults.scoreboard`: what stands in the results, as a table for docs/reliability.md."""

import json
from pathlib import Path
from typing import Any

from faults.cases import of_row

RESULTS = Path(__file__).parent / "results"
ROWS = {
    5: "operator killed before, after each write",
    6: "API faults at each write, or throughout",
    7: "old lists after a restart, events never seen",
    8: "writes in 60 s after the end, at default times",
    9: "sequences of edits: end as if freshly applied",
    13: "versions offered at every step, 1,000 episodes a run: one version an episode",
    16: "policies that answer late, never or badly, 100,000 actions a run",
    17: "a robot 72 hours without its network",
    23: "dead watch until the probe fails, at default times",
    24: "seeded bugs noticed",
}
FULL = {8: 10, 9: 1000, 13: 10, 16: 10, 17: 1, 23: 20, 24: 8}


def read(row: int) -> list[dict[str, Any]]:
    """The runs of a row that there are."""
    path = RESULTS / f"row{row}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table() -> list[str]:
    """Lines of Markdown."""
    lines = ["| row | what | passed / run / full size | slowest to the end | program's tree |"]
    lines += ["|---|---|---|---|---|"]
    for row, what in ROWS.items():
        runs = read(row)
        passed = sum(not one["wrong"] for one in runs)
        writes = max((one.get("of", 0) for one in runs), default=0)
        full = FULL[row] if row in FULL else len(list(of_row(row, writes)))
        slowest = max((one["settled"] for one in runs if "settled" in one), default=None)
        told = "" if slowest is None else f"{slowest} s"
        trees = ", ".join(sorted({one["operator"] for one in runs}))
        lines.append(f"| {row} | {what} | {passed} / {len(runs)} / {full} | {told} | {trees} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
