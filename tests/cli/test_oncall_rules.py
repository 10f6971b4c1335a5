"""Buttons, pins, checks, logs and enrolment, as far as they are decided without a cluster."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from typer.testing import CliRunner

from fleet_cli import cli_page, kube
from fleet_cli.exits import Exit, Fault
from fleet_cli.kubeconfig import Target, log_in
from fleet_cli.main import app
from fleet_cli.oncall import (
    buttons,
    checks,
    commands,
    edits,
    git,
    key_checks,
    latency,
    lineage,
    logs,
    robots,
    text,
)
from fleet_cli.robot import laid_out, read
from fleet_contract.metrics import POLICY_LATENCY
from fleet_contract.names import PLURALS, Env, Kind, Label, Verb
from fleet_contract.resources import FleetTrainingJob, RobotActor
from fleet_contract.schema import crd
from fleet_operator.decide import requests
from helpers.kube import await_exit
from helpers.oncall import NOW, READY, condition, job, reference, robot

TRIAL = job(rollout={"candidate": reference(7)}, rolledBack=[2, 4])
FLEET = Path(sys.executable).with_name("fleet")


def of(found: dict[str, Any]) -> FleetTrainingJob:
    return FleetTrainingJob.model_validate(found)


# --- buttons --------------------------------------------------------------------------------


def test_every_verb_has_its_command_and_its_row() -> None:
    assert set(commands.VERBS) == set(Verb) == set(buttons.BUTTONS)
    assert set(Verb) == set(requests.TABLE)


MEANT = {
    "the version on trial": (Verb.ABORT, TRIAL, None, "abort@7#n"),
    "the one that is named": (Verb.ABORT, TRIAL, 3, "abort@3#n"),
    "the last taken back": (Verb.RETRY, TRIAL, None, "retry@4#n"),
    "the one whose gate cannot be run": (
        Verb.RETRY,
        job(rollout={"candidate": reference(7), "reason": "GateBlocked"}, rolledBack=[2]),
        None,
        "retry@7#n",
    ),
    "what the fleet runs": (Verb.ROLLBACK, TRIAL, None, "rollback@6#n"),
    "any, for the whole fleet": (Verb.PAUSE, job(stable=None), None, "pause@0#n"),
}


@pytest.mark.parametrize("case", MEANT.values(), ids=MEANT.keys())
def test_a_button_names_the_version_it_means(case: tuple[Verb, Any, int | None, str]) -> None:
    verb, found, version, written = case
    assert buttons.request(verb, of(found), version, "n") == written


def test_a_button_that_means_no_version_says_what_to_do() -> None:
    with pytest.raises(Fault, match=r"no version is under trial of staged: .*fleet abort staged"):
        buttons.request(Verb.ABORT, of(job()), None, "n")


def asked(request: str, handled: str, **rollout: Any) -> dict[str, Any]:
    found = job(lastHandledRequest=handled, rollout=rollout)
    found["metadata"]["annotations"] = {Label.REQUEST.value: request}
    return found


def test_the_operators_answer_is_awaited_by_the_request_itself() -> None:
    assert buttons.answer("abort@7#b", asked("abort@7#b", "abort@7#a")) is None
    found = buttons.answer("abort@7#b", asked("abort@7#b", "abort@7#b", answer="Taken back."))
    assert found is not None
    assert (found.done, found.message) == (True, "Taken back.")


def test_what_was_refused_is_told_as_not_done() -> None:
    words = "abort@9#b was not done: version 9 is unknown."
    found = buttons.answer("abort@9#b", asked("abort@9#b", "abort@9#b", answer=words))
    assert found is not None
    assert (found.done, found.message) == (False, words)


SILENCE = {
    "an operator that is away": (job(), Exit.NO_ANSWER, "`fleet doctor` tells whether"),
    "a job that is stalled": (
        job(condition("Stalled", "True", "StreamsFailed", "Start NATS.")),
        Exit.NO_ANSWER,
        "staged is Stalled: Start NATS.",
    ),
}


@pytest.mark.parametrize(("found", "code", "words"), SILENCE.values(), ids=SILENCE.keys())
def test_silence_is_explained(found: dict[str, Any], code: Exit, words: str) -> None:
    found["metadata"]["annotations"] = {Label.REQUEST.value: "abort@7#a"}
    fault = buttons.silence("abort@7#a", found, 30.0)
    assert fault.code is code
    assert words in str(fault)
    assert "request abort@7#a stands" in str(fault)


def test_another_persons_press_is_told() -> None:
    fault = buttons.silence("abort@7#a", asked("promote@7#z", ""), 30.0)
    assert fault.code is Exit.NOT_DONE
    assert "another button meanwhile (promote@7#z)" in str(fault)


REFUSALS = [
    (404, "the server could not find the requested resource", 3, "does not have our kinds"),
    (404, 'pods "x" not found', 3, 'pods "x" not found'),
    (401, "Unauthorized", 4, "log in to the cluster again"),
    (403, "forbidden", 4, "`fleet doctor` lists what you may do"),
    (422, "spec.x: Invalid value", 1, "spec.x: Invalid value"),
]


@pytest.mark.parametrize(("status", "said", "code", "words"), REFUSALS)
def test_a_refusal_of_the_api_server_says_what_to_do(
    status: int, said: str, code: int, words: str
) -> None:
    sentence, exit_code = kube._refusal(status, said)
    assert (exit_code, words in sentence) == (code, True)


@pytest.mark.parametrize(
    "text", ["", "a: [", "- x\n", "\x00"], ids=["empty", "cut", "list", "bytes"]
)
async def test_a_kubeconfig_that_is_none_is_named_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(Fault, match=f"your kubeconfig will not do \\({path}\\)") as fault:
        await log_in(Target(kubeconfig=str(path)))
    assert fault.value.code is Exit.NO_ACCESS
    assert "\n" not in str(fault.value)


# --- Git ------------------------------------------------------------------------------------

FLUX = {"kustomize.toolkit.fluxcd.io/name": "robots", "kustomize.toolkit.fluxcd.io/namespace": "f"}
OWNERS = {
    "nobody": ({}, None),
    "a person with kubectl": ({"managedFields": [{"manager": "kubectl"}]}, None),
    "a Kustomization": ({"labels": FLUX}, "Flux (Kustomization f/robots)"),
    "a Helm release": (
        {"labels": {"helm.toolkit.fluxcd.io/name": "x", "helm.toolkit.fluxcd.io/namespace": "f"}},
        "Flux (HelmRelease f/x)",
    ),
    "an Application, by its annotation": (
        {"annotations": {"argocd.argoproj.io/tracking-id": "lab:fleetloop.dev/FleetTrainingJob:a"}},
        "Argo CD (Application lab)",
    ),
    "an Application, by its label": (
        {"labels": {"argocd.argoproj.io/instance": "lab"}},
        "Argo CD (Application lab)",
    ),
    "an applier that left no label": (
        {"managedFields": [{"manager": "argocd-controller"}]},
        "Argo CD",
    ),
}


@pytest.mark.parametrize(("metadata", "words"), OWNERS.values(), ids=OWNERS.keys())
def test_who_applies_an_object_from_git_is_found(
    metadata: dict[str, Any], words: str | None
) -> None:
    assert git.owner({"metadata": metadata}) == words


def test_an_edit_is_told_as_it_stands_in_git() -> None:
    assert edits.in_git(edits.pinned(7)) == (
        "spec:\n  rollout:\n    mode: Pinned\n    pinnedVersion: 7"
    )
    assert edits.in_git({"spec": {"suspend": True, "pin": None}}) == (
        "spec:\n  suspend: true\n  # remove pin"
    )


# --- doctor ---------------------------------------------------------------------------------

DEPLOYED = {
    "metadata": {"name": "fleetloop-operator"},
    "spec": {"replicas": 1},
    "status": {"readyReplicas": 1},
}
WELL = checks.Facts(
    server="v1.36.0",
    namespace="lab",
    kinds={f"{PLURALS[kind]}.fleetloop.dev": crd(kind) for kind in Kind},
    operator=[DEPLOYED],
    pods=[],
    allowed=[True] * len(checks.NEEDS),
    jobs=[of(job())],
    robots=[RobotActor.model_validate(robot("r1"))],
    keys=key_checks.Keys(None, {}, []),
    now=NOW,
)
CRASHING = {
    "status": {
        "containerStatuses": [
            {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
        ]
    }
}
AWAY = RobotActor.model_validate(
    robot("r9", condition("Connected", "False", "HeartbeatMissing"), lastSeen=None)
)
STREAMS = [
    condition("StreamsReady", "False", "StreamsFailed", "Start NATS."),
    condition("Stalled", "True", "StreamsFailed", "Start NATS."),
]
OLD = crd(Kind.ROBOT_ACTOR) | {"spec": {"versions": [{"name": "v1alpha1", "schema": {}}]}}
FORBIDDEN = Fault("forbidden", Exit.NO_ACCESS)
PROBLEMS = {
    "no kinds": ({"kinds": {"x.fleetloop.dev": None}}, "the cluster has no x.fleetloop.dev"),
    "kinds of another version": (
        {"kinds": {"robotactors.fleetloop.dev": OLD}},
        "not those of this program: robotactors.fleetloop.dev",
    ),
    "rights that lack": (
        {"allowed": [True] * (len(checks.NEEDS) - 1) + [False]},
        "you may not read logs in lab",
    ),
    "an operator that is not ready": (
        {"operator": [DEPLOYED | {"status": {}}], "pods": [CRASHING]},
        "Deployment fleetloop-operator: 0 of 1 ready, CrashLoopBackOff, restarted 4 times",
    ),
    "no operator": (
        {"operator": [], "jobs": []},
        "there is none in namespace lab, the only one it would work in",
    ),
    "an edit nobody looks at": (
        {"jobs": [of(job(observedGeneration=0))]},
        "its newest edit was not looked at",
    ),
    "no broker": ({"jobs": [of(job(*STREAMS))]}, "Start NATS."),
    "a job that is stalled": (
        {"jobs": [of(job(condition("Stalled", "True", "LearnerRefused", "No task.")))]},
        "No task.",
    ),
    "jobs that cannot be read": (
        {"jobs": Fault("job old is of another version")},
        "not looked at: job old is of another version",
    ),
    "silent robots": (
        {"robots": [AWAY] * 7},
        "7 of 7 are silent: " + ", ".join(["r9 (never seen)"] * 5) + " and 2 more",
    ),
}


def test_all_is_well_line_by_line() -> None:
    view = checks.checkup(WELL)
    assert view.ok
    assert text.checkup(view) == [
        "ok       API server: it answers, Kubernetes v1.36.0",
        "ok       kinds: all 3, as this program knows them",
        "ok       your rights: all 11 in lab",
        "ok       operator: Deployment fleetloop-operator is ready, its probe answers",
        "ok       job staged: Learner, streams and fleet are at work.",
        "ok       robots: all 1 at work are heard of",
    ]


@pytest.mark.parametrize(("facts", "found"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_problem_is_one_line_and_a_remedy(facts: dict[str, Any], found: str) -> None:
    view = checks.checkup(WELL._replace(**facts))
    problems = [one for one in view.checks if not one.ok]
    assert [one.found for one in problems] == [found]
    assert all(one.remedy for one in problems)
    assert not view.ok


def test_what_one_may_not_look_at_is_no_problem_of_the_fleet() -> None:
    parts = ["kinds", "operator", "pods", "allowed", "jobs", "robots"]
    blind: dict[str, Any] = dict.fromkeys(parts, FORBIDDEN)
    view = checks.checkup(WELL._replace(**blind))
    assert view.ok
    assert [one.found for one in view.checks[1:]] == ["not looked at: forbidden"] * 5


def test_many_stalled_robots_are_counted() -> None:
    stalled = RobotActor.model_validate(
        robot("r1", condition("Stalled", "True", "RobotRefused", "No such task."))
    )
    view = checks.checkup(WELL._replace(robots=[stalled] * 500))
    problems = [one.found for one in view.checks if not one.ok]
    assert problems == ["No such task."] * 5 + ["495 more are Stalled"]


# --- lineage, logs, enrolment ---------------------------------------------------------------


def test_an_episodes_id_is_told_where_to_look() -> None:
    with pytest.raises(Fault, match=r"journal \(jobs/UID/journal/") as raised:
        lineage.job_of("0123456789abcdef" * 2)
    assert raised.value.code is Exit.NOT_FOUND


def test_a_name_that_is_no_version_is_told_how_to_write_one() -> None:
    assert lineage.job_of("pick-v2-v11") == "pick-v2"
    with pytest.raises(Fault, match="write JOB-vN"):
        lineage.job_of("staged")


def program(folder: Path, does: str) -> str:
    """In the place of Python, for what is run beside the command."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return str(path)


