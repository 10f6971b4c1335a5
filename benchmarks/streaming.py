"""How soon can a step be sampled, sent when its episode has ended or in parts while it runs?

Robots live episodes of a minute, a person in control of a share of the steps; agents, broker,
ingest and journal are the product's, and so is the account of how old a step is when the replay has
it (`Training.take_in`). Nothing trains beside it. HG-DAgger takes a person's steps from a part, the
policy's own when the episode has ended.

    .venv/bin/python -m benchmarks.streaming [--smoke] [--people SHARE] [--robots N] …
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np

from fleet_contract.agents import RobotConfig
from fleet_contract.resources.experience import Experience, ExperienceMode
from fleet_contract.resources.learning import Task
from fleet_runtime import algorithms
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.admission import Rules
from fleet_runtime.learner.handoff import Handoff
from fleet_runtime.learner.ingest import Ingest
from fleet_runtime.learner.loop import Training
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.recall import Experience as Recalled
from fleet_runtime.learner.retention import Base
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from fleet_runtime.robot.agent import Agent
from fleet_runtime.robot.human import Control
from fleet_runtime.settings import RobotSettings
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.nats import make_streams, running_broker
from helpers.world import SPEC, TASKS, PointRobot, assignment, flow, publish

HZ = 20.0


class Helper:
    """In control of this share of each second's steps."""

    def __init__(self, share: float) -> None:
        self._share = share

    def begin(self, task: str) -> None: ...

    def control(self, step: int, _reward: float) -> Control:
        return Control.CAUSED if step % HZ < self._share * HZ else Control.POLICY

    def act(self, _seen: Any) -> Any:
        return np.array([0.0], np.float32)


def training(recalled: Recalled, metrics: LearnerMetrics) -> Training:
    """The part of it that takes episodes in."""
    algorithm = algorithms.find("hg-dagger").create(SPEC.spaces(), {"hidden": 16, "layers": 1})
    nobody = cast("Any", None)
    return Training(
        algorithm_name="hg-dagger",
        algorithm=algorithm,
        index=ReplayIndex(
            SPEC.spaces(), algorithm.sample_spec, recalled.load, load_part=recalled.load_part
        ),
        sampler=AdaptiveSampler(len(TASKS)),
        feed=nobody,
        limiter=None,
        handoff=Handoff(),
        publisher=nobody,
        checkpointer=nobody,
        progress=Progress(),
        metrics=metrics,
        epoch=1,
        offline_steps=0,
        from_scratch=True,
        by_task=Counter(),
    )


async def measured(folder: Path, url: str, wanted: Experience, plan: argparse.Namespace) -> Any:
    """Ages of steps in this mode."""
    await make_streams(url)
    store = Store(f"file://{folder}/objects")
    spec = dataclasses.replace(SPEC, horizon=int(plan.episode * HZ))
    ref = publish(store, 1, flow(spec))
    wire = await Wire.connect(url, "learner")
    recalled = Recalled.since(Base(), store, "uid-1", 1)
    metrics = LearnerMetrics("default", "job")
    run = training(recalled, metrics)
    spaces = spec.spaces()
    ingest = Ingest(
        wire=wire,
        store=store,
        journal=recalled.journal,
        ledger=recalled.ledger,
        library=recalled.library,
        rules=Rules("uid-1", frozenset(TASKS), spaces.observation_size, spaces.action_size),
        handoff=run.handoff,
        progress=run.progress,
        metrics=metrics,
        namespace="default",
        job="job",
        epoch=1,
        sign=keys.LEARNER.sign,
    )
    agents = [
        Agent(
            _settings(folder, url, f"r{i}", wanted), PointRobot(spec, step=0.0), Helper(plan.people)
        )
        for i in range(plan.robots)
    ]
    works = [asyncio.create_task(ingest.run()), *(asyncio.create_task(one.run()) for one in agents)]
    await wire.store("ctl.default.job.assign", assignment(1, ref).seal(keys.OPERATOR.sign))
    loop = asyncio.get_running_loop()
    end = loop.time() + plan.seconds
    while loop.time() < end:
        await asyncio.to_thread(run.handoff.wait, 0.1)
        run.take_in()
    ages = np.concatenate([*run.progress.ages])
    for one in agents:
        one.stop()
    works[0].cancel()
    await asyncio.wait(works)
    await wire.close()
    told = {"steps": len(ages), "episodes": run.episodes}
    return told | {f"p{p}": round(float(np.percentile(ages, p)), 2) for p in (5, 50, 95)}


def _settings(folder: Path, url: str, robot: str, wanted: Experience) -> RobotSettings:
    return RobotSettings(
        namespace="default",
        job="job",
        job_uid="uid-1",
        nats_url=url,
        storage_url=f"file://{folder}/objects",
        robot=robot,
        robot_uid=f"{robot}-uid",
        spool_dir=folder / robot,
        trust_dir=keys.trust(folder / robot / "trust"),
        resync_seconds=5.0,
        spec=RobotConfig(
            tasks=[Task(name=name) for name in TASKS], control_hz=HZ, experience=wanted
        ),
    )


def main() -> None:
    """One line of JSON a mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="short episodes, under a minute")
    parser.add_argument("--people", type=float, default=1.0)
    parser.add_argument("--robots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--episode", type=float, default=60.0)
    parser.add_argument("--every", default="5s")
    plan = parser.parse_args()
    if plan.smoke:
        plan.robots, plan.seconds, plan.episode, plan.every = 2, 12.0, 4.0, "1s"
    for mode in ExperienceMode:
        wanted = Experience(mode=mode, every=plan.every)
        with tempfile.TemporaryDirectory() as name, running_broker(Path(name) / "nats") as broker:
            found = asyncio.run(measured(Path(name), broker.url, wanted, plan))
        load = round(os.getloadavg()[0], 1)
        print(json.dumps({"mode": mode.value} | vars(plan) | found | {"load": load}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
