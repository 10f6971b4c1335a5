"""What a person on call types, with the operator at work."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.console import Console

from fleet_cli import kube as client_module
from fleet_cli.dashboard.serve import looking, serving
from fleet_cli.kube import Kube as Client
from fleet_cli.kubeconfig import Target
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.oncall import text
from fleet_cli.oncall.live import screen
from fleet_cli.oncall.options import first
from fleet_cli.oncall.status import status
from fleet_cli.oncall.views import Status
from fleet_cli.oncall.world import World, follow
from helpers.contexts import with_contexts
from helpers.control import JOBS, ROBOTS, Fleet, Operator, candidate, edit, enroll, training_job
from helpers.fleet import FLEET, Shell
from helpers.kube import Kube, condition, exists
from helpers.proxy import Answer as ApiAnswer
from helpers.proxy import ApiProxy, Call
from helpers.proxy import Fault as Harm

INTERRUPTIBLE = ("env", "--default-signal=INT")  # also where the tests run in the background
MANUAL: dict[str, Any] = {"rollout": {"mode": "Manual", "steps": [{"robots": 1, "minEpisodes": 4}]}}


def held(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def fleet(cluster: LocalCluster, namespace: str) -> Shell:
    return Shell(cluster, namespace)


@pytest.fixture
async def waiting(operator: Operator, cluster: LocalCluster, kube: Kube) -> AsyncIterator[Fleet]:
    """Two robots on version 1; version 2 waits, in mode Manual, for somebody to press a button."""
    await kube.create(JOBS, training_job(**MANUAL))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        await fleet.announce(2)
        await fleet.until(lambda job: candidate(job) == 2)
        yield fleet


async def test_a_version_is_seen_let_on_taken_back_and_then_the_operator_dies(
    waiting: Fleet, operator: Operator, fleet: Shell, kube: Kube, cluster: LocalCluster
) -> None:
    (job,) = (await fleet("get", "-o", "json")).json["items"]
    assert (job["stable"], job["candidate"], job["robots"]["connected"]) == (1, 2, 2)
    said = await fleet("status", "job")
    assert f"fleet promote job 2 --namespace {kube.namespace} --kubeconfig" in said.out

    pressed = await fleet("promote", "job")
    assert pressed.code == 0, pressed
    await waiting.until(lambda job: len(job["status"]["rollout"].get("robots", [])) == 1)
    told = (await fleet("status", "job", "-o", "json")).json
    assert [(one["role"], one["version"], one["robots"]) for one in told["cohorts"]] == [
        ("candidate", 2, 1),
        ("stable", 1, 1),
    ]
    async with (
        Client(Target(kube.namespace, kubeconfig=str(cluster.kubeconfig))) as client,
        serving(looking(client, "job")) as url,
        aiohttp.ClientSession() as session,
        session.get(url + "overview.json") as answer,
    ):
        shown = await answer.json()
    assert [one["version"] for one in shown["cohorts"]] == [2, 1]
    assert [one["version"] for one in shown["versions"]] == [1, 2]
    assert {one["name"] for one in shown["robots"]} == {"r1", "r2"}
    assert shown["moved"] == []  # this operator serves no metrics
    nobody = await fleet("dashboard", "nobody")
    assert (nobody.code, nobody.err) == (await fleet("status", "nobody"))[::2]

    answer = (await fleet("abort", "job", "-o", "json")).json
    assert (answer["kind"], answer["done"], answer["request"][:8]) == ("Answer", True, "abort@2#")
    refused = await fleet("abort", "job", "7")
    assert (refused.code, "was not done: version 7" in refused.out) == (1, True)
    nothing = await fleet("abort", "job")
    assert (nothing.code, "no version is under trial" in nothing.err) == (1, True)

    past = (await fleet("history", "job", "-o", "json")).json
    assert [(one["version"], one["phase"]) for one in past["items"]] == [
        (2, "RolledBack"),
        (1, "Promoted"),
    ]
    origin = (await fleet("lineage", "job-v2", "-o", "json")).json
    assert (origin["version"], origin["step"], origin["uri"]) == (2, 50, "versions/2")

    well = await fleet("doctor")
    assert well.code == 0, well.out
    await operator.kill()

    def suspend(found: dict[str, Any]) -> None:
        found["spec"]["suspend"] = True

    await edit(kube, JOBS, "job", suspend)
    ill = (await fleet("doctor", "-o", "json")).json
    assert {one["name"] for one in ill["checks"] if not one["ok"]} == {"operator", "job job"}


async def test_a_pin_is_made_or_told_for_git(waiting: Fleet, fleet: Shell, kube: Kube) -> None:
    gone = await fleet("pin", "job", "9")
    assert (gone.code, "version 9 of job is not kept: there are 1, 2" in gone.err) == (1, True)
    assert (await fleet("pin", "job", "1")).code == 0
    await waiting.until(lambda job: candidate(job) == 0)  # the pin ends the trial
    assert (await fleet("unpin", "job", "--manual")).code == 0
    rollout = (await kube.get(JOBS, "job"))["spec"]["rollout"]
    assert (rollout["mode"], "pinnedVersion" in rollout) == ("Manual", False)
    again = await fleet("unpin", "job")
    assert (again.code, "is not pinned: it stays in mode Manual" in again.err) == (1, True)

    def by_flux(found: dict[str, Any]) -> None:
        found["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "robots"}

    await edit(kube, JOBS, "job", by_flux)
    told = await fleet("pin", "job", "1")
    assert told.code == 1
    assert "comes from Git by Flux (Kustomization ?/robots)" in told.out
    assert told.out.endswith("spec:\n  rollout:\n    mode: Pinned\n    pinnedVersion: 1\n")
    assert (await kube.get(JOBS, "job"))["spec"]["rollout"]["mode"] == "Manual"
    forced = (await fleet("pin", "job", "1", "--force", "-o", "json")).json
    assert (forced["applied"], "at its next sync" in forced["message"]) == (True, True)

    await enroll(kube, "other", "guest")
    for words in (("pin", "job", "2"), ("unpin", "job")):
        strange = await fleet(*words, "--robot", "guest")
        assert (strange.code, "guest works for other, not for job" in strange.err) == (1, True)
    assert (await fleet("pin", "job", "2", "--robot", "r1")).code == 0
    await waiting.until_runs("r1", 2)
    assert (await fleet("unpin", "job", "--robot", "r1")).code == 0
    assert "pin" not in (await kube.get(ROBOTS, "r1"))["spec"]


async def test_those_who_watch_see_the_trial_begin_and_the_job_go(
    waiting: Fleet, fleet: Shell, kube: Kube, tmp_path: Path
) -> None:
    screen, table, robots = [
        await asyncio.create_subprocess_exec(
            *(*INTERRUPTIBLE, str(FLEET), *words, "--watch", *fleet.target),
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
        )
        for words in (("status", "job", "--output", "json"), ("get",), ("robots", "list"))
    ]
    assert screen.stdout is not None
    assert table.stdout is not None
    assert robots.stdout is not None
    async with asyncio.timeout(60):
        first = json.loads(await screen.stdout.readline())
        assert [one["state"] for one in first["stages"]] == ["ahead", "ahead"]
        head, row = [(await table.stdout.readline()).decode().split() for _ in "12"]
        assert (head[0], row[0], row[4:6]) == ("JOB", "job", ["2", "-"])

        await fleet("promote", "job", "--timeout", "0")
        async for line in screen.stdout:
            if [one["state"] for one in json.loads(line)["stages"]] == ["now", "ahead"]:
                break
        async for line in table.stdout:
            if line.decode().split()[4:6] == ["2", "1/1"]:
                break
        table.send_signal(signal.SIGINT)
        assert await table.wait() == 130

        await robots.stdout.readline()
        robots.send_signal(signal.SIGTERM)
        await robots.communicate()
        assert robots.returncode == 143
        assert held(tmp_path)  # what the kubeconfig holds, as files for the third

        await kube.delete(JOBS, "job")
        async for _ in screen.stdout:
            pass
        assert await screen.wait() == 0
        assert not held(tmp_path)


async def test_robots_are_enrolled_and_drained(
    operator: Operator, fleet: Shell, kube: Kube
) -> None:
    await kube.create(JOBS, training_job(replicas=1))
    words = ("robots", "enroll", "arm", "--job", "job", "--site", "lab", "--group", "left")
    made = (await fleet(*words, "-o", "json")).json
    found = await kube.get(ROBOTS, "arm")
    spec = found["spec"]
    assert [spec[key] for key in ("job", "mode", "site", "groups")] == [
        *("job", "External", "lab"),
        ["left"],
    ]
    assert made["environment"]["FLEET_ROBOT_UID"] == found["metadata"]["uid"]
    again = await fleet(*words)
    assert (again.code, "there is a robot arm already" in again.err) == (1, True)
    drained = await fleet("robots", "drain", "arm")
    assert (drained.code, "its program still runs" in drained.out) == (0, True)
    listed = (await fleet("robots", "list", "--job", "job", "-o", "json")).json["items"]
    assert {one["name"]: one["phase"] for one in listed}["arm"] == "Suspended"
    assert (await fleet("robots", "undrain", "arm")).code == 0
    assert (await kube.get(ROBOTS, "arm"))["spec"]["suspend"] is False

    await kube.phase("job-sim-0-robot", "Running")
    assert (await fleet("robots", "drain", "job-sim-0")).code == 0
    assert not await exists(kube, "pods", "job-sim-0-robot")  # idle is: its pod is gone
    none = await fleet("logs", "job-sim-0")
    assert (none.code, "has no pod now" in none.err) == (3, True)


async def test_logs_are_those_of_the_learner(operator: Operator, fleet: Shell, kube: Kube) -> None:
    spoken = [{"name": "learner", "command": ["sh", "-c", "echo one; echo two; sleep 1000"]}]
    await kube.create(JOBS, training_job(learner={"podOverrides": {"containers": spoken}}))
    await kube.until(JOBS, "job", lambda job: condition(job, "LearnerReady") == "True")
    words = [str(FLEET), "logs", "job", "--follow", *fleet.target]
    reading = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert reading.stdout is not None
    async with asyncio.timeout(60):
        assert [await reading.stdout.readline() for _ in "12"] == [b"one\n", b"two\n"]
    reading.terminate()
    await reading.wait()
    last = await fleet("logs", "job", "--tail", "1", "-o", "json")
    assert last.json["line"] == "two"


@pytest.mark.usefixtures("kinds")
async def test_where_no_operator_answers_the_request_stands(fleet: Shell, kube: Kube) -> None:
    await kube.create(JOBS, training_job())
    said = await fleet("pause", "job", "--timeout", "0.5")
    assert (said.code, "`fleet doctor` tells whether the operator runs" in said.err) == (5, True)
    written = (await kube.get(JOBS, "job"))["metadata"]["annotations"]["fleetloop.dev/request"]
    assert written.startswith("pause@0#")


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("status none", 3, "no FleetTrainingJob 'none' in namespace"),
        ("lineage none-v1", 3, "no PolicyVersion 'none-v1' in namespace"),
        ("logs none", 3, "no job and no robot 'none'"),
        ("robots drain none", 3, "no RobotActor 'none'"),
        ("robots enroll arm --job none", 3, "no FleetTrainingJob 'none'"),
        ("get --context down", 4, "cannot be reached"),
        ("get --context elsewhere", 4, "your kubeconfig will not do"),
        ("get --context guest", 4, "`fleet doctor` lists what you may do"),
        ("doctor --context guest", 1, ""),
    ],
)
async def test_what_cannot_be_done_is_one_sentence_and_a_code(
    cluster: LocalCluster, namespace: str, tmp_path: Path, words: str, code: int, sentence: str
) -> None:
    fleet = Shell(cluster, namespace, with_contexts(cluster, tmp_path / "config"))
    context = () if "--context" in words else ("--context", "there")
    said = await fleet(*words.split(), *context)
    assert (said.code, sentence in said.err) == (code, True), said
    assert len(said.err.splitlines()) == bool(sentence)


@pytest.mark.usefixtures("kinds")
async def test_a_watch_that_breaks_off_is_begun_anew(
    cluster: LocalCluster, kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long it was quiet before says nothing: the first failure is only now.
    monkeypatch.setattr(client_module, "HEALS_WITHIN", 0.0)
    config = tmp_path / "config"
    async with (
        ApiProxy.before(cluster, config) as proxy,
        Client(Target(kube.namespace, kubeconfig=str(config))) as client,
    ):
        following = client.follow("FleetTrainingJob")
        assert await anext(following) == {}
        await kube.create(JOBS, training_job("one"))
        assert sorted(await anext(following)) == ["one"]  # the watch is at work
        proxy.silence()
        await kube.create(JOBS, training_job("two"))
        missed = asyncio.ensure_future(anext(following))
        proxy.heal()
        async with asyncio.timeout(60):
            assert sorted(await missed) == ["one", "two"]
        await following.aclose()


class Away(Harm):
    """The API server's own door is shut."""

    async def before(self, call: Call) -> ApiAnswer:
        return ApiAnswer(503, b"away", {})


