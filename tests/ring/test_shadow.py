"""A broken version on a fleet at work, caught before any robot acts on it."""

from typing import Any

import nats
import pytest

from fleet_cli.demo import agents
from fleet_cli.local.cluster import LocalCluster
from fleet_contract import names
from fleet_contract.messages import Event, EventKind
from fleet_contract.names import Channel
from helpers.control import stable
from helpers.kube import Kube
from helpers.ring import JOB, JOBS, SLOW, VERSIONS, job

pytestmark = pytest.mark.usefixtures("operator")


async def test_scrambled_weights_are_caught_in_the_shadow_and_no_robot_ever_acts_on_them(
    cluster: LocalCluster, kube: Kube, dataset: str
) -> None:
    made = job(dataset, publish={"minInterval": "1h"})  # one version, and none overtakes ours
    made["spec"]["robots"]["simulated"]["replicas"] = 1
    made["spec"]["offline"]["steps"] = 100
    made["spec"]["rollout"]["gates"] = {"shadow": {"minEpisodes": 1, "maxDisagreement": 0.05}}
    uid = (await kube.create(JOBS, made))["metadata"]["uid"]
    heard: list[Event] = []

    async def hear(message: Any) -> None:
        heard.append(Event.decode(message.data))

    ears = await nats.connect(cluster.nats_url)
    await ears.subscribe(names.robot_subject(kube.namespace, "*", JOB, Channel.EVENT), cb=hear)
    found = await kube.until(JOBS, JOB, lambda one: stable(one) == 1, SLOW)
    bad = await agents.spoil(
        kube.api,
        cluster.nats_url,
        agents.Store(cluster.storage_url),
        kube.namespace,
        JOB,
        uid,
        found["status"]["stable"]["uri"],
    )
    name = names.policy_version(JOB, bad)
    version = await kube.until(
        VERSIONS, name, lambda one: one["status"].get("phase") == "RolledBack", SLOW
    )
    assert "its shadow gate refused it" in version["status"]["message"]
    assert "(at most 0.05)" in version["status"]["message"]
    assert stable(await kube.get(JOBS, JOB)) == 1
    await ears.close()
    of_it = [event for event in heard if event.policy and event.policy.sequence == bad]
    assert {event.kind for event in of_it} == {EventKind.SHADOW}
    acted = [event for event in heard if event.kind is EventKind.OUTCOME]
    assert {event.policy.sequence for event in acted if event.policy} == {1}
