"""The control plane is a real one, and several of them get along."""

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node import api as node_api
from fleet_cli.local.node.api import Api, ApiError
from fleet_cli.local.state import read_state
from helpers.kube import Kube, condition
from helpers.nats import connect


def kubectl(cluster: LocalCluster, *arguments: str) -> str:
    command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_kubectl_reaches_a_ready_api_server_of_the_pinned_version(cluster: LocalCluster) -> None:
    assert kubectl(cluster, "get", "--raw", "/readyz") == "ok"
    versions = json.loads(kubectl(cluster, "version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == "v1.36.3"
    assert versions["serverVersion"]["minor"] == "36"
    assert versions["clientVersion"]["gitVersion"] == "v1.36.3"


async def test_the_node_is_ready_and_takes_pods(api: Api) -> None:
    async for _, seen in api.watch("/api/v1/nodes"):
        for node in seen.get("items", [seen]):
            if condition(node, "Ready") == "True" and not node["spec"].get("taints"):
                return


def test_nats_serves_jetstream_from_the_folder(cluster: LocalCluster) -> None:
    with urllib.request.urlopen(f"{cluster.nats_monitor_url}/jsz", timeout=5) as answer:
        told = json.load(answer)
    assert told["config"]["store_dir"].startswith(str(cluster.dir))


async def test_a_program_killed_and_started_again_has_its_port_and_its_data(
    cluster: LocalCluster,
) -> None:
    url = cluster.nats_url
    client = await connect(url)
    await client.jetstream().add_stream(name="kept", subjects=["kept"])
    await client.jetstream().publish("kept", b"acked")
    await client.close()
    killed = cluster.restart("nats-server")
    client = await connect(cluster.nats_url)
    kept = await client.jetstream().get_msg("kept", 1)
    await client.jetstream().delete_stream("kept")
    await client.close()
    assert (cluster.nats_url, kept.data) == (url, b"acked")
    state = read_state(cluster.dir)
    assert state is not None
    assert state.processes["nats-server"].pid != killed
    assert state.processes["nats-server"].alive()


async def test_a_stranger_without_a_token_may_not_read_pods(cluster: LocalCluster) -> None:
    async with Api(cluster.kubeconfig) as api:
        api._session.headers["Authorization"] = "Bearer stranger"  # type: ignore[union-attr]
        with pytest.raises(ApiError, match="Unauthorized"):
            await api.get("/api/v1/pods")


async def test_a_watch_that_the_server_closes_goes_on_without_a_gap_or_a_new_list(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_api, "WATCH_SECONDS", 1)
    again = asyncio.Event()
    seen: list[str] = []
    versions: list[str] = []
    events = kube.api._events

    def counted(path: str, version: str, params: Any) -> AsyncIterator[tuple[str, node_api.Json]]:
        versions.append(version)
        if len(versions) > 1:
            again.set()
        return events(path, version, params)

    monkeypatch.setattr(kube.api, "_events", counted)

    async def follow() -> None:
        async for kind, changed in kube.api.watch(kube.path("configmaps")):
            seen.append(kind)
            if changed["metadata"].get("name") == "late":
                return

    following = asyncio.create_task(follow())
    await again.wait()  # the first watch is over, the second begins
    await kube.create("configmaps", {"metadata": {"name": "late"}})
    await asyncio.wait_for(following, 30)
    assert seen.count("LISTED") == 1
