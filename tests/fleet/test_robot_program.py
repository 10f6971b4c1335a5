"""The robot agent as a program on a simulated arm: started by its environment, ended by SIGTERM."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from fleet_contract import names
from fleet_contract.agents import EXIT_REFUSED
from fleet_contract.messages import Event, EventKind, Heartbeat
from fleet_contract.names import Channel, Env
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.robot.metaworld import spec
from fleet_runtime.robot.spool import Spool
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.nats import Broker, make_streams
from helpers.world import assignment, flow, publish


def environment(broker: Broker, tmp_path: Path) -> dict[str, str]:
    config = {
        "tasks": [{"name": "push-cube", "environment": {"task": "push"}}],
        "controlHz": 80,
        "interventions": {"scheduled": 0, "stallSteps": 0},
    }
    return {
        **os.environ,
        Env.NAMESPACE: "default",
        Env.JOB: "job",
        Env.JOB_UID: "uid-1",
        Env.ROBOT: "r0",
        Env.ROBOT_UID: "robot-uid",
        Env.NATS_URL: broker.url,
        Env.STORAGE_URL: f"file://{tmp_path}/objects",
        Env.SPOOL_DIR: str(tmp_path / "spool"),
        Env.TRUST_DIR: str(keys.trust(tmp_path / "trust")),
        Env.SPEC: json.dumps(config),
    }


async def test_sigterm_in_the_middle_of_an_episode_keeps_it_and_exits_with_143(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "ground")
    store = Store(f"file://{tmp_path}/objects")
    swapped = asyncio.Event()

    async def hear(_subject: str, data: bytes) -> None:
        if Event.decode(data).kind is EventKind.SWAP:
            swapped.set()

    await wire.subscribe(names.robot_subject("default", "r0", "job", Channel.EVENT), hear)
    # The job calls the task otherwise than the environment does.
    ref = publish(store, 1, flow(spec(("push-cube",))))
    document = assignment(1, ref).seal(keys.OPERATOR.sign)
    await wire.store(names.assign_subject("default", "job"), document)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fleet_runtime.robot", env=environment(broker, tmp_path)
    )
    try:
        await asyncio.wait_for(swapped.wait(), 90)
        program.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(program.wait(), 60) == 143
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
        await wire.close()
    spool = Spool(tmp_path / "spool", job_uid="uid-1")
    record, payload = spool.read(spool.pending()[0])
    spool.close()
    assert (record.task, record.manifest) == ("push-cube", ref.digest)
    assert len(codec.decode(payload)) == 200


async def test_a_version_that_kills_the_program_twice_gives_way_to_the_last_known_good_one(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "ground")
    store = Store(f"file://{tmp_path}/objects")
    news, beats, refused = asyncio.Condition(), list[Heartbeat](), list[Event]()

    async def beat(_subject: str, data: bytes) -> None:
        async with news:
            beats[:] = [Heartbeat.decode(data)]
            news.notify_all()

    async def hear(_subject: str, data: bytes) -> None:
        event = Event.decode(data)
        refused.extend([event] if event.kind is EventKind.REFUSAL else [])

    await wire.subscribe(names.robot_subject("default", "r0", "job", Channel.HEARTBEAT), beat)
    await wire.subscribe(names.robot_subject("default", "r0", "job", Channel.EVENT), hear)
    one, two = publish(store, 1), publish(store, 2)
    where = names.assign_subject("default", "job")
    await wire.store(where, assignment(1, one).seal(keys.OPERATOR.sign))
    config = {"tasks": [{"name": "left"}, {"name": "right"}], "controlHz": 200}
    tests = str(Path(__file__).parents[1])
    env = environment(broker, tmp_path) | {Env.SPEC: json.dumps(config), "PYTHONPATH": tests}

    async def started() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "helpers.dying_robot", "2"), env=env
        )

    program = await started()
    try:
        async with asyncio.timeout(90), news:
            await news.wait_for(lambda: bool(beats) and beats[0].good == one)
        await wire.store(where, assignment(2, two).seal(keys.OPERATOR.sign))
        assert await asyncio.wait_for(program.wait(), 60) == -signal.SIGKILL
        program = await started()
        assert await asyncio.wait_for(program.wait(), 90) == -signal.SIGKILL
        assert refused == []
        beats.clear()
        program = await started()
        async with asyncio.timeout(90), news:
            await news.wait_for(lambda: bool(beats) and beats[0].active == one)
            await news.wait_for(lambda: beats[0].assignment_epoch == 2 and beats[0].episodes > 2)
        assert beats[0].fallback is not None
        assert (beats[0].fallback.policy, beats[0].good, beats[0].fallbacks) == (two, one, 1)
        assert [(event.policy, event.assignment_epoch) for event in refused] == [(two, 2)]
        assert "died 2 times in a row" in refused[0].detail
        program.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(program.wait(), 60) == 143
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
        await wire.close()


@pytest.mark.parametrize(
    ("over", "fault"),
    [
        pytest.param({Env.SPOOL_DIR: ""}, "FLEET_JOB_UID", id="incomplete"),
        pytest.param(
            {Env.TRUST_DIR: "/nowhere"},
            "/nowhere must hold the public keys of the fleet",
            id="no public keys",
        ),
        pytest.param(
            {Env.SPEC: json.dumps({"tasks": [{"name": "a", "environment": {"name": "moon"}}]})},
            "no environment 'moon'",
            id="unknown environment",
        ),
        pytest.param(
            {Env.STORAGE_URL: "nowhere://objects"},
            "storage URL 'nowhere://objects'",
            id="no such store",
        ),
        pytest.param(
            {Env.SPEC: json.dumps({"tasks": [{"name": "pusch"}]})},
            "among Meta-World's tasks there is no 'pusch'; did you mean push?",
            id="unknown task",
        ),
    ],
)
async def test_a_configuration_that_cannot_work_is_told_and_ends_the_program(
    tmp_path: Path, over: dict[str, str], fault: str
) -> None:
    words = tmp_path / "last-words"
    base = environment(Broker(tmp_path), tmp_path) | over | {Env.LAST_WORDS: str(words)}
    if fault == "FLEET_JOB_UID":
        del base[Env.JOB_UID]
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet_runtime.robot"), env=base, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(program.communicate(), 180)
    assert fault in said.decode()
    if fault != "FLEET_JOB_UID":
        assert program.returncode == EXIT_REFUSED
        assert fault in words.read_text()
