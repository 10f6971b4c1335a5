"""The learner as a process: killed, stopped, doubled, started with nothing; a real broker."""

import asyncio
import contextlib
import itertools
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet_contract import names
from fleet_contract.agents import EXIT_REFUSED, LearnerConfig
from fleet_contract.messages import (
    Announcement,
    LearnerHeartbeat,
    LearnerStage,
    Manifest,
)
from fleet_contract.names import Channel, Env
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.learner.intake import absorb
from fleet_runtime.learner.journal import Entry, Journal
from fleet_runtime.learner.library import Library
from fleet_runtime.learner.main import Learner
from fleet_runtime.learner.receipts import Ledger
from fleet_runtime.policies.bundle import from_files
from fleet_runtime.settings import LearnerSettings
from fleet_runtime.wire import Wire
from helpers.learner import (
    ACTION,
    JOB,
    JOB_UID,
    NAMESPACE,
    OBSERVATION,
    LearnerProcess,
    Robot,
    episode,
    experience_subject,
    learner_process,
    listening,
    message,
    record,
    spec,
    write_dataset,
)
from helpers.nats import Broker, make_streams, running_broker

ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
HEARTBEAT = names.learner_heartbeat_subject(NAMESPACE, JOB)
RECEIPT = names.robot_subject(NAMESPACE, "ada", JOB, Channel.RECEIPT)
EXIT_FAULT, EXIT_FENCED, EXIT_STOPPED = 1, 3, 143


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


def stages(heard: list[bytes]) -> list[LearnerStage]:
    return [LearnerHeartbeat.decode(data).stage for data in heard]


def sequences(heard: list[bytes]) -> list[int]:
    return [Announcement.decode(data).policy.sequence for data in heard]


def every_version_is_whole(store: Store) -> None:
    for key in store.list(names.version_key(JOB_UID, 0).rsplit("/", 1)[0]):
        manifest = Manifest.open(store.get(key))
        blobs = {f.name: names.blob_key(JOB_UID, f.digest) for f in manifest.files}
        files = {
            f.name: store.get(blobs[f.name], f.digest, max_bytes=f.size) for f in manifest.files
        }
        assert from_files(files).spaces.tasks == manifest.tasks


def _wait_for_file(path: Path, text: str) -> None:
    for _ in range(3000):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)  # a file announces its growth to nobody
    raise AssertionError(f"{text!r} never came:\n{path.read_text()}")


