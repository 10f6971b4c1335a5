"""What a program costs: writes as the API server counts them, memory and time as the kernel."""

import asyncio
import os
import re
from collections import Counter
from pathlib import Path

from fleet_cli.local.node.api import Api

WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
OURS = frozenset({"fleettrainingjobs", "robotactors", "policyversions", "jobs", "pods", "events"})
"""What the operator may write at all."""
_COUNTER = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<count>\S+)$", re.MULTILINE)


async def writes(api: Api) -> Counter[str]:
    """So many writes the API server has answered: by resource, of those that are the operator's."""
    found: Counter[str] = Counter()
    for line in _COUNTER.finditer(await api.text("/metrics")):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line["labels"]))
        if labels["verb"] in WRITES and labels["resource"] in OURS:
            found[labels["resource"]] += int(float(line["count"]))
    return found


async def settled(api: Api, every: float = 2.0) -> Counter[str]:
    """The writes, as soon as two looks see the same."""
    last: Counter[str] | None = None
    while last != (last := await writes(api)):  # noqa: ASYNC110 - a counter tells nobody
        await asyncio.sleep(every)
    return last


def resident(pid: int) -> float:
    """MiB of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def peak(pid: int) -> float:
    """The most MiB of a process that were ever in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def burned(pid: int) -> float:
    """Seconds of a core that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
