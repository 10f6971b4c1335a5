"""Chunks for many robots at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.papers.pace import Version
    from fleet_runtime.experience.types import Float
    from fleet_runtime.robot.episode import EpisodeRun


def infer(running: Sequence[tuple[EpisodeRun, Version]]) -> None:
    """One inference for each version that is asked for a chunk now."""
    asking: dict[int, list[tuple[EpisodeRun, Float, Version]]] = {}
    for run, version in running:
        if (seen := run.wanted) is not None:
            asking.setdefault(version.sequence, []).append((run, seen, version))
    for rows in asking.values():
        policy = rows[0][2].policy
        tasks = np.array([policy.spaces.task_id(run.task) for run, *_ in rows])
        chunks = policy.act(np.stack([seen for _, seen, _ in rows]), tasks)
        for (run, *_), chunk in zip(rows, chunks, strict=True):
            run.give(chunk)
