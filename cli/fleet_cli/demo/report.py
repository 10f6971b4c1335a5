"""What the demo leaves behind: the numbers as JSON and the learning curve as a picture."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

from fleet_cli.demo.story import mean_rate

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_cli.demo.story import Story

Counts = dict[str, tuple[int, int]]


def summary(story: Story, minutes: float, verdict: str) -> dict[str, Any]:
    """The numbers: plain JSON types only."""
    learner = story.learner
    return {
        "verdict": verdict,
        "algorithm": story.job.spec.algorithm.name if story.job else None,
        "minutes": round(minutes, 2),
        "base": _measured(story.base),
        "final": _measured(story.final),
        "fleet": {
            name: {
                "episodes": task.episodes,
                "interventions": task.interventions,
                "autonomousSuccess": task.rate,
                "curve": [[round(at, 1), round(rate, 3)] for at, rate in task.curve],
            }
            for name, task in story.tasks.items()
        },
        "learner": learner.model_dump(mode="json", by_alias=True) if learner else None,
        "versions": {
            str(sequence): {
                "phase": version.status.phase,
                "step": version.spec.learner_step,
                "message": version.status.message,
            }
            for sequence, version in sorted(story.versions.items())
        },
        "policyLatencySeconds": sorted(round(value, 3) for value in story.policy_latencies),
        "secondsToFirstStep": story.first_step_at,
        "machine": {"cores": os.cpu_count(), "platform": platform.platform()},
    }


def _measured(counts: Counts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    return {
        "success": round(mean_rate(counts), 3),
        "tasks": {name: {"successes": good, "episodes": n} for name, (good, n) in counts.items()},
    }


def write(folder: Path, story: Story, numbers: dict[str, Any]) -> None:
    """``numbers.json`` and ``learning-curve.png`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "numbers.json").write_text(json.dumps(numbers, indent=2) + "\n")
    _plot(folder / "learning-curve.png", story, numbers)


def _plot(path: Path, story: Story, numbers: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for name, task in story.tasks.items():
        if task.curve:
            at, rate = zip(*task.curve, strict=True)
            axes.plot([second / 60 for second in at], rate, label=name, linewidth=1.5)
    for key, style in (("base", ":"), ("final", "--")):
        if numbers[key]:
            level = numbers[key]["success"]
            axes.axhline(level, color="black", linestyle=style, linewidth=1)
            axes.text(
                0.01,
                level + 0.01,
                f"{key}, gate off, unseen goals: {level:.2f}",
                fontsize=8,
                transform=axes.get_yaxis_transform(),
            )
    axes.set(
        xlabel="minutes since the job was applied",
        ylabel="autonomous success, last 20 judged episodes",
        title="Four simulated robots, one shared policy",
        xlim=(0, max(numbers["minutes"], 0.1)),
        ylim=(0, 1.05),
    )
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
