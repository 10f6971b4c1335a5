"""`fleet keys rotate` on a real API server, beside a real operator."""

import pytest

from fleet_cli.exits import Fault
from fleet_cli.kube import Kube as Client
from fleet_cli.kubeconfig import Target
from fleet_cli.local.cluster import LocalCluster
from fleet_cli.oncall.keys import Begun, rotate
from fleet_contract import names
from fleet_contract.names import Signatory
from fleet_contract.trust import Trusted
from helpers import keys
from helpers.control import JOBS, VERSIONS, Fleet, Operator, edit, enroll, stable, training_job
from helpers.fleet import Shell
from helpers.kube import Kube, condition


async def known(kube: Kube) -> Trusted:
    return Trusted.read((await kube.get("configmaps", names.TRUST))["data"])


# The ConfigMap is not watched: only a resync finds a new key there.
@pytest.mark.parametrize("operator", [{"FLEET_RESYNC_SECONDS": "3"}], indirect=True, ids=["often"])
async def test_a_key_is_followed_by_another_and_the_doctor_says_what_still_needs_it(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    fleet = Shell(cluster, kube.namespace)
    early = await fleet("keys", "rotate", "learner")
    assert (early.code, "there is no key of the learner" in early.err) == (3, True)

    await kube.create(JOBS, training_job(rollout={"strategy": "Broadcast"}))
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as play:
        await play.announce(1)
        await play.until(lambda job: stable(job) == 1)
        old = await keys.of(kube)
        made = await kube.get(VERSIONS, "job-v1")
        assert (made["spec"]["signedBy"], condition(made, "Verified")) == (old.id, "True")

        answer = await fleet("keys", "rotate", "learner", "--overlap", "0", "-o", "json")
        assert answer.code == 0, answer
        new = await keys.of(kube)
        assert (answer.json["key"], answer.json["old"]) == (new.id, [old.id])
        assert answer.json["outside"] == ["r1"]
        assert new.public in answer.err
        assert new.reveal() not in answer.out + answer.err
        assert set((await known(kube)).keys[Signatory.LEARNER]) == {old.id, new.id}

        await play.announce(2)
        await play.until(lambda job: stable(job) == 2, 90)
        made = await kube.get(VERSIONS, "job-v2")
        assert made["spec"]["signedBy"] == new.id
        told = (await fleet("doctor", "-o", "json")).json["checks"]
        (line,) = [one["found"] for one in told if one["name"] == "keys of the learner"]
        assert "still needed: version 1 of job" in line  # to go back to

        own = await keys.of(kube, names.OPERATOR_KEY)
        assert (await fleet("keys", "rotate", "operator", "--overlap", "0")).code == 0
        signs = await keys.of(kube, names.OPERATOR_KEY)
        assert signs.id != own.id
        assert set((await known(kube)).keys[Signatory.OPERATOR]) == {own.id, signs.id}
        told = (await fleet("doctor", "-o", "json")).json["checks"]
        (line,) = [one["found"] for one in told if one["name"] == "keys of the operator"]
        assert "still needed: assignments it signed are valid for" in line


async def test_a_key_that_was_taken_out_meanwhile_does_not_sign(
    operator: Operator, cluster: LocalCluster, kube: Kube
) -> None:
    await kube.create(JOBS, training_job())
    old = await keys.of(kube)

    async def take_out(begun: Begun) -> None:
        def only_the_old(found: dict[str, dict[str, str]]) -> None:
            assert begun.public in found["data"]["learner"]
            found["data"]["learner"] = f"{old.public}\n"

        await edit(kube, "configmaps", names.TRUST, only_the_old)

    target = Target(kube.namespace, kubeconfig=str(cluster.kubeconfig))
    async with Client(target) as client:
        with pytest.raises(Fault, match="meanwhile: the old key signs on"):
            await rotate(client, Signatory.LEARNER, 0, 0.0, take_out)
    assert (await keys.of(kube)).id == old.id
