"""The operator as its manifests install it: its own account, a namespace that forbids the rest."""

import asyncio
from functools import partial
from pathlib import Path

from fleet_cli import setup
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.names import Env, Identity
from fleet_contract.trust import read_public
from helpers import keys
from helpers.audit import Asked, AuditedCluster, documents, granted
from helpers.control import (
    JOBS,
    ROBOTS,
    VERSIONS,
    Fleet,
    candidate,
    edit,
    enroll,
    training_job,
    trial,
)
from helpers.identity import entrust, minted
from helpers.kube import Kube, condition
from helpers.tls import as_its_node_does, sealed_broker, secured

ACCOUNT = "fleetloop-operator"
GRANTED = granted(documents(setup.BASE / "permissions.yaml"))
OURS = {names.NATS_KEYS, names.NATS_USERS, *names.NATS_ROBOTS}
OURS |= {names.NATS_AUTHORITY, names.NATS_TLS, names.NATS_CA}
AT_OUR_BROKER = {cell for cell in GRANTED if cell.name in OURS}

FORBIDDEN = 403


def taken(spec: Json) -> Json:
    """As of a version that another job of the name left behind."""
    return spec | {"sequence": 4, "jobUid": "00000000-0000-0000-0000-000000000000"}


def refuses() -> Json:
    """A learner that says it cannot work as its spec says: its run is ended."""
    script = 'printf "no such algorithm" > "$FLEET_LAST_WORDS"; exit 78'
    return {"podOverrides": {"containers": [{"name": "learner", "command": ["sh", "-c", script]}]}}


def tries(sequence: int, job: Json) -> bool:
    return candidate(job) == sequence and bool(trial(job))


async def asked_at_a_closed_broker(
    cluster: AuditedCluster, kube: Kube, folder: Path, settings: dict[Env, str]
) -> list[Asked]:
    """Until every grant was of use: at a broker of its own, with TLS and accounts, some are."""
    await entrust(kube)
    with sealed_broker(folder) as broker:
        told = {Env.NATS_ACCOUNTS: "true", Env.NATS_TLS: "true", Env.NATS_URL: secured(broker)}
        await asyncio.to_thread(setup.run_operator, cluster, kube.namespace, settings | told)
        leaf = await as_its_node_does(kube, folder)
        broker.start()
        authority = kube.path("secrets", names.NATS_AUTHORITY)
        await kube.api.patch(authority, {"data": {"present": None}})  # the next one follows
        await as_its_node_does(kube, folder, after=leaf)
        # So many that there is one at least in each Secret of robots', and then none.
        guests = [f"guest-{number}" for number in range(160)]
        home = {names.users(names.user(Identity.ROBOT, guest)): guest for guest in guests}
        await enroll(kube, "job", *home.values())
        for guest in home.values():
            await minted(kube, Identity.ROBOT, guest)
            await kube.delete(ROBOTS, guest)
        await kube.delete(JOBS, "bad")  # its learner and gate go from where they lie
        return await cluster.until_asked(kube.namespace, ACCOUNT, GRANTED)


async def test_it_needs_exactly_what_it_is_granted_where_only_restricted_pods_are_admitted(
    kinds: None, cluster: AuditedCluster, kube: Kube, tmp_path: Path
) -> None:
    def restrict(found: Json) -> None:
        found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"

    namespace = f"/api/v1/namespaces/{kube.namespace}"
    found = await kube.api.get(namespace)
    restrict(found)
    await kube.api.update(namespace, found)
    often = {Env.RESYNC_SECONDS: "5"}
    await asyncio.to_thread(setup.run_operator, cluster, kube.namespace, often)
    await kube.create(JOBS, training_job(replicas=2, history={"versions": 1}))
    await kube.until(ROBOTS, "job-sim-1", lambda _: True)
    robots = ["job-sim-0", "job-sim-1"]
    async with Fleet.of(kube, cluster.nats_url, "job", robots) as fleet:
        await fleet.until(lambda job: condition(job, "Ready") == "True", within=60)
        await fleet.announce(1)
        for sequence in (2, 3):
            await kube.until(VERSIONS, f"job-v{sequence - 1}", lambda _: True)
            await fleet.announce(sequence)
            job = await fleet.until(partial(tries, sequence))
            (canary,) = trial(job)
            await fleet.until_runs(canary, sequence)
            for _ in range(10):
                await fleet.end_episode(canary, success=True)
            for robot in robots:
                await fleet.until_runs(robot, sequence)
        # Made anew at the resync at the latest, its public half beside the old one.
        await kube.delete("secrets", names.LEARNER_KEY)
        # Pruned when no robot runs it and no rollback returns to it: at the resync at the latest.
        await kube.until_gone(VERSIONS, "job-v1", within=90.0)
        await fleet.until_kept(2, 3)
        assert fleet.kept is not None
        assert (fleet.kept.job_uid, fleet.kept.before) == (fleet.job_uid, 3)

        def change(spec: Json) -> None:
            spec["spec"]["robots"]["simulated"] |= {"replicas": 1, "controlHz": 10}
            spec["spec"]["publish"] = {"everySteps": 7}

        await edit(kube, JOBS, "job", change)
        await kube.until_gone(ROBOTS, "job-sim-1")
        await kube.until_gone("pods", "job-sim-1-robot")
        await kube.until("batch/v1/jobs", "job-learner-2", lambda _: True)
        # What lies where the next version shall is looked at, and left alone.
        found = await kube.get(VERSIONS, "job-v3")
        other = {"name": "job-v4", "labels": {}}
        await kube.create(VERSIONS, found | {"metadata": other, "spec": taken(found["spec"])})
        await fleet.announce(4)
        await kube.create(JOBS, training_job("bad", learner=refuses()))

    def followed(found: Json) -> bool:
        return len(read_public(found["data"]["learner"])) == 2

    await kube.until("configmaps", names.TRUST, followed, within=90.0)
    await keys.of(kube)
    await cluster.until_asked(kube.namespace, ACCOUNT, GRANTED - AT_OUR_BROKER)
    asked = await asked_at_a_closed_broker(cluster, kube, tmp_path / "nats", often)
    assert [one for one in asked if one.code == FORBIDDEN] == []
    # Its pods have no token, and nobody else works as the namespace's usual account.
    assert cluster.asked(kube.namespace, "default") == []