async def test_whoever_stops_waiting_for_a_store_leaves_nobody_who_reads_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"echo $$ > {pipe}; exec sleep 1000"))
    reading = asyncio.create_task(lineage.stored("file:///nowhere", "uid", version=1))
    pid = int(await asyncio.to_thread(pipe.read_text))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await_exit(pid, 1)


async def test_a_store_that_nothing_here_can_read_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "ModuleNotFoundError: No module named 'fsspec'"
    monkeypatch.setattr(sys, "executable", program(tmp_path, f'echo "{says}" >&2; exit 1'))
    with pytest.raises(Fault, match=r"fleetloop\[learner\]") as fault:
        await lineage.stored("file:///nowhere", "uid", version=1)
    assert fault.value.code is Exit.NOT_DONE


def test_a_robots_machine_without_its_program_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = robots.enrolled(of(job()), RobotActor.model_validate(robot("arm")), {}, {})
    file = tmp_path / "arm.json"
    file.write_text(json.dumps(view.document()))
    monkeypatch.setattr("fleet_cli.robot.find_spec", lambda name: name == "fleet_runtime" or None)
    told = CliRunner().invoke(app, ["robot", "run", str(file), "--directory", str(tmp_path)])
    assert (told.exit_code, "fleetloop[robot]" in told.stderr) == (1, True)


