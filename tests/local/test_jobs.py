"""The Job controller sees pods end as it does on any node."""

from typing import Any

from helpers.kube import Kube, condition

JOBS = "batch/v1/jobs"


def job(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "local", "command": list(command)}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]}
    return {"metadata": {"name": name}, "spec": {"template": {"spec": pod}, **spec}}


async def test_a_job_runs_to_completion(kube: Kube) -> None:
    await kube.create(JOBS, job("good", "python3", "-c", "print('done')"))
    seen = await kube.until(JOBS, "good", lambda j: condition(j, "Complete") == "True")
    assert seen["status"]["succeeded"] == 1


async def test_an_indexed_job_tells_each_pod_its_index(kube: Kube) -> None:
    indexed = {"completionMode": "Indexed", "completions": 2, "parallelism": 2}
    await kube.create(
        JOBS, job("ranks", "sh", "-c", "test $HOSTNAME = ranks-$JOB_COMPLETION_INDEX", **indexed)
    )
    await kube.until(JOBS, "ranks", lambda j: condition(j, "Complete") == "True")


async def test_a_failed_pod_is_retried_by_a_new_one(kube: Kube) -> None:
    await kube.create(JOBS, job("bad", "sh", "-c", "exit 3", backoffLimit=1))
    seen = await kube.until(JOBS, "bad", lambda j: condition(j, "Failed") == "True", within=60)
    assert seen["status"]["failed"] == 2


async def test_a_deleted_pod_is_replaced_only_when_it_has_ended(kube: Kube) -> None:
    script = "trap 'sleep 5; exit 1' TERM; sleep 1000 & wait"
    await kube.create(
        JOBS, job("one", "sh", "-c", script, podReplacementPolicy="Failed", backoffLimit=9)
    )
    await kube.until(JOBS, "one", lambda j: j["status"].get("ready") == 1)
    pods = await kube.get("pods", labelSelector="job-name=one")
    first = pods["items"][0]["metadata"]["name"]
    await kube.delete("pods", first)
    seen = await kube.until(JOBS, "one", lambda j: j["status"].get("terminating") == 1)
    assert seen["status"].get("active", 0) == 0
    seen = await kube.until(JOBS, "one", lambda j: j["status"].get("failed") == 1)
    await kube.until_gone("pods", first)
