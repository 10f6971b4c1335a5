"""What is in a dataset, and what is wrong with it: everything is read, every fault is named."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.datasets import statistics
from fleet_runtime.datasets.items import Absent, Faulty, rate

if TYPE_CHECKING:
    from fleet_runtime.datasets.items import Dataset
    from fleet_runtime.experience.types import Episode, Pixel

SHOWN = ("min", "max", "mean", "std")


class Inspection:
    """A report under construction."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._tasks: dict[str, Counter[str]] = {}
        self._outcomes: Counter[str] = Counter()
        self._interventions: Counter[str] = Counter()
        self._shapes: Counter[str] = Counter()
        self._stats: dict[tuple[str, int], list[statistics.Stats]] = {}
        self._rates: list[float] = []
        self._faults: list[str] = []
        self._ids: dict[str, str] = {}

    def report(self) -> dict[str, Any]:
        """The report, ready for JSON. Raises Retry for a store that is unreachable."""
        for item in self._dataset.items:
            try:
                self._take(item.load(), item.where)
            except (Faulty, Absent) as fault:
                self._faults.append(str(fault))
        if len(self._shapes) > 1:
            said = ", ".join(f"{shape} in {count}" for shape, count in self._shapes.most_common())
            self._faults.append(f"{self._dataset.url}: episodes differ in shape: {said}")
        return {
            "url": self._dataset.url,
            "kind": self._dataset.kind,
            "episodes": sum(self._outcomes.values()),
            "frames": sum(task["frames"] for task in self._tasks.values()),
            "tasks": {name: dict(counts) for name, counts in sorted(self._tasks.items())},
            "shapes": dict(self._shapes),
            "outcomes": dict(self._outcomes),
            "interventions": {name: self._interventions[name] for name in ("episodes", "frames")},
            "fps": self._dataset.fps or (float(np.median(self._rates)) if self._rates else None),
            "statistics": self._statistics(),
            "ignored": list(self._dataset.ignored),
            "faults": self._faults,
        }

    def _take(self, episode: Episode, where: str) -> None:
        first = self._ids.setdefault(episode.id, where)
        if first != where:
            self._faults.append(f"{where} repeats episode {episode.id} of {first}")
            return
        counts = self._tasks.setdefault(episode.task, Counter())
        counts.update(episodes=1, frames=len(episode))
        self._outcomes[episode.outcome] += 1
        human = int(episode.intervention.sum())
        self._interventions.update(episodes=int(human > 0), frames=human)
        shape = f"observation {episode.observation.shape[1]}, action {episode.action.shape[1]}"
        cameras = (f", {name} {_size(seen)}" for name, seen in sorted(episode.images.items()))
        self._shapes[shape + "".join(cameras)] += 1
        if (found := rate(episode)) is not None:
            self._rates.append(found)
        for name, array in (("observation", episode.observation[:-1]), ("action", episode.action)):
            kept = self._stats.setdefault((name, array.shape[1]), [])
            kept.append(statistics.describe(array))

    def _statistics(self) -> dict[str, Any]:
        """Of the shape that most episodes have."""
        found = {}
        for name in ("observation", "action"):
            parts = [parts for (field, _), parts in self._stats.items() if field == name]
            if parts:
                merged = statistics.merge(max(parts, key=len))
                found[name] = {key: merged[key].tolist() for key in SHOWN}
        return found


def _size(frames: Pixel) -> str:
    return f"{frames.shape[2]}x{frames.shape[1]}"
