"""Two ranks in two processes: every algorithm makes a few updates in them, one line of JSON each.

``python ranks.py FOLDER``; the processes meet in a store below the folder, as learners do.
"""

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fleet_runtime import algorithms
from fleet_runtime.algorithms.base import Update, losses_by_pool
from fleet_runtime.algorithms.bc import BC
from fleet_runtime.algorithms.ranks import ALONE, Order, Ranks
from fleet_runtime.artifacts import Store
from fleet_runtime.experience.batch import Batch, Side
from fleet_runtime.learner import epoch
from fleet_runtime.learner.crew import Crew, Meeting, join
from fleet_runtime.learner.step import advance
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from learning.makers import SPACES, TASKS, batch, episode

SMALL = {"hidden": 16, "layers": 1, "batch_size": 8}
EARLY: dict[str, dict[str, object]] = {  # so that six updates see every stage
    "divl-qam": {"bc_steps": 2, "n_step": 2},
    "recap": {"value_steps": 2, "lookahead": 3, "longest": 40},
}


class Halves(BC):
    """Each rank computes every row and learns from its own: the same rows as one rank would."""

    def update(self, batches: Iterator[Batch]) -> Update:
        found = next(batches)
        rows = self.imitation_loss(found, self.trained)
        self.improve(rows[self.ranks.number :: self.ranks.count].mean())
        losses = losses_by_pool(rows.detach().numpy(), found, len(TASKS))
        return Update({}, losses)


def halves(ranks: Ranks) -> list[float]:
    """The weights after a few updates on given rows."""
    algorithm = Halves.create(SPACES, SMALL)
    algorithm.join(ranks)
    for seed in range(4):
        algorithm.update(iter([batch(16, seed=seed)]))
    return [float(x) for weight in algorithm.trained.net.parameters() for x in weight.flatten()]


def digest(tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        if name != "noise":  # each rank's own
            found.update(name.encode() + tensors[name].numpy().tobytes())
    return found.hexdigest()


def trained(name: str, ranks: Ranks) -> dict[str, Any]:
    """Six updates of one algorithm on rows of each rank's own."""
    algorithm = algorithms.find(name).create(SPACES, SMALL | EARLY.get(name, {}))
    algorithm.join(ranks, seed=ranks.number)
    index = ReplayIndex(SPACES, algorithm.sample_spec, lambda _: episode())
    for number in range(4):
        seen = {"task": TASKS[number % 2], "outcome": "success" if number < 3 else "failure"}
        for side in Side:
            index.add(episode(f"{side}-{number}", steps=12, **seen), side)
    sampler = AdaptiveSampler(len(TASKS), seed=ranks.number)
    feed, drawn = Feed(index, sampler), []
    for number in range(6):
        algorithm.online = number > 3
        drawn.append(advance(algorithm, feed, sampler, ranks).losses)
    return {
        "digest": digest(algorithm.state()),
        "noise": digest({"x": algorithm.state()["noise"]}),
        "means": np.nan_to_num(sampler.means(), nan=-1.0).tolist(),
    }


def work(crew: Crew) -> dict[str, Any]:
    """What this rank found."""
    told = crew.agree(Order(updates=3, through=5) if crew.number == 0 else Order())
    return {
        "rank": crew.number,
        "order": told[0],
        "leaving": crew.agree(Order(), leave=crew.number == 1)[1],
        "shared": crew.share(b"weights" if crew.number == 0 else b"").decode(),
        "algorithms": {name: trained(name, crew) for name in sorted(algorithms.available())},
        "halves": halves(crew),
        "whole": halves(ALONE),
    }


def main(folder: str) -> None:
    torch.set_num_threads(1)
    store, stop = Store(f"file://{folder}"), threading.Event()
    first = os.fork() > 0
    if first:
        meeting = Meeting("127.0.0.1", 2)
        epoch.claim(store, "uid", "first", meeting.address)
        crew = meeting.crew(stop)
    else:
        joined = join(store, "uid", 1, 2, stop)
        crew = joined[1] if joined else None
    assert crew is not None
    Path(folder, f"rank-{crew.number}.json").write_text(json.dumps(work(crew)))
    crew.close()
    if first:
        _, status = os.wait()
        sys.exit(os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
