"""What a program reads from its environment and what it tells of itself."""

import json
import socket
import urllib.request

import pytest

from fleet_contract import metrics as m
from fleet_contract.names import Env
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.settings import learner_settings, robot_settings

BASE = {
    Env.NAMESPACE: "lab",
    Env.JOB: "kitchen",
    Env.JOB_UID: "6f1c",
    Env.NATS_URL: "nats://127.0.0.1:4222",
    Env.STORAGE_URL: "memory://x",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Env:
        monkeypatch.delenv(name, raising=False)
    for name, value in BASE.items():
        monkeypatch.setenv(name, value)


def test_a_robot_reads_its_whole_configuration_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(Env.ROBOT, "arm-1")
    monkeypatch.setenv(Env.ROBOT_UID, "r-uid")
    monkeypatch.setenv(Env.SPOOL_DIR, "/var/spool/fleet")
    monkeypatch.setenv(Env.TRUST_DIR, "/etc/fleetloop/trust")
    monkeypatch.setenv(Env.SPEC, json.dumps({"tasks": [{"name": "push"}], "controlHz": 50}))
    settings = robot_settings()
    assert (settings.robot, settings.namespace) == ("arm-1", "lab")
    assert settings.spec.control_hz == 50
    assert settings.spec.tasks[0].name == "push"


def test_a_learner_reads_its_whole_configuration_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(Env.METRICS_PORT, "9100")
    monkeypatch.setenv(Env.SPEC, json.dumps({"tasks": [{"name": "push"}], "batchSize": 8}))
    settings = learner_settings()
    assert (settings.spec.batch_size, settings.metrics_port) == (8, 9100)


def test_a_missing_or_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(Env.ROBOT, "arm.1")
    monkeypatch.setenv(Env.ROBOT_UID, "r-uid")
    monkeypatch.setenv(Env.SPEC, json.dumps({"tasks": []}))
    with pytest.raises(SystemExit) as end:
        robot_settings()
    for name in ("FLEET_ROBOT:", "FLEET_SPOOL_DIR:", "FLEET_SPEC.tasks:"):
        assert name in str(end.value)


def test_a_variable_of_another_name_or_without_json_is_named_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(Env.COMPLETION_INDEX, "first")
    with pytest.raises(SystemExit, match=rf"\n  {Env.COMPLETION_INDEX}: "):
        learner_settings()
    monkeypatch.setenv(Env.SPEC, '{"tasks": [}')
    with pytest.raises(SystemExit, match=rf"{Env.SPEC}: Expecting value: line 1 column 12"):
        learner_settings()


def test_a_learners_metrics_are_served_under_the_contracts_names() -> None:
    metrics = LearnerMetrics("lab", "kitchen")
    metrics.loads.inc(3)
    metrics.frames("push", "online").set(5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop = metrics.serve("127.0.0.1", port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        stop()
    whose = 'job="kitchen",namespace="lab"'
    assert f"{m.REPLAY_LOADS.name}{{{whose}}} 3.0" in text
    assert f'{m.REPLAY_FRAMES.name}{{{whose},side="online",task="push"}} 5.0' in text
    assert f'{m.LEARNER_REJECTED.name}{{{whose},reason="Shape"}} 0.0' in text


def test_two_learners_metrics_live_in_one_process() -> None:
    LearnerMetrics("lab", "kitchen").loads.inc()
    other = LearnerMetrics("lab", "kitchen")
    whose = {"namespace": "lab", "job": "kitchen"}
    assert other.registry.get_sample_value(m.REPLAY_LOADS.name, whose) == 0
    other.serve("127.0.0.1", 0)()
