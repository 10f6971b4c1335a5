"""A job and the Secret of its store: awaited while it is missing, exchanged while it runs."""

import pytest

from fleet_cli.local.node.api import Json
from helpers.control import JOBS, edit, training_job
from helpers.kube import Kube, condition


@pytest.mark.usefixtures("operator")
async def test_a_job_says_which_secret_it_waits_for_and_begins_when_it_comes(kube: Kube) -> None:
    def waits(job: Json) -> bool:
        return any(
            one["type"] == "LearnerReady" and '"store" not found: create it' in one["message"]
            for one in job["status"].get("conditions", [])
        )

    def secret(name: str) -> Json:
        return {"metadata": {"name": name}, "stringData": {"AWS_REGION": "eu-central-1"}}

    storage = {"url": "s3://bucket", "secretRef": {"name": "store"}}
    await kube.create(JOBS, training_job(transport={"storage": storage}))
    await kube.until(JOBS, "job", waits)
    await kube.create("secrets", secret("store"))
    await kube.until(JOBS, "job", lambda job: condition(job, "Ready") == "True")

    def renew(found: Json) -> None:
        found["spec"]["transport"]["storage"]["secretRef"]["name"] = "store-2"

    await kube.create("secrets", secret("store-2"))
    await edit(kube, JOBS, "job", renew)
    job = await kube.until("batch/v1/jobs", "job-learner-2", lambda job: job["status"].get("ready"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "store-2"}}]

    def opens(found: Json) -> bool:
        (container,) = found["spec"]["template"]["spec"]["containers"]
        return bool(container["envFrom"] == [{"secretRef": {"name": "store-2"}}])

    clerk = await kube.until("batch/v1/jobs", "job-clerk", opens)
    await kube.delete("batch/v1/jobs", "job-clerk", propagationPolicy="Foreground")
    another = await kube.until(
        "batch/v1/jobs", "job-clerk", lambda job: job["metadata"]["uid"] != clerk["metadata"]["uid"]
    )
    assert opens(another)
