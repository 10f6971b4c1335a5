"""Programs of the runtime that the demo calls once each; their last line of output is JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from tempfile import NamedTemporaryFile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet_contract import names
from fleet_contract.names import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet_cli.local.node.api import Api

Counts = dict[str, tuple[int, int]]
BASE_SEED = 7_000_000
FINAL_SEED = 9_000_000
"""Environment seeds no robot and no demonstration draws from."""


class Store(NamedTuple):
    """An object store as programs on this machine reach it."""

    url: str
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables that let them in, over those of this process."""


async def call(module: str, *arguments: str, store: Store) -> Any:
    """Run ``python -m module`` on a store to its end and return what its last line says.

    Raises:
        RuntimeError: it failed; the message ends with what it wrote to stderr.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--storage", store.url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **store.environment},
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.send_signal(signal.SIGTERM)
        await process.wait()
        raise
    if process.returncode != 0:
        tail = errors.decode(errors="replace")[-2000:].strip()
        raise RuntimeError(f"{module} failed with exit code {process.returncode}:\n{tail}")
    return json.loads(output.decode().strip().splitlines()[-1])


async def record(
    store: Store,
    folder: str,
    tasks: Sequence[str],
    count: int,
    seed: int,
    *,
    environment: str = "metaworld",
) -> int:
    """Store ``count`` noisy demonstrations of each task; returns how many there are."""
    answer = await call(
        "fleet_runtime.robot.record",
        *("--folder", folder, "--count", str(count), "--seed", str(seed)),
        *("--environment", environment, *tasks),
        store=store,
    )
    return int(answer["episodes"])


async def measure(
    store: Store, manifest: str, tasks: Sequence[str], episodes: int, seed: int
) -> Counts:
    """Task → (successes, episodes) of a version with nobody helping, on starts from ``seed``."""
    answer = await call(
        "fleet_runtime.robot.measure",
        *("--manifest", manifest, "--episodes", str(episodes), "--seed", str(seed), *tasks),
        store=store,
    )
    return {name: (int(good), int(total)) for name, (good, total) in answer.items()}


async def credentials(api: Api, namespace: str, role: Identity, whose: str) -> str:
    """An identity at the broker, as soon as the operator has minted it."""
    path, entry = f"/api/v1/namespaces/{namespace}/secrets", names.user(role, whose)
    selector = f"metadata.name={names.users(entry)}"
    async for kind, seen in api.watch(path, fieldSelector=selector):
        for item in seen["items"] if kind == "LISTED" else [seen]:
            if entry in item.get("data", {}):
                return base64.b64decode(item["data"][entry]).decode()
    raise RuntimeError("the watch ended")  # it never does


async def spoil(
    api: Api,
    nats: str,
    store: Store,
    namespace: str,
    job: str,
    uid: str,
    manifest: str,
    *,
    accounts: bool = False,
    authorities: str = "",
) -> int:
    """Publish a copy of a version with its weights scrambled; returns its sequence.

    It is signed as the learner's own: what catches it must be what it does.
    """
    secret = await api.get(f"/api/v1/namespaces/{namespace}/secrets/{names.LEARNER_KEY}")
    with NamedTemporaryFile() as key, NamedTemporaryFile() as who, NamedTemporaryFile() as ca:
        # for this user alone
        ca.write(authorities.encode())
        ca.flush()
        key.write(base64.b64decode(secret["data"][names.KEY]))
        key.flush()
        if accounts:
            who.write((await credentials(api, namespace, Identity.LEARNER, job)).encode())
            who.flush()
        answer = await call(
            "fleet_runtime.learner.spoil",
            *("--nats", nats, "--manifest", manifest, "--key-file", key.name),
            *("--namespace", namespace, "--job", job, "--job-uid", uid),
            *(("--credentials", who.name) if accounts else ()),
            *(("--authorities", ca.name) if authorities else ()),
            store=store,
        )
    return int(answer["sequence"])
