"""What a real Prometheus sees of a ring at work, through the endpoints of operator and learner."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from fleet_contract import metrics as m
from fleet_contract import names
from fleet_contract.alerts import ALERTS
from fleet_contract.dashboards import DASHBOARDS, Panel, asked
from fleet_contract.names import Env, Label, Role
from fleet_contract.queries import QUERIES
from helpers.answers import page
from helpers.control import edit
from helpers.kube import Kube
from helpers.prometheus import Prometheus, Series, finite, linted, recent, scraped, scraping
from helpers.ring import JOB, JOBS, ROBOTS, SLOW, job

MAY_BE_ZERO = {
    m.DEAD_WATCHES,
    m.ROLLOUT_STEP,  # there is one, and the first is 0
    m.ROLLOUT_ROBOTS,
    m.ROLLOUT_EPISODES,
    m.ROBOT_SUSPENDED,
    m.QUEUE_DEPTH,  # what is due is worked on at once
    m.GATES,  # this job asks for none
    m.GUARD_TRIPS,
    m.FALLBACKS,
    m.ROBOT_PROBATION,
    m.ROBOT_REFUSALS,
    m.ROBOT_SPOOL,
    m.ROBOT_UNRECEIPTED,
    m.ROBOT_INTERVENTIONS,
    m.LEARNER_REJECTED,
    m.LEARNER_BROKER_REFUSALS,
    m.OPERATOR_BROKER_REFUSALS,
    m.DATA_WAIT,
    m.REPLAY_LOADS,
    m.COLLECTED,
}
ELSEWHERE = {m.GRANTS, m.GRANT_SECONDS, m.CERTIFICATE_BEGIN, m.CERTIFICATE_END}
"""This ring has no clerk, and nobody sees to the certificate of its NATS."""
TIMESTAMPS = {family for family in m.FAMILIES if family.name.endswith("_timestamp_seconds")}

RULES = Path(__file__).parents[2] / "manifests/components/monitoring/prometheus/alerts.yaml"
WITHIN = "1m"
"""For Grafana's $__rate_interval: a ring has not turned for longer."""

MEAN_LATENCY = f"{m.EXPERIENCE_LATENCY.name}_sum / {m.EXPERIENCE_LATENCY.name}_count"

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
def told() -> Mapping[Env, str]:
    return {Env.LOG_FORMAT: "json"}


async def log(kube: Kube, selector: str) -> list[Json]:
    """A pod's records; each line is one."""
    (pod,) = (await kube.get("pods", labelSelector=selector))["items"]
    return [json.loads(line) for line in (await kube.logs(pod["metadata"]["name"])).splitlines()]


async def every_line_says_whose_it_is(kube: Kube) -> None:
    robot = names.simulated_robot(JOB, 0)
    said = {
        "operator": await log(kube, "app.kubernetes.io/name=fleetloop-operator"),
        "learner": await log(kube, f"{Label.ROLE}={Role.LEARNER}"),
        "robot": await log(kube, f"{Label.ROBOT}={robot}"),
    }
    for program, records in said.items():
        whose = {(one["program"], one["namespace"]) for one in records}
        assert whose <= {(program, kube.namespace)}
        assert {one.get("job") for one in records} <= {JOB, None}
    promoted = [one for one in said["operator"] if "promoted" in one["message"]]
    assert promoted
    assert {one["job"] for one in promoted} == {JOB}
    out = [one for one in said["learner"] if " is out, " in one["message"]]
    assert [one["version"] for one in out] == sorted({one["version"] for one in out})
    drives = [one for one in said["robot"] if one["message"].endswith(" drives")]
    assert drives
    for one in drives:
        assert one["robot"] == robot
        assert one["message"] == f"version {one['version']} drives"


async def address(kube: Kube, selector: str) -> str:
    """Where the one pod serves metrics."""
    (pod,) = (await kube.get("pods", labelSelector=selector))["items"]
    ports = [port for one in pod["spec"]["containers"] for port in one["ports"]]
    (port,) = (one["containerPort"] for one in ports if one["name"] == "metrics")
    return f"{pod['status']['podIP']}:{port}"


def sensible(family: m.Family, found: list[Series]) -> bool:
    """A figure that could be one of a fleet at work for some seconds."""
    if family in TIMESTAMPS:
        return recent(found)
    values = [one.value for one in found]
    positive = family in MAY_BE_ZERO or any(value > 0 for value in values)
    return finite(found) and min(values) >= 0 and positive


