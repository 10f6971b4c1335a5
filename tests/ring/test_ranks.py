"""A learner of two ranks, made by the operator: two pods that train and publish as one."""

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_contract import names
from fleet_contract.names import Label, Role
from helpers.kube import Kube, condition
from helpers.ring import JOBS, SLOW, job, watching

pytestmark = pytest.mark.usefixtures("operator")


async def test_two_pods_train_one_policy_and_publish_it(
    cluster: LocalCluster, kube: Kube, dataset: str
) -> None:
    made = job(dataset, learner={"replicas": 2}, robots={"simulated": {"replicas": 0}})
    made["spec"]["offline"]["steps"] = 20
    async with watching(cluster.nats_url, kube) as said:
        await kube.create(JOBS, made)
        await kube.until(JOBS, "ring", lambda j: condition(j, "LearnerReady") == "True", SLOW)
        await said.until("second version", lambda: said.announced[-1] > 1)
    pods = [
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        for pod in (await kube.get("pods"))["items"]
        if pod["metadata"]["labels"].get(Label.ROLE) == Role.LEARNER
    ]
    assert sorted(pods) == ["0", "1"]
    assert set(said.epochs) == {0, 1}  # one claim: nothing had to start again
    await kube.delete(JOBS, "ring")
    await kube.until_gone("batch/v1/jobs", names.learner_job("ring", 1), SLOW)
