"""`fleet demo --context` as people type it, on a cluster, a broker and a store of theirs."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats

from fleet_cli.local.cluster import LocalCluster
from fleet_contract import names
from fleet_contract.names import StreamMeta
from helpers.contexts import with_contexts
from helpers.kube import Kube
from helpers.ring import JOBS, without_keys
from helpers.s3 import ObjectServer, running_object_server

BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""As a script's background job, which ignores Ctrl-C from its start."""
WITHIN = 300.0  # seconds; the measurements share two cores with the fleet


@asynccontextmanager
async def playing(
    cluster: LocalCluster, kube: Kube, folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, ObjectServer]]:
    """The play as a process, and the store that it was told to use."""
    with running_object_server(folder / "objects") as server:
        secret = {"metadata": {"name": "store"}, "stringData": server.environment}
        await kube.create("secrets", secret)
        process = await asyncio.create_subprocess_exec(
            *BACKGROUND,
            *(str(Path(sys.executable).with_name("fleet")), "demo", "--context", "there"),
            *("--namespace", kube.namespace, "--nats", cluster.nats_url),
            *("--storage", server.url, "--storage-secret", "store"),
            *("--minutes", "0", "--episodes", "1", "--output", str(folder / "out")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"KUBECONFIG": str(with_contexts(cluster, folder / "mine"))},
        )
        try:
            yield process, server
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_the_play_runs_on_a_cluster_of_theirs_and_leaves_only_what_was_there(
    tmp_path: Path, cluster: LocalCluster, kube: Kube
) -> None:
    async with playing(cluster, kube, tmp_path) as (process, server):
        talk = asyncio.create_task(process.communicate())
        await without_keys(kube, names.simulated_robot("demo", 0))
        said, _ = await asyncio.wait_for(talk, WITHIN)
        lines = said.decode().splitlines()
        # Four attempts in all, so by luck the goal may be met even in no time.
        verdict = ("goal met", "time is up at ")[process.returncode or 0]
        assert any(line.startswith(verdict) for line in lines), said
        assert any("Version 1 promoted" in line for line in lines)
        assert re.fullmatch(r"base=\d\.\d\d final=\d\.\d\d minutes=\d+\.\d", lines[-1])
        numbers = json.loads((tmp_path / "out" / "numbers.json").read_text())
        assert numbers["learner"]["step"] >= 2000
        assert numbers["final"]["tasks"]["push"]["episodes"] == 1
        kept = {path.name for path in (tmp_path / "objects" / server.bucket).glob("[!.]*")}
        assert kept == {"datasets", "jobs"}
    await nothing_stays(kube)
    assert (await kube.get("secrets", "store"))["metadata"]["name"] == "store"
    connection = await nats.connect(cluster.nats_url)
    streams = await connection.jetstream().streams_info()
    await connection.close()
    assert kube.namespace not in {
        (one.config.metadata or {}).get(StreamMeta.NAMESPACE) for one in streams
    }


async def test_it_ends_in_order_however_often_it_is_told_to(
    tmp_path: Path, cluster: LocalCluster, kube: Kube
) -> None:
    async with playing(cluster, kube, tmp_path) as (process, _):
        assert process.stdout is not None
        while b"the fleet starts" not in (line := await process.stdout.readline()):
            assert line, (await process.communicate())[1]
        process.terminate()
        process.terminate()
        said, complaints = await asyncio.wait_for(process.communicate(), WITHIN)
    assert b"Traceback" not in complaints, complaints
    assert b"destroyed" not in complaints, complaints
    assert b"stopped by hand" in said
    assert process.returncode == 1
    await nothing_stays(kube)


async def nothing_stays(kube: Kube) -> None:
    for resource in (JOBS, "apps/v1/deployments", "rbac.authorization.k8s.io/v1/roles"):
        assert (await kube.get(resource))["items"] == []
