"""A NATS whose users are a site's: the operator comes with the file that it was given."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.identity import User, account_jwt, passport_of
from fleet_contract.messages import Heartbeat, RobotState
from fleet_contract.names import Channel, Identity
from helpers.control import JOBS, ROBOTS, Operator, enroll, training_job
from helpers.identity import ROOT, account, closed_broker, connected, made, tell
from helpers.kube import Kube, condition
from helpers.tls import put

WITHIN = 120.0  # seconds
OPERATOR = User(Identity.OPERATOR, names.FIELD_MANAGER)


def told(words: str) -> Callable[[Json], bool]:
    """Whether the job says so of its NATS."""

    def holds(job: Json) -> bool:
        return any(
            one["type"] == "StreamsReady" and words in one["message"].lower()
            for one in job.get("status", {}).get("conditions", [])
        )

    return holds


def is_connected(robot: Json) -> bool:
    return condition(robot, "Connected") == "True"


@pytest.mark.usefixtures("kinds")
async def test_the_operator_shows_its_file_to_the_server_of_its_url_and_takes_a_newer_one(
    cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    """First it is none, then a stranger's; the right one takes its place under the operator."""
    ours, file = account(), tmp_path / "user.creds"
    wrong, right = (made(OPERATOR, one) for one in (account(), ours))
    file.write_text("geheim-9")
    with closed_broker(tmp_path / "nats") as broker:
        await tell(broker.url, account_jwt(ours, kube.namespace, ROOT, int(time.time()), {}))
        given = {"FLEET_NATS_CREDENTIALS": str(file), "FLEET_RESYNC_SECONDS": "1"}
        log = tmp_path / "operator.log"
        operator = Operator(cluster, kube.namespace, broker.url, log=log, **given)
        await operator.start()
        try:
            await kube.create(JOBS, training_job())
            await kube.until(JOBS, "job", told("fleet_nats_credentials"), WITHIN)
            put(file, wrong)
            await kube.until(JOBS, "job", told("authorization violation"), WITHIN)
            put(file, right)
            await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True", WITHIN)
            await enroll(kube, "job", "arm")
            robot = (await kube.get(ROBOTS, "arm"))["metadata"]["uid"]
            uid = (await kube.get(JOBS, "job"))["metadata"]["uid"]
            beat = Heartbeat(
                robot="arm",
                robot_uid=robot,
                job_uid=uid,
                state=RobotState.WAITING_FOR_POLICY,
                at=time.time(),
            )
            subject = names.robot_subject(kube.namespace, "arm", "job", Channel.HEARTBEAT)
            who = made(User(Identity.ROBOT, "arm", "job", uid, robot), ours)
            inbox = names.inbox(Identity.ROBOT, "arm")
            async with connected(broker.url, who, inbox) as client:
                await client.publish(subject, beat.encode())
                await client.flush()
                await kube.until(ROBOTS, "arm", is_connected, WITHIN)
            # At another address it comes as nobody, be it the same server.
            elsewhere = broker.url.replace("127.0.0.1", "localhost")
            another = training_job("another", transport={"nats": {"url": elsewhere}})
            await kube.create(JOBS, another)
            await kube.until(JOBS, "another", told("authorization violation"), WITHIN)
        finally:
            await operator.stop()
    said = log.read_text()
    secrets = ["geheim-9", *(passport_of(one).key.reveal() for one in (wrong, right))]
    assert not [one for one in secrets if one in said]
    minted = {one["metadata"]["name"] for one in (await kube.get("secrets"))["items"]}
    assert not minted & {names.NATS_KEYS, names.NATS_USERS}
