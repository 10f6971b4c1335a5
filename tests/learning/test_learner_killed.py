"""What a learner that was killed in the midst of a write leaves to the next one."""

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fleet_contract import names
from fleet_contract.agents import LearnerConfig
from fleet_contract.messages import Announcement, LearnerHeartbeat
from fleet_contract.names import Channel
from fleet_runtime.algorithms.base import Algorithm
from fleet_runtime.artifacts import Store
from fleet_runtime.learner import build
from fleet_runtime.learner.checkpoint import Checkpoints, Saved, Tensors
from helpers.learner import (
    JOB,
    JOB_UID,
    NAMESPACE,
    LearnerProcess,
    Robot,
    listening,
    spec,
    write_dataset,
)
from helpers.nats import Broker, make_streams, running_broker

ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
HEARTBEAT = names.learner_heartbeat_subject(NAMESPACE, JOB)
RECEIPT = names.robot_subject(NAMESPACE, "ada", JOB, Channel.RECEIPT)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


def a_checkpoint(data: bytes) -> bool:
    return b"learner_epoch" in data[:4096]


def a_version(data: bytes) -> bool:
    """One of a bundle's files, or its manifest."""
    return b'"manifest"' in data[:200] or (data[8:9] == b"{" and not a_checkpoint(data))


async def killed_while_writing(learner: LearnerProcess, what: Callable[[bytes], bool]) -> bytes:
    """Stop it whenever a file is half made, and kill it when that is what was asked for."""
    folder = Path(learner.store_url.removeprefix("file://")) / ".tmp"
    before = set(folder.glob("*"))
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0)
            if not set(folder.glob("*")) - before:
                continue
            os.kill(learner.pid, signal.SIGSTOP)
            for path in set(folder.glob("*")) - before:
                data = b""
                with contextlib.suppress(FileNotFoundError):  # it stops a moment after the signal
                    data = path.read_bytes()
                if what(data):
                    learner.kill()
                    return data
            os.kill(learner.pid, signal.SIGCONT)


def newest(learner: LearnerProcess, config: LearnerConfig) -> tuple[Saved, Tensors, Algorithm]:
    """What the next learner will find."""

    def use(saved: Saved, tensors: Tensors) -> tuple[Saved, Tensors, Algorithm]:
        return saved, tensors, build.resumed(config, saved, tensors)

    found = Checkpoints(Store(learner.store_url), JOB_UID, 99, keep=2).newest(use)
    assert found is not None
    return found


async def test_killed_inside_a_save_or_a_publication_it_resumes_all_that_was_saved(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    wide: dict[str, Any] = {"policy": {"parameters": {"hidden": 256, "layers": 2}}}
    told = spec([write_dataset(tmp_path / "demos")], steps=5, **wide)
    config = LearnerConfig.model_validate(told)
    learner = LearnerProcess(tmp_path, broker.url, told)
    async with listening(broker.url, ANNOUNCE, HEARTBEAT, RECEIPT) as (client, ears):
        versions, beats, receipts = ears
        robot, dice, steps = Robot(client), random.Random(), [0]
        for life, what in enumerate([a_checkpoint, a_version, a_checkpoint, None]):
            beats.heard.clear()
            learner.start()
            out, checkpoints = len(versions.heard), learner.log.count("saved at step")
            missing = [n for n in robot.sent if n not in robot.receipted]
            await robot.send(*missing, *range(3 * life + 1, 3 * life + 4))
            await versions.more(out)
            await learner.says("saved at step", checkpoints)
            await receipts.until(robot.settled)
            await beats.until(
                lambda heard: any(
                    LearnerHeartbeat.decode(b).episodes >= len(robot.receipted) for b in heard
                )
            )
            if life:
                resumed = re.findall(r"resuming at step (\d+)", learner.log)
                assert [int(step) for step in resumed] == steps[1:]
            if what:
                await killed_while_writing(learner, what)
            else:
                await asyncio.sleep(dice.uniform(0, 0.3))  # wherever it is by then
                learner.kill()
            saved, tensors, algorithm = newest(learner, config)
            assert saved.step >= steps[-1]
            steps.append(saved.step)
            assert build.sampler(config, saved).state() == saved.sampler
            resumed_state = algorithm.state()
            assert all(torch.equal(resumed_state[name], tensors[name]) for name in tensors)
            assert tensors.keys() == resumed_state.keys()
    numbers = [Announcement.decode(data).policy.sequence for data in versions.heard]
    assert all(a <= b for a, b in itertools.pairwise(numbers)), numbers
