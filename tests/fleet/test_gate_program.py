"""A run of the simulation gate: a real policy on a toy world that is installed as any other."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet_contract import names
from fleet_contract.agents import EXIT_REFUSED, GateConfig
from fleet_contract.messages import GateReport, PolicyRef
from fleet_contract.names import Env
from fleet_runtime.artifacts import Store
from fleet_runtime.gate.main import main
from fleet_runtime.gate.simulate import Checked, RefusedError, Simulation, UnfitError
from fleet_runtime.policies.bundle import from_files
from fleet_runtime.policies.flow import FlowPolicy
from fleet_runtime.robot.metaworld import EVALUATION_SEED, spec
from fleet_runtime.settings import GateSettings
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.line import learned, plug_in, scrambled
from helpers.nats import Broker
from helpers.world import flow, publish

EPISODES = 10


@pytest.fixture(autouse=True)
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The world is there, here and in programs."""
    path = plug_in(tmp_path / "plugins")
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    monkeypatch.delitem(sys.modules, "line_world", raising=False)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/objects")


def config(ref: PolicyRef, **fields: Any) -> GateConfig:
    tasks = [{"name": name} for name in ("left", "right")]
    given = {"run": 3, "policy": ref, "tasks": tasks, "world": {"name": "line"}}
    return GateConfig.model_validate({**given, "episodes": EPISODES, **fields})


def settings(tmp_path: Path, of: GateConfig, url: str = "nats://127.0.0.1:1") -> GateSettings:
    return GateSettings(
        namespace="default",
        job="job",
        job_uid="uid-1",
        nats_url=url,
        storage_url=f"file://{tmp_path}/objects",
        trust_dir=keys.trust(tmp_path / "trust"),
        spec=of,
    )


def measured(tmp_path: Path, of: GateConfig) -> GateReport:
    simulation = Simulation(settings(tmp_path, of))
    simulation.run()
    return simulation.report


def test_a_version_that_the_learner_did_not_sign_is_not_run(tmp_path: Path, store: Store) -> None:
    found = measured(tmp_path, config(publish(store, 1, files=learned(), sign=keys.STRANGER.sign)))
    assert "signed with key" in found.fault
    assert found.done == 0


def test_without_the_public_keys_it_says_so_and_blames_no_version(
    tmp_path: Path, store: Store
) -> None:
    told = settings(tmp_path, config(publish(store, 1)))
    (tmp_path / "trust" / "learner").unlink()
    with pytest.raises(RefusedError, match="must hold the public keys of the fleet"):
        Simulation(told)


def test_it_tells_a_policy_that_learned_from_one_that_did_not(tmp_path: Path, store: Store) -> None:
    good = publish(store, 1, files=learned())
    found = measured(tmp_path, config(good))
    assert (found.run, found.digest, found.seed) == (3, good.digest, EVALUATION_SEED)
    assert found.complete
    assert min(found.successes.values()) >= 0.8 * EPISODES
    bad = publish(store, 2, files=scrambled())
    assert min(measured(tmp_path, config(bad)).successes.values()) <= 0.2 * EPISODES
    assert measured(tmp_path, config(good)) == found  # the same starts, and so the same end


def test_only_the_tasks_that_are_asked_for_are_run(tmp_path: Path, store: Store) -> None:
    ref = publish(store, 1, files=learned())
    found = measured(tmp_path, config(ref, tasks=[{"name": "left"}], episodes=2))
    assert found.successes.keys() == {"left"}
    assert found.done == 2


def test_a_version_that_is_not_finite_is_reported_as_unfit(tmp_path: Path, store: Store) -> None:
    policy = from_files(learned())
    for tensor in policy.tensors().values():
        tensor.fill_(float("nan"))
    assert isinstance(policy, FlowPolicy)
    found = measured(tmp_path, config(publish(store, 1, policy)))
    assert "not finite" in found.fault
    assert not found.complete


@pytest.mark.parametrize(
    "chunk", [np.zeros((1, 0, 1)), np.zeros((1, 4, 2)), np.zeros(4), np.array([[["a"]]])], ids=repr
)
def test_what_is_no_chunk_of_actions_is_the_versions_own_fault(chunk: np.ndarray) -> None:
    policy = from_files(learned())
    policy.act = lambda *_: chunk  # type: ignore[method-assign]
    with pytest.raises(UnfitError, match=r"its (chunks|actions) are"):
        Checked(policy).act(np.zeros((1, 2), np.float32), np.zeros(1, np.int64))


