"""The attacks of `faults.attacks`, and what keys and dates do besides."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.attacks import CASES, HELD, ago, attacked, attempted, sealed
from fleet_contract.names import Signatory
from fleet_contract.trust import PrivateKey
from helpers import keys
from helpers.nats import Broker, running_broker
from helpers.world import publish


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.mark.parametrize(("attack", "state"), CASES)
async def test_no_attack_is_accepted_and_the_robot_goes_on(
    broker: Broker, tmp_path: Path, attack: str, state: str
) -> None:
    found = await attempted(broker, tmp_path, attack, state)
    assert found["wrong"] == []


async def test_the_true_document_seen_again_ends_the_complaint(
    broker: Broker, tmp_path: Path
) -> None:
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        await target.send(sealed(target, keys.STRANGER))
        async with asyncio.timeout(60):
            await target.said.get()
        assert target.follower.disbelieved
        followed = target.follower._followed
        assert followed is not None
        await target.follower._hear("", followed)
        assert target.follower.disbelieved == ""


async def test_a_document_that_went_out_of_date_does_not_stop_who_runs_by_it(
    broker: Broker, tmp_path: Path
) -> None:
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        await target.send(sealed(target, **ago(25)))
        async with asyncio.timeout(60):
            assert "expired" in await target.said.get()
        target.drive()
        assert target.next == 1


async def test_keys_follow_one_another_while_documents_of_both_are_about(
    broker: Broker, tmp_path: Path
) -> None:
    after = PrivateKey.generate()
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        learner = publish(target.store, 2, job_uid=target.uid, sign=after.sign)
        await target.send(target.document(HELD + 1, learner).seal(keys.OPERATOR.sign))
        async with asyncio.timeout(60):
            assert f"signed with key {after.id}, nobody's" in await target.said.get()
        keys.trust(
            tmp_path / "trust", learner=(keys.LEARNER, after), operator=(keys.OPERATOR, after)
        )
        await target.send(target.document(HELD + 2, learner).seal(after.sign))
        assert await target.comes_to(2)
        both = publish(target.store, 3, job_uid=target.uid)  # by the old key still
        await target.send(target.document(HELD + 3, both).seal(keys.OPERATOR.sign))
        assert await target.comes_to(3)
        keys.trust(tmp_path / "trust", learner=(after,), operator=(after,))
        old = target.document(HELD + 4, target.good).seal(keys.OPERATOR.sign)
        await target.send(old)
        async with asyncio.timeout(60):
            assert f"signed with key {keys.OPERATOR.id}, nobody's" in await target.said.get()
        assert target.next == 3


async def test_a_robot_whose_public_keys_are_gone_believes_nothing_and_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    async with attacked(broker, tmp_path, "running a version") as (target, _):
        (tmp_path / "trust" / Signatory.OPERATOR).unlink()
        await target.send(sealed(target))
        async with asyncio.timeout(60):
            assert "must hold the public keys of the fleet" in await target.said.get()
        assert target.next == 1
        keys.trust(tmp_path / "trust")
        assert await target.comes_to(2)  # the same document, at the next look