async def is_there(prometheus: Prometheus, kube: Kube, family: m.Family) -> None:
    name = f"{family.name}_count" if family.buckets else family.name
    mine = f'{{namespace="{kube.namespace}", job="{JOB}"}}' if "job" in family.labels else ""
    found = await prometheus.until(name + mine, lambda all_: sensible(family, all_), SLOW)
    target = {"__name__", "job", "instance"}
    for one in found:
        assert one.labels.keys() - target == set(family.labels) - target


async def shown(prometheus: Prometheus, kube: Kube, panel: Panel) -> list[Series]:
    """What a panel shows; one that may be empty is asked all the same."""
    promql = asked(panel.promql, WITHIN, kube.namespace, JOB)
    if panel.quiet:
        return await prometheus.ask(promql)
    return await prometheus.until(promql, finite, SLOW)


async def every_panel_answers(prometheus: Prometheus, kube: Kube) -> None:
    async with asyncio.TaskGroup() as together:
        answers = {
            board: {
                panel: together.create_task(shown(prometheus, kube, panel))
                for panel in board.panels
            }
            for board in DASHBOARDS
        }
    if path := os.environ.get("FLEET_ANSWERS"):
        found = {
            board: {panel: task.result() for panel, task in panels.items()}
            for board, panels in answers.items()
        }
        await asyncio.to_thread(Path(path).write_text, page(found))


async def every_alert_is_evaluated(prometheus: Prometheus) -> None:
    """And none of a fleet at work fires that has to hold for a while."""
    async with asyncio.timeout(SLOW):
        while "unknown" in (health := await prometheus.rules()).values():  # noqa: ASYNC110 - it never tells
            await asyncio.sleep(0.5)
    assert health == {one.name: "ok" for one in ALERTS}
    lasting = "|".join(one.name for one in ALERTS if one.lasts != "0m")
    assert await prometheus.ask(f'ALERTS{{alertname=~"{lasting}", alertstate="firing"}}') == []


async def test_every_metric_is_there_and_a_robots_series_end_with_it(
    cluster: LocalCluster, kube: Kube, dataset: str, tmp_path: Path
) -> None:
    await kube.create(JOBS, job(dataset))

    def on_a_checked_version(found: Json) -> bool:
        return int((found["status"].get("stable") or {}).get("sequence", 0)) > 1

    await kube.until(JOBS, JOB, on_a_checked_version, SLOW)
    targets = {
        "operator": await address(kube, "app.kubernetes.io/name=fleetloop-operator"),
        "learner": await address(kube, f"{Label.ROLE}={Role.LEARNER}"),
    }
    async with scraping(tmp_path, targets, RULES) as prometheus:
        async with asyncio.TaskGroup() as together:
            for family in (one for one in m.FAMILIES if one not in ELSEWHERE):
                together.create_task(is_there(prometheus, kube, family))
            for query in QUERIES:
                together.create_task(prometheus.until(query.promql, finite, SLOW))
            together.create_task(every_panel_answers(prometheus, kube))
            together.create_task(every_alert_is_evaluated(prometheus))
        since = {one.labels["since"]: one.value for one in await prometheus.ask(MEAN_LATENCY)}
        assert since["step"] > since["episode"]
        for target in targets.values():
            assert await linted(await scraped(target)) == ""
        await every_line_says_whose_it_is(kube)

        connected = f'{m.ROBOT_CONNECTED.name}{{namespace="{kube.namespace}"}}'
        robots = {one.labels["robot"] for one in await prometheus.ask(f"{connected} == 1")}
        stays, goes = (names.simulated_robot(JOB, index) for index in range(2))
        assert robots == {stays, goes}

        def one_robot(found: Json) -> None:
            found["spec"]["robots"]["simulated"]["replicas"] = 1

        await edit(kube, JOBS, JOB, one_robot)
        await kube.until_gone(ROBOTS, goes, SLOW)
        await prometheus.until(f'{{robot="{goes}"}}', lambda found: not found, SLOW)
        assert await prometheus.ask(f'{connected[:-1]}, robot="{stays}"}}')

        await kube.delete(JOBS, JOB)
        mine = f'{{namespace="{kube.namespace}", __name__!~"up|scrape_.*"}}'
        await prometheus.until(mine, lambda found: not found, SLOW)