def test_a_bundle_that_is_none_is_reported_as_unfit(tmp_path: Path, store: Store) -> None:
    files = {**learned(), "config.json": b"{}"}
    assert measured(tmp_path, config(publish(store, 1, files=files))).fault


REFUSED = {
    "a world that there is not": ({"world": {"name": "moon"}}, "no environment 'moon'"),
    "a world that says no": ({"world": {"name": "line", "parameters": {"broken": True}}}, "broken"),
    "a parameter that it does not know": (
        {"world": {"name": "line", "parameters": {"gravity": 2}}},
        "gravity",
    ),
    "tasks of several worlds": (
        {
            "world": None,
            "tasks": [{"name": "left", "environment": {"name": "line"}}, {"name": "reach"}],
        },
        "one robot lives in one",
    ),
    "a task that the world does not know": (
        {"world": {"name": "metaworld"}, "tasks": [{"name": "fly"}]},
        "fly",
    ),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_run_as_the_spec_says_is_refused(
    tmp_path: Path, store: Store, fields: dict[str, Any], words: str
) -> None:
    ref = publish(store, 1)
    with pytest.raises(RefusedError, match=words):
        Simulation(settings(tmp_path, config(ref, **fields)))


def test_a_world_that_is_not_like_the_robots_is_no_fault_of_the_version(
    tmp_path: Path, store: Store
) -> None:
    ref = publish(store, 1, flow(spec(("left", "right"))))
    with pytest.raises(RefusedError, match=r"for another robot.*spec.rollout.gates.simulation"):
        measured(tmp_path, config(ref))


def environment(tmp_path: Path, line: str, url: str, of: GateConfig) -> dict[str, str]:
    return {
        Env.NAMESPACE: "default",
        Env.JOB: "job",
        Env.JOB_UID: "uid-1",
        Env.NATS_URL: url,
        Env.STORAGE_URL: f"file://{tmp_path}/objects",
        Env.SPEC: of.model_dump_json(by_alias=True),
        Env.LAST_WORDS: str(tmp_path / "words"),
        Env.TRUST_DIR: str(keys.trust(tmp_path / "trust")),
        "PYTHONPATH": line,
    }


@pytest.fixture
def run_here(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[GateConfig], str]]:
    """The program in this process, with no broker there: its last words."""
    before = signal.getsignal(signal.SIGTERM)

    def run(of: GateConfig) -> str:
        for name, value in environment(tmp_path, line, "nats://127.0.0.1:1", of).items():
            monkeypatch.setenv(name, value)
        main()
        return (tmp_path / "words").read_text()

    yield run
    signal.signal(signal.SIGTERM, before)


def test_the_program_leaves_what_it_found_and_needs_no_broker_for_it(
    store: Store, run_here: Callable[[GateConfig], str]
) -> None:
    ref = publish(store, 1, files=learned())
    found = GateReport.decode(run_here(config(ref, episodes=2)).encode())
    assert (found.run, found.digest, found.complete) == (3, ref.digest, True)


def test_the_program_says_why_it_will_not(
    tmp_path: Path, store: Store, run_here: Callable[[GateConfig], str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_here(config(publish(store, 1), world={"name": "moon"}))
    assert ended.value.code == EXIT_REFUSED
    assert "moon" in (tmp_path / "words").read_text()


async def test_the_program_tells_what_it_waits_for_and_ends_at_once_when_asked(
    tmp_path: Path, line: str, broker: Broker, store: Store
) -> None:
    heard: asyncio.Queue[GateReport] = asyncio.Queue()
    wire = await Wire.connect(broker.url, "ears")

    async def hear(_subject: str, data: bytes) -> None:
        heard.put_nowait(GateReport.decode(data))

    await wire.subscribe(names.gate_heartbeat_subject("default", "job"), hear)
    away = PolicyRef(sequence=2, digest=publish(store, 1).digest, uri="jobs/uid-1/versions/2.json")
    told = environment(tmp_path, line, broker.url, config(away))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fleet_runtime.gate", env={**os.environ, **told}
    )
    async with asyncio.timeout(180):
        while "versions/2.json" not in (await heard.get()).waits:
            pass
        running.send_signal(signal.SIGTERM)
        assert await running.wait() == 128 + signal.SIGTERM
    await wire.close()
    assert not (tmp_path / "words").exists()
