"""What one writes first: a transition as pydantic JSON in a message of its own, each awaited.

A work queue in a file like ours, a consumer that fetches, validates and acks. `agent` and `take`
are the two ends, each a process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleet_runtime.experience.types import Episode

STREAM, CONSUMER = "PEER", "learner"
FETCH = 200


class Transition(BaseModel):
    """One step."""

    robot: str
    episode: str
    step: int
    task: str
    observation: list[float]
    action: list[float]
    policy_action: list[float]
    reward: float
    intervention: bool
    time: float
    done: bool


def transitions(made: Episode) -> Iterable[Transition]:
    for t in range(len(made)):
        yield Transition(
            robot=made.robot,
            episode=made.id,
            step=t,
            task=made.task,
            observation=made.observation[t].tolist(),
            action=made.action[t].tolist(),
            policy_action=made.policy_action[t].tolist(),
            reward=float(made.reward[t]),
            intervention=bool(made.intervention[t]),
            time=float(made.time[t]),
            done=t == len(made) - 1,
        )


async def connected(url: str) -> Client:
    async def silent(*_: Any) -> None:
        return

    client = Client()
    await client.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=silent)  # type: ignore[arg-type]
    return client


async def prepare(url: str) -> None:
    client = await connected(url)
    config = StreamConfig(name=STREAM, subjects=["peer.*"], retention="workqueue", storage="file")  # type: ignore[arg-type]
    await client.jetstream().add_stream(config)
    await client.jetstream().add_consumer(
        STREAM,
        ConsumerConfig(durable_name=CONSUMER, ack_policy="explicit", max_ack_pending=10_000),  # type: ignore[arg-type]
    )
    await client.close()


async def agent(url: str, name: str, episodes: list[Episode], go: Callable[[], None]) -> None:
    """Publish each step and await its ack; again, when none came."""
    client = await connected(url)
    js = client.jetstream()
    await asyncio.to_thread(go)
    for made in episodes:
        for step in transitions(made):
            data = step.model_dump_json().encode()
            while True:
                try:
                    await js.publish(f"peer.{name}", data)
                    break
                except (nats.errors.Error, OSError):
                    await asyncio.sleep(0.05)
    await client.close()


async def take(url: str, wanted: int, go: Callable[[], None]) -> Counter[tuple[str, int]]:
    """Fetch, validate, ack, until so many different transitions are here: each with its count."""
    client = await connected(url)
    pull = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM)
    seen: Counter[tuple[str, int]] = Counter()
    await asyncio.to_thread(go)
    while len(seen) < wanted:
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            for message in await pull.fetch(FETCH, 1.0):
                step = Transition.model_validate_json(message.data)
                seen[step.episode, step.step] += 1
                await message.ack()
    await client.flush()
    await client.close()
    return seen
