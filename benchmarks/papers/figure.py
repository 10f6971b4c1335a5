"""A table as a picture: success by arm, and over simulated time where that was watched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.papers.stats import wilson

if TYPE_CHECKING:
    from benchmarks.papers.plan import Plan, Table
    from benchmarks.papers.results import Rows


def draw(table: Table, plan: Plan, rows: Rows) -> bytes:
    """PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    timed = any(found["curve"] for by in rows.values() for found in by.values())
    figure, panels = plt.subplots(
        1, 1 + timed, figsize=(6 + 5 * timed, 1.5 + 0.4 * len(rows)), squeeze=False
    )
    _bars(panels[0][0], rows)
    if timed:
        _curves(panels[0][1], plan, rows)
    figure.suptitle(table.title)
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


def _bars(axes: Any, rows: Rows) -> None:
    for place, by_seed in enumerate(rows.values()):
        tasks = [row for found in by_seed.values() for row in found["final"].values()]
        wins, tried = sum(row[0] for row in tasks), sum(row[1] for row in tasks)
        low, high = wilson(wins, tried)
        middle = wins / tried
        axes.barh(
            place,
            middle,
            xerr=[[middle - min(low, middle)], [max(high, middle) - middle]],
            color="#8aa",
            capsize=3,
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("success, 95 % (Wilson)")


def _curves(axes: Any, plan: Plan, rows: Rows) -> None:
    for arm, by_seed in rows.items():
        curves = [np.array(found["curve"]) for found in by_seed.values() if found["curve"]]
        if not curves:
            continue
        shared = min(map(len, curves))  # a run that has its target ends before others do
        mean = np.mean([curve[:shared, 1] for curve in curves], axis=0)
        (line,) = axes.plot(curves[0][:shared, 0], mean, label=arm)
        for curve in curves:
            axes.plot(curve[:, 0], curve[:, 1], color=line.get_color(), alpha=0.3, linewidth=0.8)
    axes.axhline(plan.target, color="#999", linewidth=0.8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("simulated minutes")
    axes.legend(fontsize="x-small")