async def test_killed_at_any_moment_it_loses_nothing_receipted_and_publishes_only_forward(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    learner = LearnerProcess(tmp_path, broker.url, small)
    async with listening(broker.url, ANNOUNCE, RECEIPT) as (client, (versions, receipts)):
        robot = Robot(client)
        rng = random.Random()
        for life in range(6):
            learner.start()
            try:
                told, out = len(receipts.heard), len(versions.heard)
                robot.hear(receipts.heard)
                missing = [n for n in robot.sent if n not in robot.receipted]
                await robot.send(*missing, *range(10 * life + 1, 10 * life + 6))
                await versions.more(out)
                await receipts.more(told)
                # From here on the moment is the dice's: in a round, a save, a publication.
                await robot.send(*range(10 * life + 6, 10 * life + 11))
                with contextlib.suppress(TimeoutError):
                    await receipts.until(lambda _: False, rng.uniform(0, 0.4))
            finally:
                learner.kill()
        robot.hear(receipts.heard)
    store = Store(learner.store_url)
    ledger, journal = Ledger(), Journal(store, JOB_UID, 99)
    library = Library(journal)
    for segment in journal.replay():
        absorb(segment, ledger, library)
    assert len(robot.receipted) >= 15
    for n in robot.receipted:
        assert ledger.settled(robot.sent[n][0])
        assert library.load(f"ada-{n}").id == f"ada-{n}"
    numbers = sequences(versions.heard)
    assert all(a <= b for a, b in itertools.pairwise(numbers)), numbers
    every_version_is_whole(store)


async def test_stopped_it_saves_itself_and_the_next_one_resumes_there(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    async with listening(broker.url, ANNOUNCE, HEARTBEAT) as (_, (versions, beats)):
        with learner_process(tmp_path, broker.url, small) as learner:
            await versions.more(0)
            assert await learner.stop() == EXIT_STOPPED
            step, out = Announcement.decode(versions.heard[-1]).step, len(versions.heard)
            learner.start()
            await versions.more(out)
            await beats.until(
                lambda heard: bool(heard) and LearnerHeartbeat.decode(heard[-1]).step > step
            )
    assert Announcement.decode(versions.heard[out]).step >= step
    assert "resuming at step" in learner.log
    last = LearnerHeartbeat.decode(beats.heard[-1])
    assert (last.epoch, last.stage) == (2, LearnerStage.ONLINE)


async def test_of_two_learners_the_older_exits_and_the_newer_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    older = LearnerProcess(tmp_path, broker.url, small)
    newer = LearnerProcess(tmp_path, broker.url, small)
    async with listening(broker.url, ANNOUNCE) as (_, (versions,)):
        try:
            older.start()
            await versions.more(0)
            newer.start()
            assert await older.exit() == EXIT_FENCED
            out = len(versions.heard)
            await versions.more(out)
            assert await newer.stop() == EXIT_STOPPED
        finally:
            older.kill()
            newer.kill()
    epochs = [Announcement.decode(data).learner_epoch for data in versions.heard]
    assert epochs == sorted(epochs)
    assert epochs[-1] == 2


async def test_with_neither_demonstrations_nor_experience_it_waits_and_says_so(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    async with listening(broker.url, ANNOUNCE, HEARTBEAT) as (client, (versions, beats)):
        with learner_process(tmp_path, broker.url, spec()) as learner:
            await beats.until(
                lambda heard: bool(heard) and stages(heard)[-1] is LearnerStage.WAITING_FOR_DATA
            )
            assert "give spec.offline.datasets or spec.policy.initial" in learner.log
            assert versions.heard == []
            await Robot(client).send(1, 2)
            await versions.more(0)
            assert await learner.stop() == EXIT_STOPPED


async def test_updates_are_limited_by_what_the_robots_sent(broker: Broker, tmp_path: Path) -> None:
    await make_streams(broker.url)
    limited = spec([write_dataset(tmp_path / "demos")], steps=5, updatesPerEpisode=3)
    async with listening(broker.url, HEARTBEAT) as (client, (beats,)):
        with learner_process(tmp_path, broker.url, limited):

            def stands_at(step: int, heard: list[bytes]) -> bool:
                last = LearnerHeartbeat.decode(heard[-1]) if heard else None
                return last is not None and (
                    (last.stage, last.step) == (LearnerStage.WAITING_FOR_DATA, step)
                )

            await beats.until(lambda heard: stands_at(5, heard))
            await Robot(client).send(1, 2)
            await beats.until(lambda heard: stands_at(5 + 3 * 2, heard))


async def test_without_a_broker_it_can_still_be_stopped(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    with learner_process(tmp_path, broker.url, small) as learner:
        await asyncio.to_thread(_wait_for_file, learner.log_path, "checkpoint 0 saved")
        assert await learner.stop() == EXIT_STOPPED
    assert "would not end" not in learner.log


async def test_without_a_broker_it_trains_and_publishes_as_soon_as_there_is_one(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    broker.kill()
    small = spec([write_dataset(tmp_path / "demos")], steps=5)
    with learner_process(tmp_path, broker.url, small) as learner:
        await asyncio.to_thread(_wait_for_file, learner.log_path, "checkpoint 0 saved")
        broker.start()
        async with listening(broker.url, ANNOUNCE) as (_, (versions,)):
            await versions.more(0)


async def test_turned_away_by_its_broker_it_ends_and_says_so_without_the_password(
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await make_streams(broker.url)
    monkeypatch.setenv(Env.LAST_WORDS, str(tmp_path / "words"))
    made: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
    connect = Wire.connect

    async def connected(*args: Any, **more: Any) -> Wire:
        made.set_result(await connect(*args, **more))
        return made.result()

    monkeypatch.setattr(Wire, "connect", connected)
    settings = LearnerSettings(
        job=JOB,
        job_uid=JOB_UID,
        nats_url=broker.url.replace("//", "//ada:secret@"),
        storage_url=f"file://{tmp_path}/store",
        spec=LearnerConfig.model_validate(spec()),
    )
    running = asyncio.create_task(Learner(settings).run())
    wire = await asyncio.wait_for(made, 60)
    await wire._client._process_err("'maximum subscriptions exceeded'")  # for good
    assert await asyncio.wait_for(running, 60) == EXIT_FAULT
    assert (
        tmp_path / "words"
    ).read_text() == f"the broker at {broker.url} turned us away; see its log"
    assert "secret" not in caplog.text


async def test_episodes_that_cannot_train_do_not_end_a_learner_that_waits_for_its_first(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    wide = np.zeros((21, OBSERVATION + 1), np.float32)
    both = [episode("one"), episode("two", observation=wide)]
    packed = [(made, codec.encode(made)) for made in both]
    told = [record(made, n, payload) for n, (made, payload) in enumerate(packed, 1)]
    batch = message(*((one, payload) for one, (_, payload) in zip(told, packed, strict=True)))
    wire = await Wire.connect(broker.url, "robot")
    await wire.store(experience_subject(), batch)
    await wire.close()
    async with listening(broker.url, ANNOUNCE) as (_, (announced,)):
        with learner_process(tmp_path, broker.url, spec()) as learner:
            await announced.more(0)
            assert "episode two cannot train" in learner.log


async def test_what_only_another_spec_heals_is_said_of_journaled_experience_too(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    far = episode("far", action=np.full((20, ACTION), 5, np.float32))
    payload = codec.encode(far)
    store = Store(f"file://{tmp_path}/store")
    Journal(store, JOB_UID, 1).append([Entry(record(far, 1, payload), payload)])
    with learner_process(tmp_path, broker.url, spec()) as learner:
        assert await learner.exit() == EXIT_REFUSED
    assert "give spec.policy.parameters.spaces" in learner.log


async def test_a_fault_that_nobody_foresaw_is_told_where_the_pods_status_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(Env.LAST_WORDS, str(tmp_path / "words"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = LearnerSettings(
            job=JOB,
            job_uid=JOB_UID,
            nats_url="nats://127.0.0.1:1",
            storage_url=f"file://{tmp_path}/store",
            metrics_port=taken.getsockname()[1],
            spec=LearnerConfig.model_validate(spec()),
        )
        assert await Learner(settings).run() == EXIT_FAULT
    assert "Address already in use" in (tmp_path / "words").read_text()
    assert "Traceback" in caplog.text


def test_the_program_run_from_the_command_line_names_what_its_environment_lacks() -> None:
    program = [sys.executable, "-m", "fleet_runtime.learner"]
    ended = subprocess.run(program, env={}, capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_FAULT
    assert "FLEET_JOB_UID: Field required" in ended.stderr


async def test_a_store_that_lets_a_second_writer_win_is_refused_before_anything_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def overwrite(store: Store, path: Path, data: bytes) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    monkeypatch.setattr(Store, "_create_file", overwrite)
    settings = LearnerSettings(
        job=JOB,
        job_uid=JOB_UID,
        nats_url="nats://127.0.0.1:1",
        storage_url=f"file://{tmp_path}",
        spec=LearnerConfig.model_validate(spec()),
    )
    assert await Learner(settings).run() == EXIT_FAULT
    assert "lets a second writer win" in caplog.text
    assert Store(f"file://{tmp_path}").list(names.job_root(JOB_UID)) == []
