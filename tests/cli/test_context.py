"""Someone else's cluster: the context, the ways in, what is put there and taken away again."""

import asyncio
import base64
import contextlib
import os
import stat
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fleet_cli import setup
from fleet_cli.demo import remote, tunnel
from fleet_cli.demo.context import pinned
from fleet_cli.demo.remote import service
from fleet_cli.demo.site import Wishes
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.main import app
from fleet_contract import names
from fleet_contract.names import Env
from helpers.contexts import with_contexts
from helpers.kube import await_exit


@pytest.fixture
def contexts(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's kubeconfig: the cluster as `there`, one that is down, and a guest of it."""
    path = with_contexts(cluster, tmp_path / "mine")
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ours"
    made.mkdir(mode=0o700)
    return made


def target(cluster: LocalCluster, namespace: str = "default") -> list[str]:
    at = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]
    return [str(cluster.kubectl), *at]


@pytest.mark.usefixtures("contexts")
def test_nothing_of_other_contexts_gets_into_the_pinned_one(
    cluster: LocalCluster, folder: Path
) -> None:
    path = pinned(cluster.kubectl, "there", folder)
    document = yaml.safe_load(path.read_text())
    found = [one["name"] for key in ("contexts", "clusters", "users") for one in document[key]]
    assert found == ["there", "fleetloop", "admin"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.usefixtures("contexts")
@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("elsewhere", "no context 'elsewhere' in your kubeconfig: there are down, guest, there"),
        ("down", "the cluster of context 'down' does not answer"),
        ("guest", "context 'guest' may not install the kinds: let an administrator"),
    ],
)
def test_a_context_that_will_not_do_is_told_in_one_sentence(
    context: str, words: str, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "GROUP", "nobody-has.example")
    storage = ["--nats", cluster.nats_url, "--storage", "file:///nowhere"]
    result = CliRunner().invoke(app, ["demo", "--context", context, *storage])
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert words in line


CONTRADICTIONS = {
    "an address without a context": (["--nats", "nats://n:4222"], "need --context"),
    "kills on a cluster of others": (["--context", "c", "--chaos"], "for the local cluster"),
    "a folder for a cluster that has none": (["--context", "c", "--directory", "d"], "local"),
    "NATS without a store": (["--context", "c", "--nats", "nats://n:4222"], "both --nats and"),
    "a Secret of no store": (["--context", "c", "--storage-secret", "s"], "say more of --nats"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_what_cannot_be_had_together_is_refused(case: tuple[list[str], str]) -> None:
    options, words = case
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 1
    assert words in result.output


def test_a_services_port_comes_to_loopback_only() -> None:
    assert tunnel.port_forward(["kubectl", "-n", "x"], "nats", 4222, 5000) == [
        *("kubectl", "-n", "x", "port-forward", "service/nats", "5000:4222"),
        *("--address", "127.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://nats:4222", ("nats", 4222)),
        ("http://s3:7070", ("s3", 7070)),
        ("http://s3.data.svc:7070/x", ("s3", 7070)),
    ],
)
def test_a_url_in_the_cluster_names_a_service(url: str, expected: tuple[str, int]) -> None:
    assert service(url) == expected


def test_what_is_installed_names_the_services_that_lead_to_it(cluster: LocalCluster) -> None:
    items = setup.manifests(cluster.kubectl, "theirs", [setup.DEV])
    found = {(one["kind"], one["metadata"]["name"]): one for one in items}
    secret = found["Secret", setup.is_told(items, Env.STORAGE_SECRET)]
    endpoint = base64.b64decode(secret["data"][remote.ENDPOINT]).decode()
    for url in (setup.is_told(items, Env.NATS_URL), endpoint):
        name, port = service(url)
        assert port in [one["port"] for one in found["Service", name]["spec"]["ports"]]


def test_a_url_without_a_port_names_none() -> None:
    with pytest.raises(ValueError, match="write it like tls://nats:4222"):
        service("s3://bucket")


def test_a_way_that_does_not_open_is_told_in_kubectls_words(
    cluster: LocalCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "WITHIN", 2.0)
    way = tunnel.forwarded(target(cluster), "no-such-service", 1, folder / "log")
    with pytest.raises(RuntimeError, match='services "no-such-service" not found'):
        way.__enter__()


async def test_the_way_to_the_api_opens_again_when_its_program_ends(
    cluster: LocalCluster, folder: Path
) -> None:
    with tunnel.proxied(target(cluster), folder) as path:
        async with tunnel.ProxiedApi(path) as api:
            assert (await api.get("/api/v1/namespaces/default"))["metadata"]["name"] == "default"
            (pid,) = running(str(path))
            os.kill(pid, 9)
            await asyncio.to_thread(await_exit, pid)
            async with asyncio.timeout(60):
                # A watch heals itself: it lists anew, through the new socket.
                async for what, _ in api.watch("/api/v1/namespaces"):
                    if what == "LISTED":
                        break
            assert running(str(path)) != [pid]
    assert running(str(path)) == []


def running(word: str) -> list[int]:
    """Processes with this word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (folder / "cmdline").read_text().split("\0"):
                found.append(int(folder.name))
    return found


@pytest.mark.usefixtures("contexts")
@pytest.mark.parametrize("keep", [False, True], ids=["and is gone", "and stays when asked"])
def test_an_operator_is_installed_into_a_namespace_of_its_own(
    cluster: LocalCluster, folder: Path, keep: bool
) -> None:
    space = f"theirs-{uuid.uuid4().hex[:8]}"
    wishes = Wishes(
        "there",
        space,
        nats=cluster.nats_url,
        storage=f"file://{folder / 'objects'}",
        learner_image="learner:9",
        keep=keep,
    )
    with remote.remote(wishes, folder, lambda _: None) as venue:
        assert venue.nats_url == cluster.nats_url
        assert venue.store.url == wishes.storage
        deployment = ask(cluster, space, "get", "deployment", "fleetloop-operator")
        assert deployment["status"]["readyReplicas"] == 1
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        told = {one["name"]: one.get("value") for one in container["env"]}
        assert told["FLEET_LEARNER_IMAGE"] == "learner:9"
    found = ask(cluster, space, "get", "namespace", "--field-selector", f"metadata.name={space}")
    assert len(found["items"]) == keep
    if keep:
        subprocess.run([*target(cluster), "delete", "ns", space, "--wait=false"], check=True)


@pytest.mark.usefixtures("contexts")
def test_a_broker_that_only_pods_reach_is_told_before_anything_is_made(folder: Path) -> None:
    wishes = Wishes("there", "theirs-none", "nats://127.0.0.1:1", "s3://bucket")
    with pytest.raises(RuntimeError, match="no NATS answers this machine"):
        remote.remote(wishes, folder, lambda _: None).__enter__()


@pytest.mark.usefixtures("contexts")
def test_a_secret_that_is_not_there_is_told_before_anything_is_made(
    cluster: LocalCluster, folder: Path
) -> None:
    wishes = Wishes("there", "theirs-none", "nats://n:1", "s3://bucket", "store")
    with pytest.raises(RuntimeError, match="no Secret store in namespace theirs-none: make both"):
        remote.remote(wishes, folder, lambda _: None).__enter__()
    found = ask(cluster, "x", "get", "namespace", "--field-selector", "metadata.name=theirs-none")
    assert found["items"] == []


def ask(cluster: LocalCluster, namespace: str, *words: str) -> Any:
    text = subprocess.check_output([*target(cluster, namespace), *words, "--output=json"])
    return yaml.safe_load(text)
