"""Publish a broken version on purpose, to see the fleet take it back.

``python -m fleet_runtime.learner.spoil`` copies a published version, scrambles its weights so that
it moves the robot but knows nothing, and announces the copy exactly as a learner would. The last
line of output is JSON: ``{"sequence": n}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.messages import Announcement
from fleet_contract.names import Identity, Stream
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.publish import Snapshot, Version, Versions
from fleet_runtime.published import load
from fleet_runtime.trust import signer
from fleet_runtime.wire import Wire, backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet_contract.messages import Signer
    from fleet_runtime.policies.base import Policy

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds in which store and broker must have come back: a way into a cluster may break."""


def scramble(policy: Policy) -> Policy:
    """Shuffle every tensor of the policy in place: same shapes, same scales, no skill."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in policy.tensors().values():
            flat = tensor.view(-1)
            flat.copy_(flat[torch.randperm(flat.numel(), generator=generator)])
    return policy


def publish(store: Store, job_uid: str, manifest_key: str, sign: Signer | None = None) -> Version:
    """Store the scrambled copy as the job's next version. Raises as ``Versions.publish``."""
    manifest, policy = load(store, manifest_key)
    claimed = store.list(names.epoch_key(job_uid, 0).rsplit("/", 1)[0])
    epoch = max(int(key.rsplit("/", 1)[1]) for key in claimed)
    versions = Versions(store, job_uid, epoch, float(manifest.interface.control_hz), sign=sign)
    versions.recover()
    return versions.publish(Snapshot(scramble(policy), manifest.step, {}, manifest.lineage))


async def announce(
    nats_url: str,
    namespace: str,
    job: str,
    version: Version,
    sign: Signer | None = None,
    credentials: Path | None = None,
    authorities: Path | None = None,
) -> None:
    """Tell the operator. Raises ``Retry`` when the broker does not take it."""
    manifest = version.manifest
    announcement = Announcement(
        job_uid=manifest.job_uid,
        learner_epoch=manifest.learner_epoch,
        policy=version.ref,
        step=manifest.step,
        size=sum(file.size for file in manifest.files),
        lineage=manifest.lineage,
        published_at=time.time(),
    )
    if sign is not None:
        announcement = announcement.sealed(sign)
    inbox = names.inbox(Identity.LEARNER, job)
    wire = await Wire.connect(
        nats_url, "fleet-spoil", inbox=inbox, credentials=credentials, authorities=authorities
    )
    try:
        await wire.store(
            names.announce_subject(namespace, job),
            announcement.encode(),
            stream=names.stream(manifest.job_uid, Stream.CONTROL),
        )
    finally:
        await wire.close()


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Again while the store or the broker is away; raises the last `Retry`."""
    until = time.monotonic() + PATIENCE
    pause = backoff()
    while True:
        try:
            return await attempt()
        except Retry:
            if time.monotonic() > until:
                raise
            await anext(pause)


async def spoil(chosen: argparse.Namespace) -> int:
    """The broken version's number. Raises as `publish` and `announce`."""
    sign, store = signer(chosen.key_file), Store(chosen.storage)
    made = partial(publish, store, chosen.job_uid, chosen.manifest, sign)
    version = await patiently(lambda: asyncio.to_thread(made))
    at = (chosen.nats, chosen.namespace, chosen.job)
    who = (chosen.credentials, chosen.authorities)
    await patiently(lambda: announce(*at, version, sign, *who))
    return version.ref.sequence


def main(arguments: list[str] | None = None) -> None:
    """Exit code 0 when the broken version is out."""
    parser = argparse.ArgumentParser(prog="fleet_runtime.learner.spoil", description=__doc__)
    for option in ("nats", "storage", "namespace", "job", "job-uid", "manifest"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--key-file", type=Path, help="the learner's private key")
    parser.add_argument("--credentials", type=Path, help="the learner's identity at NATS, a file")
    parser.add_argument("--authorities", type=Path, help="who may sign NATS' certificate, a file")
    chosen = parser.parse_args(arguments)
    sys.stdout.write(json.dumps({"sequence": asyncio.run(spoil(chosen))}) + "\n")


if __name__ == "__main__":
    main()
