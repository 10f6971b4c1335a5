"""Programs of the runtime that the demo calls once each; their last line of output is JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Counts = dict[str, tuple[int, int]]
BASE_SEED = 7_000_000
FINAL_SEED = 9_000_000
"""Environment seeds no robot and no demonstration draws from."""


async def call(module: str, *arguments: str, nice: int = 0) -> Any:
    """Run ``python -m module`` to its end and return what its last line says.

    Raises:
        RuntimeError: it failed; the message ends with what it wrote to stderr.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *(["nice", "-n", str(nice)] if nice else []),
        sys.executable,
        "-m",
        module,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
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


async def record(storage: str, folder: str, tasks: Sequence[str], count: int, seed: int) -> int:
    """Store ``count`` noisy demonstrations of each task; returns how many there are."""
    answer = await call(
        "fleet_runtime.robot.record",
        *("--storage", storage, "--folder", folder, "--count", str(count), "--seed", str(seed)),
        *tasks,
    )
    return int(answer["episodes"])


async def measure(
    storage: str, manifest: str, tasks: Sequence[str], episodes: int, seed: int
) -> Counts:
    """Task → (successes, episodes) of a version with nobody helping, on starts from ``seed``."""
    answer = await call(
        "fleet_runtime.robot.measure",
        *("--storage", storage, "--manifest", manifest),
        *("--episodes", str(episodes), "--seed", str(seed)),
        *tasks,
    )
    return {name: (int(good), int(total)) for name, (good, total) in answer.items()}


async def spoil(nats: str, storage: str, namespace: str, job: str, uid: str, manifest: str) -> int:
    """Publish a copy of a version with its weights scrambled; returns its sequence."""
    answer = await call(
        "fleet_runtime.learner.spoil",
        *("--nats", nats, "--storage", storage, "--manifest", manifest),
        *("--namespace", namespace, "--job", job, "--job-uid", uid),
    )
    return int(answer["sequence"])