def test_the_newest_pod_of_a_rank_is_the_learner() -> None:
    def pod(name: str, made: str, rank: str) -> dict[str, Any]:
        return {
            "metadata": {
                "name": name,
                "creationTimestamp": made,
                "annotations": {logs.INDEX: rank},
            }
        }

    pods = [pod("old", "2027-01-01T", "0"), pod("new", "2027-01-02T", "0"), pod("b", "2028", "1")]
    assert [(logs.newest(pods, n) or pods[0])["metadata"]["name"] for n in (0, 1)] == ["new", "b"]
    assert logs.newest(pods, 2) is None


PUBLIC = {"learner": f"# Two\n{'a' * 64}\n{'b' * 64}\n", "operator": f"{'c' * 64}\n"}


def test_a_job_that_names_broker_and_store_tells_a_robot_all_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fleet_runtime.settings import robot_settings

    transport = {"nats": {"url": "nats://n:4222"}, "storage": {"url": "s3://bucket"}}
    view = robots.enrolled(
        of(job(spec={"transport": transport})), RobotActor.model_validate(robot("arm")), {}, PUBLIC
    )
    assert view.missing == []
    for name, value in view.environment.items():
        monkeypatch.setenv(name, value)
    settings = robot_settings()  # the robot's own reading of them
    assert (settings.robot, settings.nats_url, settings.spec.tasks[0].name) == (
        "arm",
        "nats://n:4222",
        "push",
    )
    assert settings.storage_grants


