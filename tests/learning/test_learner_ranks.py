"""Several ranks of one learner: two real processes that meet, train alike and end together."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet_contract import names
from fleet_contract.messages import Announcement
from fleet_runtime import algorithms
from fleet_runtime.artifacts import Store
from helpers.learner import (
    JOB,
    JOB_UID,
    NAMESPACE,
    LearnerProcess,
    entry,
    experience_subject,
    listening,
    message,
    spec,
    write_dataset,
)
from helpers.nats import Broker, make_streams, running_broker

ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
HEARTBEAT = names.learner_heartbeat_subject(NAMESPACE, JOB)
EXIT_FAULT, EXIT_STOPPED, EXIT_REFUSED = 1, 143, 78


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks found, in their order."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).parents[1] / "helpers" / "ranks.py"
    both = LearnerProcess(folder, "", {}, script=[str(script), str(folder)])
    both.start()
    assert asyncio.run(both.exit(within=120)) == 0, both.log
    return [json.loads((folder / f"rank-{number}.json").read_text()) for number in range(2)]


@pytest.mark.parametrize("name", sorted(algorithms.available()))
def test_ranks_that_draw_rows_of_their_own_hold_the_same_weights_and_losses(
    told: list[dict[str, Any]], name: str
) -> None:
    first, second = (rank["algorithms"][name] for rank in told)
    assert first["digest"] == second["digest"]
    assert first["means"] == second["means"]
    assert first["noise"] != second["noise"]


def test_two_ranks_with_half_the_rows_each_learn_what_one_does_with_all_of_them(
    told: list[dict[str, Any]],
) -> None:
    first, second = told
    assert first["halves"] == second["halves"]
    np.testing.assert_allclose(first["halves"], first["whole"], rtol=0, atol=2e-6)


def test_only_the_first_ranks_order_counts_and_anybody_may_ask_to_leave(
    told: list[dict[str, Any]],
) -> None:
    for rank in told:
        assert rank["order"] == [3, False, 5, False]
        assert rank["leaving"]
        assert rank["shared"] == "weights"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


@contextmanager
def two_ranks(folder: Path, broker: Broker, **over: Any) -> Iterator[list[LearnerProcess]]:
    small = spec([write_dataset(folder / "demos")], steps=5, replicas=2, **over)
    ranks = [LearnerProcess(folder, broker.url, small, rank=number) for number in range(2)]
    try:
        for rank in ranks:
            rank.start()
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()


async def test_two_ranks_train_on_what_robots_send_and_publish_as_one(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    async with listening(broker.url, ANNOUNCE) as (client, (versions,)):
        with two_ranks(tmp_path, broker) as (first, second):
            await versions.more(0)
            for n in range(1, 4):
                await client.jetstream().publish(experience_subject(), message(entry(n)))
            await versions.until(lambda heard: Announcement.decode(heard[-1]).lineage.episodes == 3)
            await versions.more(len(versions.heard))
            # Asked to leave alone, the second one takes the first along, which saves itself.
            assert await second.stop() == EXIT_STOPPED
            assert await first.exit() == EXIT_STOPPED
            step = Announcement.decode(versions.heard[-1]).step
            assert "checkpoint" in first.log.splitlines()[-1]
            assert "Traceback" not in first.log + second.log
            out = len(versions.heard)
            second.start()
            first.start()
            await versions.more(out)
            assert Announcement.decode(versions.heard[out]).step >= step
    epochs = Store(first.store_url).list(names.epoch_key(JOB_UID, 0).rsplit("/", 1)[0])
    assert len(epochs) == 2


@pytest.mark.parametrize("dies", [0, 1])
async def test_a_rank_that_is_killed_ends_the_other_within_seconds(
    broker: Broker, tmp_path: Path, dies: int
) -> None:
    await make_streams(broker.url)
    async with listening(broker.url, ANNOUNCE) as (_, (versions,)):
        with two_ranks(tmp_path, broker) as ranks:
            await versions.more(0)
            ranks[dies].kill()
            assert await ranks[1 - dies].exit(within=30) == EXIT_STOPPED
            assert "no rank trains alone" in ranks[1 - dies].log


async def test_a_rank_waits_for_the_others_and_can_be_stopped_meanwhile(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    async with listening(broker.url, HEARTBEAT) as (_, (beats,)):
        with two_ranks(tmp_path, broker) as (first, second):
            second.kill()
            await beats.more(0)
            assert await first.stop() == EXIT_STOPPED
            second.start()  # it knows an address where nobody listens any more
            await second.says("joining learner epoch 1")
            assert await second.stop() == EXIT_STOPPED


async def test_rows_that_ranks_cannot_share_alike_are_refused(
    broker: Broker, tmp_path: Path
) -> None:
    with two_ranks(tmp_path, broker, batchSize=15) as (first, _):
        assert await first.exit() == EXIT_REFUSED
    assert "2 ranks cannot share a batch of 15 rows" in first.log
