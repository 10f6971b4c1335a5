"""Traces reach a collector that takes OTLP, and none that is away holds anybody up."""

import logging
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_contract.messages import digest_of
from fleet_contract.names import Env
from fleet_runtime import tracing
from fleet_runtime.tracing import SAID_WITHIN, Stage, of_episode, of_version, tell
from helpers.otlp import Collector, collecting

EPISODE = secrets.token_hex(16)
VERSION = digest_of(b"a manifest")
WHOSE = {"namespace": "lab", "job": "kitchen", "robot": "arm-1"}


@pytest.fixture(autouse=True)
def _ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (Env.OTLP_ENDPOINT, Env.OTLP_TRACES_ENDPOINT):
        monkeypatch.delenv(name, raising=False)
    yield
    tracing.end()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setattr(tracing, "SAID_WITHIN", 60.0)  # all shall come, on a busy machine too
    with collecting() as running:
        monkeypatch.setenv(Env.OTLP_ENDPOINT, running.url)
        yield running


def test_without_an_endpoint_nothing_is_imported_and_nothing_is_said() -> None:
    asked = (
        "import sys; from fleet_runtime import tracing as t; t.begin('robot'); "
        "t.tell(t.Stage.EPISODE, t.of_episode('e'), 1.0, 2.0); t.end(); "
        "sys.exit(t.active() or any(one.startswith('opentelemetry') for one in sys.modules))"
    )
    subprocess.run([sys.executable, "-P", "-c", asked], env={}, check=True)


def test_an_episode_and_a_version_have_traces_that_every_program_finds_by_itself() -> None:
    episode, version = of_episode(EPISODE), of_version(VERSION)
    assert episode.trace == EPISODE
    assert version.trace == VERSION.removeprefix("sha256:")[:32]
    assert (episode, version) == (of_episode(EPISODE), of_version(VERSION))
    odd = [of_episode(name) for name in ("", "take 3", "0" * 32, EPISODE.upper() + "é")]
    traces = {one.trace for one in (*odd, episode, version)}
    assert len(traces) == 6
    assert all(int(trace, 16) > 0 and len(trace) == 32 for trace in traces)


def test_spans_hang_under_the_first_of_their_trace_and_link_to_others(
    collector: Collector,
) -> None:
    tracing.begin("robot", **WHOSE)
    episode, version = of_episode(EPISODE), of_version(VERSION)
    tell(Stage.UPLOAD, episode, 20.0, 19.5, bytes=7, rejected=None)
    tell(Stage.EPISODE, episode, 10.0, 20.0, links=[version], task="push")
    first, upload = sorted(collector.until(lambda all_: len(all_) == 2), key=lambda s: s.began)
    assert (first.name, first.id, first.trail) == ("episode", episode.first, episode)
    assert (first.began, first.ended, first.links) == (10.0, 20.0, [version])
    assert first.said == {"fleetloop.task": "push"}
    assert (upload.name, upload.trail) == ("upload", episode)
    assert upload.id not in {episode.first, ""}
    assert (upload.began, upload.ended) == (20.0, 20.0)  # clocks differ
    assert upload.said == {"fleetloop.bytes": 7}
    assert upload.whose["service.name"] == "fleetloop-robot"
    assert upload.whose["fleetloop.robot"] == "arm-1"


def test_the_page_says_what_each_span_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "traces.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [stage.value for stage in Stage]


def test_of_a_share_of_traces_every_program_keeps_the_same(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    tracing.begin("robot", **WHOSE)
    for number in range(64):
        episode = of_episode(f"{number}")
        tell(Stage.EPISODE, episode, 1.0, 2.0)
        tell(Stage.UPLOAD, episode, 2.0, 3.0)
    tracing.end()
    kept = [
        {one.trail for one in collector.spans if one.name == name} for name in ("episode", "upload")
    ]
    assert kept[0] == kept[1]
    assert 0 < len(kept[0]) < 64


def test_a_collector_that_is_away_costs_spans_a_line_and_no_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes connections and never answers, which is worse than refusing them."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(Env.OTLP_ENDPOINT, f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracing.begin("robot", **WHOSE)
        began = time.process_time()
        for number in range(2000):
            tell(Stage.EPISODE, of_episode(f"{number}"), 1.0, 2.0)
        assert time.process_time() - began < 5.0  # 2.5 ms each, where it takes 0.05
        ending = time.monotonic()
        tracing.end()
        assert time.monotonic() - ending < SAID_WITHIN + 20.0  # left alone it waits for 30
    assert not tracing.active()
    for thread in threading.enumerate():
        if thread.name.startswith("Otel"):
            thread.join(60.0)  # with the socket went what it waited for
            assert not thread.is_alive()
    (line,) = caplog.records
    assert "do not arrive" in line.getMessage()


def test_traces_are_said_to_be_dropped_once_and_go_on_when_the_collector_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    monkeypatch.setattr(tracing, "SAID_WITHIN", 60.0)
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    monkeypatch.setenv(Env.OTLP_ENDPOINT, f"http://127.0.0.1:{refusing.getsockname()[1]}")
    tracing.begin("learner", namespace="lab", job="kitchen")

    def told(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    deadline = time.monotonic() + 60
    for number in range(10_000):
        tell(Stage.EPISODE, of_episode(f"{number}"), 1.0, 2.0)
        if told("do not arrive"):
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a log announces its lines to nobody
    with collecting(refusing) as collector:
        tell(Stage.EPISODE, of_episode(EPISODE), 1.0, 2.0)
        collector.until(lambda all_: of_episode(EPISODE) in {one.trail for one in all_})
        tracing.end()
    assert (told("do not arrive"), told("arrive again")) == (1, 1)
    assert not [one for one in caplog.records if one.name.startswith("opentelemetry")]


def test_where_the_library_is_not_installed_the_log_says_so_and_the_program_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(Env.OTLP_ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "fleet_runtime.otlp", None)
    tracing.begin("robot", **WHOSE)
    tell(Stage.EPISODE, of_episode(EPISODE), 1.0, 2.0)
    assert not tracing.active()
    assert "install fleetloop[otel]" in caplog.text