@pytest.mark.parametrize(("url", "keys"), [("s3://bucket", False), ("gs://bucket", True)])
def test_a_robot_from_outside_needs_keys_of_no_store_that_grants(url: str, keys: bool) -> None:
    found = RobotActor.model_validate(robot("arm"))
    operator = {Env.NATS_URL.value: "nats://n:4222", Env.STORAGE_SECRET.value: "keys"}
    transport = {"storage": {"url": url}}
    view = robots.enrolled(of(job(spec={"transport": transport})), found, operator, PUBLIC)
    assert (view.missing != []) == keys
    assert view.environment.get(Env.STORAGE_GRANTS) == (None if keys else "true")


def test_a_robots_own_control_rate_and_guard_are_among_what_it_needs() -> None:
    own = robot("arm", spec={"controlHz": 15, "guard": {"maxStep": 0.2}})
    view = robots.enrolled(of(job()), RobotActor.model_validate(own), {}, PUBLIC)
    told = json.loads(view.environment["FLEET_SPEC"])
    assert (told["controlHz"], told["guard"]) == (15, {"maxStep": 0.2})


def test_what_a_robot_needs_and_nobody_here_knows_is_said() -> None:
    found = RobotActor.model_validate(robot("arm"))
    operator = {Env.NATS_URL.value: "nats://nats:4222", Env.STORAGE_SECRET.value: "keys"}
    view = robots.enrolled(of(job()), found, operator, {})
    assert view.environment[Env.NATS_URL] == "nats://nats:4222"
    assert [one.partition(":")[0] for one in view.missing] == [
        "FLEET_STORAGE_URL",
        "AWS_…",
        "the public keys in /etc/fleetloop/trust",
    ]


