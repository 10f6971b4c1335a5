"""An operator that makes what its broker shows; a real API server, a real nats-server with TLS."""

import asyncio
import base64
import re
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_cli.local.ports import LOOPBACK, free_ports
from fleet_contract import metrics as m
from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.names import Channel, Identity, Stream
from fleet_operator.bus import Bus
from fleet_operator.decide import x509
from fleet_runtime.wire import Wire
from helpers.control import JOBS, Operator, enroll, training_job
from helpers.identity import entrust, minted
from helpers.kube import Kube, condition
from helpers.prometheus import scraped
from helpers.tls import (
    Authority,
    as_its_node_does,
    believed,
    put,
    sealed_broker,
    secured,
    shows,
    tls_broker,
)

WITHIN = 60.0  # seconds


@pytest.mark.usefixtures("kinds")
async def test_the_authority_is_followed_by_the_next_under_a_robot_at_work(
    cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    """Nothing is started anew but the operator, which dies in between."""
    await entrust(kube)
    told = {"FLEET_NATS_ACCOUNTS": "true", "FLEET_NATS_TLS": "true", "FLEET_RESYNC_SECONDS": "5"}
    port = free_ports(["metrics"])["metrics"]
    told["FLEET_METRICS_PORT"] = str(port)
    with sealed_broker(tmp_path / "nats") as broker:
        url = secured(broker)
        operator = Operator(cluster, kube.namespace, url, log=tmp_path / "operator.log", **told)
        await operator.start()
        try:
            leaf = await as_its_node_does(kube, tmp_path / "nats")
            broker.start()
            uid = (await kube.create(JOBS, training_job()))["metadata"]["uid"]
            await enroll(kube, "job", "r1")
            await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True", WITHIN)
            put(tmp_path / "user.creds", await minted(kube, Identity.ROBOT, "r1"))
            put(tmp_path / "ca.crt", await believed(kube))
            wire = await Wire.connect(
                url,
                "r1",
                inbox=names.inbox(Identity.ROBOT, "r1"),
                credentials=tmp_path / "user.creds",
                authorities=tmp_path / "ca.crt",
            )
            try:
                assert wire._client.shown == x509.read(leaf.decode())[0].der
                subject = names.robot_subject(kube.namespace, "r1", "job", Channel.EXPERIENCE)
                exp = names.stream(uid, Stream.EXPERIENCE)
                first = await wire.store(subject, b"1", stream=exp)
                came = asyncio.Event()
                wire.on_reconnect(came.set)

                await operator.kill()
                authority = kube.path("secrets", names.NATS_AUTHORITY)
                await kube.api.patch(authority, {"data": {"present": None}})
                await operator.start()
                later = await as_its_node_does(kube, tmp_path / "nats", after=leaf)
                (shown,) = x509.read(later.decode())
                await asyncio.wait_for(shows(broker, shown.der), WITHIN)  # the operator said so
                await kube.until("configmaps", names.NATS_CA, settled(shown), WITHIN)
                told_of = await lives(port)
                assert told_of == dict.fromkeys(("made", "shown"), (shown.begins, shown.ends))
                assert await wire.store(subject, b"2", stream=exp) == first + 1
                assert not came.is_set()

                # With what it believed from the beginning it comes again.
                await wire._client.force_reconnect()
                await asyncio.wait_for(came.wait(), WITHIN)
                assert wire._client.shown == shown.der
                assert await wire.store(subject, b"3", stream=exp) == first + 2
            finally:
                await wire.close()
        finally:
            await operator.stop()


@pytest.mark.usefixtures("kinds")
async def test_of_a_certificate_that_none_can_follow_the_operator_tells_until_when_it_is_good(
    cluster: LocalCluster, kube: Kube
) -> None:
    """Also one that began only then."""
    port = free_ports(["metrics"])["metrics"]
    operator = await Operator(
        *(cluster, kube.namespace, "tls://nats:4222"),
        FLEET_NATS_TLS="true",
        FLEET_METRICS_PORT=str(port),
    ).start()
    try:
        made = await kube.until("secrets", names.NATS_TLS, lambda _: True, WITHIN)
        await operator.kill()
        authority = kube.path("secrets", names.NATS_AUTHORITY)
        await kube.api.patch(authority, {"data": {"present": "bm8ga2V5"}})
        (leaf,) = x509.read(base64.b64decode(made["data"]["tls.crt"]).decode())
        await operator.start()
        async with asyncio.timeout(WITHIN):
            while not (found := await lives(port)):  # noqa: ASYNC110 - a gauge tells nobody
                await asyncio.sleep(0.1)
        assert found == {"made": (leaf.begins, leaf.ends)}
    finally:
        await operator.stop()


async def lives(port: int) -> dict[str, tuple[float, float]]:
    """From when until when a certificate is good, as the operator at this port serves it."""
    try:
        said = await scraped(f"{LOOPBACK}:{port}")
    except aiohttp.ClientConnectionError:  # it does not serve yet
        return {}
    begin, end = (
        dict(re.findall(rf'{family.name}{{certificate="(\w+)"}} (\S+)', said))
        for family in (m.CERTIFICATE_BEGIN, m.CERTIFICATE_END)
    )
    return {which: (float(begin[which]), float(end[which])) for which in end}


def settled(shown: x509.Certificate) -> Callable[[Json], bool]:
    """Two are believed, and the first of them signed what is shown."""

    def holds(found: Json) -> bool:
        known = x509.read(found["data"][names.CA])
        return len(known) == 2 and known[0].subject == shown.issuer

    return holds


async def test_a_broker_that_is_another_is_told_in_words_and_tried_again(tmp_path: Path) -> None:
    """Each try ends: a job's status tells of it, and its operator goes on with others."""
    right, shown = Authority(), tmp_path / "nats" / "certificate"
    Authority().signs(shown)

    async def pem() -> str:
        return right.pem

    with tls_broker(tmp_path / "nats") as broker:
        bus = Bus(secured(broker), authorities=pem)
        try:
            for _ in range(2):
                with pytest.raises(Retry, match="signed by nobody we know: ConfigMap fleetloop-na"):
                    await asyncio.wait_for(bus.client(), WITHIN)
            der = right.signs(shown)
            broker.reload()
            await asyncio.wait_for(shows(broker, der), WITHIN)
            async with asyncio.timeout(WITHIN):
                assert (await bus.client()).is_connected
        finally:
            await bus.close()


@pytest.mark.usefixtures("kinds")
async def test_a_broker_of_a_persons_own_is_believed_by_what_they_wrote_into_the_configmap(
    cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    authority, shown = Authority(), tmp_path / "nats" / "certificate"
    authority.signs(shown)
    with tls_broker(tmp_path / "nats") as broker:
        operator = await Operator(cluster, kube.namespace, secured(broker)).start()
        try:
            await kube.create(JOBS, training_job())
            job = await kube.until(JOBS, "job", refused, WITHIN)
            (told,) = (
                one["message"]
                for one in job["status"]["conditions"]
                if one["type"] == "StreamsReady"
            )
            assert "signed by nobody we know" in told
            mine = {"metadata": {"name": names.NATS_CA}, "data": {names.CA: authority.pem}}
            await kube.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", **mine})
            await kube.until(JOBS, "job", lambda j: condition(j, "StreamsReady") == "True", WITHIN)
            assert (await kube.get("configmaps", names.NATS_CA))["data"] == mine["data"]
        finally:
            await operator.stop()


def refused(job: Json) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(
        one["type"] == "StreamsReady" and "certificate" in one["message"] for one in conditions
    )
