"""A learner with cameras, as a process: hostile frames are refused, their neighbours train."""

from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from fleet_contract import names
from fleet_contract.errors import RejectCode
from fleet_contract.messages import Announcement, Receipt, Record
from fleet_contract.names import Channel
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.published import load
from helpers.learner import (
    JOB,
    NAMESPACE,
    TASKS,
    episode,
    experience_subject,
    learner_process,
    listening,
    message,
    record,
    spec,
)
from helpers.nats import make_streams, running_broker
from learning.makers import smooth

ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
RECEIPT = names.robot_subject(NAMESPACE, "ada", JOB, Channel.RECEIPT)
SHAPE = (16, 24, 3)


def filmed(name: str, shape: tuple[int, int, int] = SHAPE, **over: Any) -> bytes:
    frames = np.stack([smooth(shape, seed) for seed in range(21)])
    return codec.encode(episode(name, images={"wrist": frames}, **over))


def progressive(payload: bytes) -> bytes:
    """The same with every frame's header changed to say it is a progressive JPEG."""
    body = zstandard.decompress(payload[5:]).replace(b"\xff\xc0\x00\x11", b"\xff\xc2\x00\x11")
    return payload[:5] + zstandard.compress(body)


def sent(n: int, payload: bytes) -> tuple[Record, bytes]:
    return record(episode(f"ada-{n}"), n, payload), payload


async def test_a_learner_sees_what_its_demonstrations_show_and_refuses_frames_that_do_not_fit(
    tmp_path: Path,
) -> None:
    (tmp_path / "demos").mkdir()
    for task in TASKS:
        (tmp_path / "demos" / f"{task}.episode").write_bytes(filmed(f"demo-{task}", task=task))
    small = spec(
        [f"file://{tmp_path}/demos"],
        steps=2,
        policy={"parameters": {"hidden": 8, "layers": 1, "cameraWidth": 2, "cameraFeatures": 2}},
        publish={"everySteps": 2, "minInterval": "50ms"},
        batchSize=4,
    )
    with running_broker(tmp_path / "nats") as broker:
        await make_streams(broker.url)
        async with listening(broker.url, ANNOUNCE, RECEIPT) as (client, (versions, receipts)):
            with learner_process(tmp_path, broker.url, small) as learner:
                await versions.more(than=0)  # by then it knows its cameras
                entries = [
                    sent(1, progressive(filmed("ada-1"))),
                    sent(2, filmed("ada-2", (16, 25, 3))),
                    sent(3, codec.encode(episode("ada-3"))),
                    sent(4, filmed("ada-4")),
                ]
                await client.jetstream().publish(experience_subject(), message(*entries))
                await receipts.until(
                    lambda heard: any(Receipt.open(one).settles(4) for one in heard)
                )
                found = {one.n: one for one in Receipt.open(receipts.heard[-1]).rejects}
                await versions.until(
                    lambda heard: Announcement.decode(heard[-1]).lineage.episodes == 1
                )
                key = Announcement.decode(versions.heard[-1]).policy.uri
                _, policy = load(Store(learner.store_url), key)
    assert {n: one.code for n, one in found.items()} == {
        1: RejectCode.MALFORMED,
        2: RejectCode.SHAPE,
        3: RejectCode.SHAPE,
    }
    assert "baseline" in found[1].message
    assert "'wrist'" in found[2].message
    assert policy.spaces.images == {"wrist": SHAPE}
