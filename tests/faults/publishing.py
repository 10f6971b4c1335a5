"""Row 12: a learner that is killed at a step of a publication, and what anybody can see then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet_contract import names
from fleet_contract.errors import FleetError
from fleet_contract.messages import Announcement, Manifest, digest_of
from fleet_runtime.artifacts import Store
from fleet_runtime.policies.bundle import MODEL, from_files
from fleet_runtime.policies.delta import off
from fleet_runtime.published import bundle
from fleet_runtime.robot.rebuild import Step, rebuild
from helpers.learner import (
    JOB,
    JOB_UID,
    NAMESPACE,
    LearnerProcess,
    listening,
    spec,
    write_dataset,
)
from helpers.nats import make_streams, running_broker

if TYPE_CHECKING:
    from fleet_contract.messages import FileRef

PROGRAM = Path(__file__).with_name("dying_learner.py")
ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
STEPS = 60
"""So many are three publications and more: a first one, and others with deltas."""


async def killed(folder: Path, at: int) -> dict[str, Any]:
    """Kill it there, look at all that can be seen, let the next one publish, and look again."""
    told = spec(
        [write_dataset(folder / "demos")], steps=5, publish={"everySteps": 5, "minInterval": "10ms"}
    )
    with running_broker(folder / "nats") as broker:
        await make_streams(broker.url)
        steps = folder / "steps"
        dying = LearnerProcess(folder, broker.url, told, script=[str(PROGRAM), str(at), str(steps)])
        wrong = []
        async with listening(broker.url, ANNOUNCE) as (_, (announced,)):
            dying.start()
            if not await asyncio.to_thread(dying.gone, 180):
                wrong.append("it never came to that step")
            dying.kill()
            before, partial = seen(Store(dying.store_url), announced.heard)
            wrong += partial
            next_one = LearnerProcess(folder, broker.url, told)
            next_one.start()
            try:
                await announced.until(
                    lambda heard: bool(heard) and _newest(heard) > max(before, default=0) + 1, 180
                )
            finally:
                next_one.kill()
            after, partial = seen(Store(dying.store_url), announced.heard)
            wrong += partial
            numbers = [Announcement.decode(data).policy.sequence for data in announced.heard]
        if numbers != sorted(numbers):
            wrong.append(f"announced {numbers}")
        if not before <= after:
            wrong.append(f"versions {sorted(before - after)} went")
    lines = steps.read_text().splitlines()
    return {"wrong": wrong, "died": lines[-1] if lines else "", "versions": len(after)}


def _newest(heard: list[bytes]) -> int:
    return Announcement.decode(heard[-1]).policy.sequence


def seen(store: Store, announced: list[bytes]) -> tuple[set[int], list[str]]:
    """The versions that there are, and what of them is not whole."""
    wrong: list[str] = []
    whole: dict[str, tuple[Manifest, dict[str, bytes]]] = {}
    prefix = names.version_key(JOB_UID, 0).rsplit("/", 1)[0]
    for key in store.list(prefix):
        try:
            whole[key] = _whole(store, key)
        except (FleetError, ValueError) as fault:
            wrong.append(f"{key}: {fault}")
    for key, (manifest, files) in whole.items():
        for delta in manifest.deltas:
            try:
                made = _remade(store, whole[delta.base.uri][1], Step(delta, manifest))
            except (FleetError, KeyError, ValueError) as fault:
                wrong.append(f"{key}: delta from {delta.base.sequence}: {fault!r}")
            else:
                wrong += [] if made == files else [f"{key}: its delta makes something else"]
    for ref in (Announcement.decode(data).policy for data in announced):
        if ref.uri not in whole or digest_of(store.get(ref.uri)) != ref.digest:
            wrong.append(f"version {ref.sequence} is announced and not whole")
    return {manifest.sequence for manifest, _ in whole.values()}, wrong


def _whole(store: Store, key: str) -> tuple[Manifest, dict[str, bytes]]:
    manifest = Manifest.open(store.get(key))
    files = bundle(store, manifest)
    from_files(dict(files))
    if bad := off(files[MODEL], {one.name: one.digest for one in manifest.tensors}):
        raise ValueError(f"tensors {bad}")
    return manifest, files


def _remade(store: Store, base: dict[str, bytes], step: Step) -> dict[str, bytes]:
    def fetch(part: FileRef) -> bytes:
        return store.get(names.blob_key(JOB_UID, part.digest), part.digest)

    return rebuild(base, [step], fetch)
