"""How long versions take to the robots, and what those move, as the operator's metrics tell.

They are read through the API server, which needs the right to pods/proxy and a way from it to the
pod; where either lacks, the figure is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

from fleet_cli.exits import Fault
from fleet_cli.oncall import views
from fleet_cli.oncall.doctor import OPERATOR
from fleet_contract.metrics import POLICY_LATENCY, ROBOT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_cli.kube import Kube

WITHIN = 3.0  # seconds: nobody on call waits longer for a figure
PORT = 9090
_BUCKET = re.compile(POLICY_LATENCY.name + r"_bucket\{(?P<labels>[^}]*)\} (?P<count>\S+)")
_BYTES = re.compile(ROBOT_BYTES.name + r"\{(?P<labels>[^}]*)\} (?P<count>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


async def measured(kube: Kube, job: str) -> views.Latency | None:
    """Since the operator started; None where it is not known."""
    return quantiles(await scraped(kube), job)


async def scraped(kube: Kube) -> list[str]:
    """The operator's metrics in Prometheus' text; empty where they cannot be had."""
    with contextlib.suppress(Fault, TimeoutError):
        async with asyncio.timeout(WITHIN):
            running = {"labelSelector": OPERATOR, "fieldSelector": "status.phase=Running"}
            for pod in await kube.list("Pod", **running):
                path = f"{kube.path('Pod', pod['metadata']['name'])}:{PORT}/proxy/metrics"
                return [line async for line in kube.lines(path, {})]
    return []


def moved(lines: Iterable[str], job: str) -> list[views.Moved]:
    """Bytes of all robots of a job, by direction and kind."""
    totals: dict[tuple[str, str], float] = {}
    for line in lines:
        if found := _BYTES.match(line):
            labels = dict(_LABEL.findall(found["labels"]))
            if labels.get("job") == job:
                way = labels["direction"], labels["kind"]
                totals[way] = totals.get(way, 0.0) + float(found["count"])
    return [
        views.Moved(direction=direction, kind=kind, total=total)
        for (direction, kind), total in sorted(totals.items())
    ]


def quantiles(lines: Iterable[str], job: str) -> views.Latency | None:
    """Upper bounds of median and 95th percentile, from a histogram's buckets in Prometheus' text.

    A bucket counts all that took no longer than its bound, in seconds. None where none is counted.
    """
    counts: dict[float, float] = {}
    for line in lines:
        if found := _BUCKET.match(line):
            labels = dict(_LABEL.findall(found["labels"]))
            if labels.get("job") == job:
                counts[float(labels["le"])] = float(found["count"])
    total = max(counts.values(), default=0.0)
    if not total:
        return None

    def within(share: float) -> float | None:
        bound = min(one for one, count in counts.items() if count >= share * total)
        return None if bound == float("inf") else bound

    return views.Latency(count=int(total), median=within(0.5), p95=within(0.95))