def test_who_may_sign_the_certificate_of_nats_comes_with_the_robots_file(tmp_path: Path) -> None:
    found, url = RobotActor.model_validate(robot("arm")), "tls://nats:4222"
    operator = {Env.NATS_URL.value: url, Env.NATS_TLS.value: "true"}
    view = robots.enrolled(of(job()), found, operator, PUBLIC)
    assert any("/etc/fleetloop/ca.crt" in one for one in view.missing)
    view = robots.enrolled(of(job()), found, operator, PUBLIC, authorities="PEM\n")
    assert not any("ca.crt" in one for one in view.missing)
    assert "#   PEM" in text.enrolled(view)
    told = laid_out(read(view.model_dump_json(by_alias=True)), tmp_path)
    assert Path(told[Env.NATS_CA.value]).read_text() == "PEM\n"
    assert Env.NATS_CA.value not in laid_out(view.model_copy(update={"authorities": ""}), tmp_path)


def test_a_robots_variables_are_a_file_that_a_shell_reads() -> None:
    view = robots.enrolled(of(job()), RobotActor.model_validate(robot("arm")), {}, PUBLIC)
    script = "\n".join([*text.enrolled(view), 'printf %s "$FLEET_SPEC"'])
    told = subprocess.check_output(["bash", "-c", script], text=True)
    assert told == view.environment["FLEET_SPEC"]
    shown = text.enrolled(view)
    at = shown.index("# The file learner in FLEET_TRUST_DIR holds:")
    assert shown[at + 1 : at + 3] == [f"#   {'a' * 64}", f"#   {'b' * 64}"]


IDLE = condition("Suspended", "True", "Suspended")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (robot("r"), False),
        (robot("r", READY, IDLE), True),
        (robot("r", READY, IDLE, spoolDepth=3), False),
        (robot("r", READY, IDLE, spec={"mode": "Simulated"}, spoolDepth=3), True),
        (robot("r", READY, IDLE, observedGeneration=0), False),
        (robot("r", condition("Ready", "False", "Suspended", "Its pod ends."), IDLE), False),
    ],
)
def test_a_robot_is_idle_when_its_object_says_so(found: dict[str, Any], expected: bool) -> None:
    assert robots.idle(RobotActor.model_validate(found)) is expected


# --- latency --------------------------------------------------------------------------------


def exposed(*seconds: float) -> list[str]:
    """As the operator serves it."""
    registry = CollectorRegistry()
    buckets = POLICY_LATENCY.buckets
    histogram = Histogram(*POLICY_LATENCY.head, buckets=buckets, registry=registry)
    for one in seconds:
        histogram.labels("lab", "staged").observe(one)
    histogram.labels("lab", "another").observe(300.0)
    return generate_latest(registry).decode().splitlines()


def test_latency_is_read_from_the_operators_histogram() -> None:
    known = latency.quantiles(exposed(*[3.0] * 60, *[15.0] * 36, *[1000.0] * 4), "staged")
    assert known is not None
    assert (known.count, known.median, known.p95) == (100, 5.0, 20.0)
    beyond = latency.quantiles(exposed(1000.0), "staged")
    assert beyond is not None
    assert (beyond.count, beyond.p95) == (1, None)


def test_latency_that_nobody_measured_is_not_known() -> None:
    assert latency.quantiles(exposed(), "staged") is None
    assert latency.quantiles([], "staged") is None


# --- the page and the shells ----------------------------------------------------------------


def test_the_page_of_the_command_line_is_what_the_code_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert page == cli_page.render(app), "run `make generate` and commit it"


def completed(*words: str, **variables: str) -> list[str]:
    told = subprocess.check_output([*words], env=os.environ | variables, text=True)
    return told.split()


def test_a_real_bash_completes_a_command() -> None:
    script = f"""
    source <({FLEET} completion bash)
    COMP_WORDS=({FLEET} roll) COMP_CWORD=1
    _fleet_completion {FLEET}
    echo "${{COMPREPLY[@]}}"
    """
    assert completed("bash", "-c", script) == ["rollback"]


def test_zsh_and_fish_get_scripts_and_answers_of_their_own() -> None:
    assert "#compdef fleet" in completed_text("zsh")
    assert "complete --command fleet" in completed_text("fish")
    asked = {"_TYPER_COMPLETE_ARGS": "fleet roll"}
    assert "rollback" in " ".join(completed(str(FLEET), _FLEET_COMPLETE="complete_zsh", **asked))


def completed_text(shell: str) -> str:
    return subprocess.check_output([FLEET, "completion", shell], text=True)


def test_kubectl_completes_by_its_own_protocol() -> None:
    answer = completed(str(FLEET.with_name("kubectl_complete-fleet")), "robots", "enr")
    assert answer == ["enroll", ":4"]
