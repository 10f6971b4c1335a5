"""What a learner cannot work with: it says why, exits or waits, and goes on when it is healed."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_contract import names
from fleet_contract.messages import LearnerHeartbeat
from fleet_contract.names import Env
from helpers.learner import (
    JOB,
    NAMESPACE,
    LearnerProcess,
    learner_process,
    listening,
    spec,
    write_dataset,
)
from helpers.nats import Broker, make_streams, running_broker
from helpers.s3 import running_object_server

HEARTBEAT = names.learner_heartbeat_subject(NAMESPACE, JOB)
ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
EXIT_FAULT, EXIT_REFUSED = 1, 78
DISK = 4 * 2**20  # bytes


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


def parameters(**values: Any) -> dict[str, Any]:
    return {"algorithm": {"parameters": values}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an algorithm that is not installed": (
        {"algorithm": {"name": "hg-daggr"}},
        "spec.algorithm.name: there is no 'hg-daggr'; did you mean hg-dagger?",
    ),
    "an architecture that is none": (
        {"policy": {"architecture": "magic"}},
        "spec.policy.architecture: there is no 'magic'; there are flow, lerobot",
    ),
    "a parameter that is none": (
        parameters(temprature=1),
        "spec.algorithm.parameters.temprature: there is no 'temprature'; there are",
    ),
    "a parameter that is nearly one": (
        parameters(learningRat=1),
        "spec.algorithm.parameters.learningRat: there is no 'learningRat'; did you mean learningRa",
    ),
    "a parameter of the wrong type": (
        parameters(horizon="long"),
        "spec.algorithm.parameters.horizon: Input should be a valid integer",
    ),
    "a size of the network that is none": (
        {"policy": {"parameters": {"hidden": -1}}},
        "spec.policy.parameters.hidden: Input should be greater than or equal to 1; found -1",
    ),
    "spaces that are none": (
        {"policy": {"parameters": {"spaces": {"observationSize": 3}}}},
        "it takes observationSize, actionLow and actionHigh",
    ),
    "a dataset at no place": (
        {"offline": {"datasets": [{"uri": "carrier-pigeon://loft/demos"}]}},
        "spec.offline.datasets.0.uri: storage URL 'carrier-pigeon://loft'",
    ),
    "an initial policy at no place": (
        {"policy": {"initial": {"uri": "s3://nowhere"}}},
        "spec.policy.initial.uri: 's3://nowhere' names no folder",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
async def test_only_another_spec_helps_against(
    sentence: str, broker: Broker, tmp_path: Path
) -> None:
    asked, said = REFUSED[sentence]
    words = tmp_path / "last-words"
    wrong = spec([write_dataset(tmp_path / "demos")], **asked)
    learner = LearnerProcess(tmp_path, broker.url, wrong)
    learner.environment[Env.LAST_WORDS] = str(words)
    learner.start()
    assert await learner.exit() == EXIT_REFUSED
    assert said in words.read_text()
    assert said in learner.log


async def test_a_dataset_that_is_missing_ends_it_and_it_goes_on_when_the_data_are_there(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    words = tmp_path / "last-words"
    learner = LearnerProcess(tmp_path, broker.url, spec([f"file://{tmp_path}/demos"], steps=5))
    learner.environment[Env.LAST_WORDS] = str(words)
    learner.start()
    assert await learner.exit() == EXIT_FAULT
    assert (
        f"spec.offline.datasets.0.uri: file://{tmp_path}/demos holds neither" in words.read_text()
    )
    assert "put one of them there, or name another folder" in words.read_text()
    write_dataset(tmp_path / "demos")
    async with listening(broker.url, ANNOUNCE) as (_, (versions,)):
        learner.start()  # as the node does, all the while
        try:
            await versions.more(0)
        finally:
            learner.kill()


@pytest.mark.parametrize(
    ("files", "why"),
    [((), "config.json is not in"), (("config.json", "model.safetensors"), "is not in")],
    ids=["missing", "half there"],
)
async def test_an_initial_policy_that_is(
    files: tuple[str, ...], why: str, broker: Broker, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name in files:
        (bundle / name).write_bytes(b"junk")
    asked = spec(policy={"initial": {"uri": f"file://{bundle}"}})
    with learner_process(tmp_path, broker.url, asked) as learner:
        assert await learner.exit() == EXIT_FAULT
    assert "spec.policy.initial.uri: " in learner.log
    assert why in learner.log
    assert "point it at a folder with config.json, model.safetensors" in learner.log


def faults(heard: list[bytes]) -> list[str]:
    return [LearnerHeartbeat.decode(data).fault for data in heard]


def complains(words: str) -> Callable[[list[bytes]], bool]:
    return lambda heard: any(words in fault for fault in faults(heard))


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "let these credentials read and write there"),
        ({Env.STORAGE_URL: "s3://no-such-bucket"}, "make the bucket or folder"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "start it, or correct spec.transport.storage"),
    ],
    ids=["refuses us", "has no such bucket", "is out of reach"],
)
async def test_it_waits_for_a_store_that(
    spoil: dict[str, str], advice: str, broker: Broker, tmp_path: Path
) -> None:
    """… and says so in its heartbeat; there is no epoch to work under yet."""
    await make_streams(broker.url)
    with running_object_server(tmp_path / "objects") as server:
        learner = LearnerProcess(tmp_path, broker.url, spec([write_dataset(tmp_path / "demos")]))
        learner.environment |= server.environment | {Env.STORAGE_URL: server.url} | spoil
        async with listening(broker.url, HEARTBEAT) as (_, (beats,)):
            learner.start()
            try:
                await beats.until(complains(advice), 60)
                assert LearnerHeartbeat.decode(beats.heard[-1]).epoch == 0
                if Env.STORAGE_URL in spoil:
                    (tmp_path / "objects" / "no-such-bucket").mkdir()  # healed
                    told = len(beats.heard)
                    await beats.until(
                        lambda heard: LearnerHeartbeat.decode(heard[-1]).epoch == 1, 60
                    )
                    await beats.until(lambda heard: faults(heard)[-1] == "", 60)
                    assert len(beats.heard) > told
            finally:
                learner.kill()


async def test_a_store_without_room_is_told_and_nothing_is_lost_when_there_is_some_again(
    broker: Broker, tmp_path: Path
) -> None:
    """A limit on the size of a file stands for a full disk: it needs no rights."""
    await make_streams(broker.url)
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    with learner_process(tmp_path, broker.url, small) as learner:
        async with listening(broker.url, HEARTBEAT, ANNOUNCE) as (_, (beats, versions)):
            await versions.more(0)
            unlimited = resource.prlimit(learner.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(learner.pid, resource.RLIMIT_FSIZE, (1024, unlimited[1]))
            await beats.until(complains("it is full: free some of it, or raise its quota"))
            resource.prlimit(learner.pid, resource.RLIMIT_FSIZE, unlimited)
            told, out = len(beats.heard), len(versions.heard)
            await beats.until(lambda heard: "" in faults(heard[told:]))
            await versions.more(out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB, where one may be mounted."""
    disk = tmp_path / "store"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root, and a machine that lets it mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_disk_that_is_really_full_is_told_and_it_goes_on_when_it_is_freed(
    broker: Broker, tmp_path: Path, small_disk: Path
) -> None:
    await make_streams(broker.url)
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK - 64 * 1024))
    async with listening(broker.url, HEARTBEAT, ANNOUNCE) as (_, (beats, versions)):
        with learner_process(tmp_path, broker.url, small) as learner:
            await beats.until(complains("it is full: free some of it"))
            ballast.unlink()
            await versions.more(len(versions.heard))
            assert "Traceback" not in learner.log
