"""Finished cells on disk: a line of JSON each, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.papers.plan import Plan, Table

Rows = dict[str, dict[int, dict[str, Any]]]
"""Arm → seed → what `cell.live` found, complete or not, in the table's order."""


class Results:
    """The file of a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "cells.jsonl"

    def lines(self) -> dict[str, dict[str, Any]]:
        """Cells by key; a line that was cut short by a kill is none."""
        found = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    cell = json.loads(line)
                except ValueError:
                    continue
                found[cell["key"]] = cell
        return found

    def add(self, cell: dict[str, Any]) -> None:
        """Append a cell; on disk when this returns."""
        with self._path.open("ab+") as file:
            whole = file.tell() == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n"
            file.write(
                (b"" if whole else b"\n") + json.dumps(cell, sort_keys=True).encode() + b"\n"
            )
            file.flush()
            os.fsync(file.fileno())

    def rows(self, table: Table, plan: Plan) -> tuple[Rows, float]:
        """What is known of this table under this plan, and the seconds it took."""
        found = self.lines()
        rows: Rows = {}
        spent = 0.0
        for arm in table.arms(plan):
            for seed in plan.seeds:
                if cell := found.get(arm.key(plan, seed)):
                    rows.setdefault(arm.name, {})[seed] = cell["found"]
                    spent += cell["seconds"]
        return rows, spent
