"""What programs log: one line a record, whose it is, and no secret."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from fleet_contract import logs
from fleet_contract.names import Env

SECRETS = {"AWS_SECRET_ACCESS_KEY": "wJalr/XUtnFEMI+K7MDENG", "MY_TOKEN": "t0ken-of-mine"}


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    logs._process.clear()  # other tests have programs' parts say whose they are
    yield
    logs._process.clear()


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("fleet.test", logging.WARNING, __file__, 1, message, args, None)


def line(message: str = "said", *args: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(logs.Lines().format(record(message, *args)))
    return found


def test_a_record_says_whose_it_is() -> None:
    logs.bind(program="robot", job="pick", robot="arm-1")
    assert {"job": "pick", "robot": "arm-1", "level": "warning"}.items() <= line().items()
    assert "version" not in line()
    logs.bind(version=7)
    assert line()["version"] == 7
    logs.bind(version=None)
    assert "version" not in line()


def test_what_a_task_is_about_ends_with_it() -> None:
    with logs.about(job="pick"):
        with logs.about(robot="arm-1"):
            assert {"job": "pick", "robot": "arm-1"}.items() <= line().items()
        assert "robot" not in line()
    assert "job" not in line()


def test_a_line_is_one_line() -> None:
    said = logs.Lines().format(record("two\nlines, %s", "ü"))
    assert "\n" not in said
    assert json.loads(said)["message"] == "two\nlines, ü"


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("cannot reach nats://anna:geheim@broker:4222", "anna:geheim"),
        ("cannot reach nats://t0ken@broker:4222", "t0ken"),
        (f"seed SU{'A' * 55}Q", "SUA"),
        ("GET http://s3/b/k?X-Amz-Date=1&X-Amz-Signature=5f2eab&x=1 failed", "5f2eab"),
        ("jwt eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJ.c2lnbmF0dXJl", "eyJ"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n-----END PRIVATE KEY-----", "MIIE"),
        (f"key {SECRETS['AWS_SECRET_ACCESS_KEY']}", "wJalr"),
        (f"header {SECRETS['MY_TOKEN']}", "t0ken-of-mine"),
    ],
)
@pytest.mark.parametrize("kind", [logs.Text, logs.Lines])
def test_no_line_holds_a_secret(kind: type[logs.Text], said: str, secret: str) -> None:
    shown = kind(logs._secrets(SECRETS)).format(record("%s", said))
    assert secret not in shown
    assert logs.HIDDEN in shown


def test_what_is_no_secret_is_shown() -> None:
    harmless = "s3://fleet/jobs sha256:0a1b nats://broker:4222 storage ich@example.com"
    assert logs._secrets({Env.STORAGE_SECRET: "the-name-of-one", "TOKEN": "short"}) == ()
    assert harmless in logs.Text().format(record(harmless))


PROGRAM = """
    import logging, warnings
    from fleet_contract import logs
    logs.begin("learner", job="pick")
    logging.getLogger("a").info("at nats://u:geheim@b")
    warnings.warn("old")
    raise ValueError("no geheim-9 here")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_program_logs_as_its_environment_says_also_its_end(form: str) -> None:
    env = os.environ | {Env.LOG_FORMAT: form, "SOME_PASSWORD": "geheim-9"}
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    ran = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    said = ran.stderr.splitlines()
    assert "geheim" not in ran.stderr
    if form == "text":
        assert said[0].endswith("INFO a: at nats://***@b")
        assert said[-1] == "ValueError: no *** here"
        return
    told, warned, end = map(json.loads, said)
    assert told["message"] == "at nats://***@b"
    assert "old" in warned["message"]
    assert {one["program"] for one in (told, warned, end)} == {"learner"}
    assert end["level"] == "critical"
    assert "no *** here" in end["error"]
