"""An operator that mints who may come to its broker; a real API server and a real nats-server."""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.identity import claims, passport_of
from fleet_contract.names import Channel, Identity, Label
from fleet_operator.decide.identities import entries_of
from helpers.control import JOBS, ROBOTS, Operator, edit, enroll, training_job
from helpers.identity import (
    ROOT,
    as_operator,
    closed_broker,
    connected,
    entrust,
    minted,
    turned_away,
)
from helpers.kube import Kube, condition
from helpers.nats import Broker

log = logging.getLogger(__name__)
JWT = "eyJ0eXAi"  # {"typ
OUT_WITHIN = 10.0  # seconds


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with closed_broker(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def at_work(
    kinds: None, cluster: LocalCluster, kube: Kube, broker: Broker, tmp_path: Path
) -> AsyncIterator[Operator]:
    """Its log is ``operator.log``."""
    await entrust(kube)
    log = tmp_path / "operator.log"
    accounts = {"FLEET_NATS_ACCOUNTS": "true"}
    running = Operator(cluster, kube.namespace, broker.url, log=log, **accounts)
    yield await running.start()
    await running.stop()


def processes() -> list[str]:
    """Arguments and variables of all that run here and may be looked at."""
    seen = []
    for process in Path("/proc").glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it ended, or is another user's
                seen.append((process / part).read_text(errors="replace"))
    return seen


async def robot(kube: Kube, name: str, after: str = "") -> tuple[str, str]:
    """Credentials and inbox of a robot."""
    text = await minted(kube, Identity.ROBOT, name, after=after)
    return text, names.inbox(Identity.ROBOT, name)


async def minted_no_more(kube: Kube, name: str) -> None:
    """Returns when a robot's credentials are gone."""
    entry = names.user(Identity.ROBOT, name)
    await kube.until("secrets", names.users(entry), lambda found: entry not in entries_of(found))


async def test_robots_of_before_lay_beside_all_others_and_are_moved_without_being_put_out(
    at_work: Operator, kube: Kube, broker: Broker
) -> None:
    """As an operator of before left them, who knew one Secret for all."""
    await kube.create(JOBS, training_job())
    await enroll(kube, "job", "r1", "r2")
    await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True")
    mine, other = await robot(kube, "r1"), await robot(kube, "r2")
    async with connected(broker.url, *mine) as live:
        await at_work.stop()
        for entry, text in (("robot.r1", mine[0]), ("robot.r2", other[0])):
            encoded = base64.b64encode(text.encode()).decode()
            old = kube.path("secrets", names.NATS_USERS)
            await kube.api.patch(old, {"data": {entry: encoded}})
            await kube.delete("secrets", names.users(entry))
        await at_work.start()
        assert await robot(kube, "r1") == mine
        assert await robot(kube, "r2") == other
        left = await kube.until("secrets", names.NATS_USERS, lambda s: len(s["data"]) == 4)
        assert set(left["data"]) == {"reader.reader", "learner.job", "gate.job", "clerk.job"}
        await live.flush()
        assert live.is_connected
    assert await turned_away(broker.url, other[0]) == ""


async def test_a_robot_that_is_deleted_is_out_within_ten_seconds_and_its_neighbour_is_not(
    at_work: Operator, kube: Kube, broker: Broker
) -> None:
    await kube.create(JOBS, training_job())
    await enroll(kube, "job", "r1", "r2")
    await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True")
    mine, neighbours = await robot(kube, "r1"), await robot(kube, "r2")
    beat = names.robot_subject(kube.namespace, "r1", "job", Channel.HEARTBEAT)
    said: list[str] = []
    async with (
        connected(broker.url, *mine, said) as live,
        connected(broker.url, *neighbours) as other,
    ):
        await live.publish(beat, b"{}")
        await live.flush()
        began = time.monotonic()
        await kube.delete(ROBOTS, "r1")
        async with asyncio.timeout(60):
            await live.ended.wait()
        took = time.monotonic() - began
        log.info("out after %.2f s", took)
        assert took < OUT_WITHIN
        assert live.last_error is not None
        assert "revoked" in str(live.last_error)
        await other.flush()
        assert other.is_connected
    assert "Authorization" in await turned_away(broker.url, mine[0])
    assert await turned_away(broker.url, neighbours[0]) == ""

    # One of its name that comes again is another; what was stolen from the first stays out.
    await enroll(kube, "job", "r1")
    again = await robot(kube, "r1", after=mine[0])
    assert await turned_away(broker.url, again[0]) == ""
    assert "Authorization" in await turned_away(broker.url, mine[0])


async def test_other_credentials_are_made_when_somebody_asks_and_the_old_are_out(
    at_work: Operator, kube: Kube, broker: Broker
) -> None:
    await kube.create(JOBS, training_job())
    await enroll(kube, "job", "r1")
    await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True")
    old = await robot(kube, "r1")

    def ask(found: Json) -> None:
        found["metadata"].setdefault("annotations", {})[Label.CREDENTIALS.value] = "lost-laptop"

    async with connected(broker.url, *old) as live:
        await at_work.stop()  # whatever comes while no operator lives is done by the next one
        await edit(kube, ROBOTS, "r1", ask)
        await live.flush()
        await at_work.start()
        new = await robot(kube, "r1", after=old[0])
        async with asyncio.timeout(60):
            await live.ended.wait()
    assert await turned_away(broker.url, new[0]) == ""
    assert "Authorization" in await turned_away(broker.url, old[0])


async def test_a_broker_that_lost_its_disk_is_told_again_and_who_is_out_stays_out(
    at_work: Operator, kube: Kube, broker: Broker, tmp_path: Path
) -> None:
    await kube.create(JOBS, training_job())
    await enroll(kube, "job", "r1", "r2")
    await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True")
    gone, stays = await robot(kube, "r1"), await robot(kube, "r2")
    await kube.delete(ROBOTS, "r1")
    await minted_no_more(kube, "r1")
    broker.kill()
    for file in (tmp_path / "nats" / "accounts").iterdir():
        file.unlink()
    broker.start()
    assert "Authorization" in await turned_away(broker.url, stays[0])
    async with asyncio.timeout(60):
        while await turned_away(broker.url, stays[0]):  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # the server tells nobody that it was told
    assert "Authorization" in await turned_away(broker.url, gone[0])


async def test_no_secret_is_in_a_log_an_event_a_status_an_argument_or_a_variable(
    at_work: Operator, kube: Kube, broker: Broker, tmp_path: Path
) -> None:
    await kube.create(JOBS, training_job(replicas=1))
    await enroll(kube, "job", "r1")
    await kube.until("pods", "job-sim-0-robot", lambda p: p["status"].get("phase") == "Running")
    await kube.until("batch/v1/jobs", "job-learner-1", lambda _: True)
    keys = await kube.get("secrets", names.NATS_KEYS)
    listed = (await kube.get("secrets"))["items"]
    users = [one for one in listed if one["metadata"]["name"].startswith(names.NATS_USERS)]
    texts = [text for one in users for text in entries_of(one).values()]
    assert len(texts) == 6  # reader, learner, gate, clerk and two robots
    secret = {base64.b64decode(v).decode() for k, v in keys["data"].items() if k != "revoked"}
    secret |= {passport_of(text).key.reveal() for text in texts}
    secret |= {line for text in texts for line in text.splitlines() if line.startswith("SU")}
    secret |= {passport_of(text).token for text in texts}
    assert len(secret) == 9 + 3 * 6
    await kube.delete(ROBOTS, "r1")
    await minted_no_more(kube, "r1")

    seen = [(tmp_path / "operator.log").read_text()]
    resources = (JOBS, ROBOTS, "events", "pods", "batch/v1/jobs", "configmaps")
    seen += [str(await kube.get(resource)) for resource in resources]
    seen += await asyncio.to_thread(processes)
    assert not [one for one in secret if any(one in text for text in seen)]
    assert JWT not in seen[0]  # nor those that lie nowhere: the operator's own, the administrator's
    assert any(at_work._env["FLEET_NAMESPACE"] in text for text in seen)  # it was looked at

    pod = await kube.get("pods", "job-sim-0-robot")
    (volume,) = (one for one in pod["spec"]["volumes"] if one["name"] == "nats")
    assert volume["secret"]["secretName"] == names.users("robot.job-sim-0")
    assert volume["secret"]["items"] == [{"key": "robot.job-sim-0", "path": "user.creds"}]


async def test_the_operator_itself_is_told_of_what_it_may_not(
    at_work: Operator, kube: Kube, broker: Broker
) -> None:
    """Its identity is as narrow as any: of the account of its namespace, and of streams there."""
    await kube.create(JOBS, training_job())
    await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True")
    said: list[str] = []
    text = await as_operator(kube)
    assert claims(passport_of(text).token)["nats"]["issuer_account"] != ROOT.system.public
    inbox = names.inbox(Identity.OPERATOR, names.FIELD_MANAGER)
    async with connected(broker.url, text, inbox, said) as client:
        listed = await client.jetstream().streams_info()
        assert len(listed) == 4
        await client.publish(names.CLAIMS_UPDATE, b"")
        for _ in range(2):  # the library's first ping overtakes what is still in its buffer
            await client.flush()
    assert len(said) == 1