@pytest.mark.usefixtures("kinds")
async def test_a_screen_ends_with_the_fault_where_a_watch_does_not_heal(
    cluster: LocalCluster, kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "HEALS_WITHIN", 0.0)
    monkeypatch.setattr(client_module, "RETRY", 0.01)
    await kube.create(JOBS, training_job("one"))
    drawn = asyncio.Event()

    def view(seen: World) -> Status:
        drawn.set()
        return status(seen)

    config = tmp_path / "config"
    async with (
        ApiProxy.before(cluster, config) as proxy,
        Client(Target(kube.namespace, kubeconfig=str(config))) as client,
    ):
        console = Console(file=StringIO(), force_terminal=True)
        showing = asyncio.create_task(
            screen(follow(client, "one"), view, text.status, console, as_json=False)
        )
        await drawn.wait()
        proxy.fault = Away()
        proxy.cut()
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(60):
                await showing
    assert "away" in str(first(raised.value))


@pytest.mark.usefixtures("kinds")
async def test_kubectl_runs_and_completes_it(cluster: LocalCluster, namespace: str) -> None:
    async def kubectl(*words: str) -> str:
        told = await asyncio.create_subprocess_exec(
            *(str(cluster.kubectl), *words),
            env=os.environ | {"PATH": f"{FLEET.parent}:{os.environ['PATH']}"},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await told.communicate()
        return out.decode()

    target = ["--kubeconfig", str(cluster.kubeconfig), "-n", namespace]
    assert f"no job in namespace {namespace}" in await kubectl("fleet", "get", *target)
    assert "enroll" in (await kubectl("__complete", "fleet", "robots", "enr")).split()
