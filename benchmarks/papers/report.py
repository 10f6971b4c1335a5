"""A table's figures as CSV (the same bytes for the same cells), Markdown and a picture."""

from __future__ import annotations

import csv
import io
import math
import os
import platform
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.papers.stats import mean_and_half, wilson

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.papers.plan import Plan, Table
    from benchmarks.papers.results import Results, Rows

Found = dict[str, Any]


def success(found: Found) -> float:
    """Mean success over tasks."""
    final = found["final"].values()
    return float(sum(row[0] / row[1] for row in final) / len(final))


def throughput(found: Found) -> float:
    """Attempts that ended, however, per hour of acting; resets are no part of it (SOP)."""
    final = found["final"].values()
    hours = sum(row[3] for row in final) / found["hz"] / 3600
    return float(sum(row[1] for row in final) / hours)


def cycle(found: Found) -> float:
    """Seconds that a success took, in the mean (LWD); NaN without one."""
    final = found["final"].values()
    wins = sum(row[0] for row in final)
    return float(sum(row[2] for row in final) / found["hz"] / wins) if wins else math.nan


def helped(found: Found) -> float:
    """Share of the fleet's frames that were a human's."""
    return float(found["human_frames"] / max(1, found["frames"]))


FIGURES: dict[str, Callable[[Found], Any]] = {
    "success": success,
    "throughput_per_hour": throughput,
    "cycle_s": cycle,
    "human_share": helped,
    "minutes_to_target": lambda found: found["reached"],
    "episodes": lambda found: found["episodes"],
    "frames": lambda found: found["frames"],
    "human_frames": lambda found: found["human_frames"],
    "offline_frames": lambda found: found["offline_frames"],
    "failed_frames": lambda found: found["failed_frames"],
    "updates": lambda found: found["updates"],
    "versions": lambda found: found["versions"],
    "minutes": lambda found: found["minutes"],
}
"""Columns of the CSV; an empty time to the target is one that was not reached."""


def write(table: Table, plan: Plan, results: Results, *, picture: bool = False) -> None:
    """`results.csv`, `table.md` and, where wanted, `figure.png` of what is there."""
    rows, seconds = results.rows(table, plan)
    _replace(results.folder / "results.csv", as_csv(rows).encode())
    text = as_markdown(table, plan, rows, seconds)
    _replace(results.folder / "table.md", text.encode())
    if picture and rows:
        from benchmarks.papers.figure import draw

        _replace(results.folder / "figure.png", draw(table, plan, rows))


def words(found: Found) -> str:
    """A cell in a line."""
    tasks = ", ".join(f"{task} {row[0]}/{row[1]}" for task, row in found["final"].items())
    return f"success {success(found):.3f} ({tasks})"


def as_csv(rows: Rows) -> str:
    """A line per cell, arms in the table's order, then seeds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    tasks = next((list(found["final"]) for by in rows.values() for found in by.values()), [])
    writer.writerow(["arm", "seed", *FIGURES, *tasks])
    for arm, by_seed in rows.items():
        for seed, found in by_seed.items():
            figures = [_short(figure(found)) for figure in FIGURES.values()]
            each = [_short(row[0] / row[1]) for row in found["final"].values()]
            writer.writerow([arm, seed, *figures, *each])
    return out.getvalue()


def as_markdown(table: Table, plan: Plan, rows: Rows, seconds: float) -> str:
    """A row per arm. Rates pool seeds and tasks; differences are of the same seeds."""
    there = sum(len(by_seed) for by_seed in rows.values())
    wanted = len(table.arms(plan)) * len(plan.seeds)
    timed = any(found["curve"] for by in rows.values() for found in by.values())
    head = ["arm", "seeds", "success [95 %]", f"less {table.baseline} [95 %]", "per hour"]
    head += ["cycle s", "human frames", *([f"minutes to {plan.target}"] if timed else [])]
    lines = [
        f"# {table.title}",
        "",
        f"{there} of {wanted} cells{' (unfinished)' if there < wanted else ''}.",
        (
            f"Seeds {', '.join(map(str, plan.seeds))}; tasks {', '.join(plan.tasks)}; "
            f"{plan.attempts} attempts each."
        ),
        (
            f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
            f"{seconds / 60:.0f} core-minutes."
        ),
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for arm, by_seed in rows.items():
        cells = [arm, str(len(by_seed)), *_summary(by_seed, rows.get(table.baseline, {}))]
        cells += [_times(by_seed)] if timed else []
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _summary(by_seed: dict[int, Found], base: dict[int, Found]) -> list[str]:
    found = list(by_seed.values())
    wins = sum(row[0] for one in found for row in one["final"].values())
    tried = sum(row[1] for one in found for row in one["final"].values())
    low, high = wilson(wins, tried)
    paired = [success(one) - success(base[s]) for s, one in by_seed.items() if s in base]
    gain, half = mean_and_half(paired)
    # A bracket for one seed alone would be a claim without ground.
    about = "" if math.isnan(half) else f" [{gain - half:+.2f}, {gain + half:+.2f}]"
    cycles = [c for one in found if not math.isnan(c := cycle(one))]
    return [
        f"{wins / tried:.3f} [{low:.2f}, {high:.2f}]",
        f"{gain:+.3f}{about}" if paired else "",
        f"{statistics.mean(map(throughput, found)):.0f}",
        f"{statistics.mean(cycles):.2f}" if cycles else "",
        f"{statistics.mean(map(helped, found)):.2f}",
    ]


def _times(by_seed: dict[int, Found]) -> str:
    """Each seed's time; one that never got there is told by the time it was watched for."""
    return ", ".join(
        f"{one['reached']:.2f}" if one["reached"] is not None else f"> {one['minutes']:.2f}"
        for one in by_seed.values()
        if one["curve"]
    )


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)
