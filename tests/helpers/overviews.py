"""A fleet for the page: a trial under way, one version taken back, robots well and not."""

from typing import Any

from fleet_cli.dashboard.overview import overview
from fleet_cli.oncall.views import Overview
from fleet_contract import metrics as m
from helpers.oncall import NOW, READY, condition, job, reference, robot, seen, version

SILENT = condition("Connected", "False", "HeartbeatLost", "Nothing was heard of it for 4 minutes.")
NASTY = "<img src=x onerror=alert(1)>"
"""What a cluster's words may hold; nothing of it may be markup."""


def page(robots: int = 24, **status: Any) -> Overview:
    """Version 12 on trial on two robots, version 11 at work; ``status`` adds to the job's."""
    rates = {4: (6, 20), 5: (9, 20), 6: (11, 20), 7: (3, 20), 8: (14, 20), 9: (15, 20)}
    rates |= {10: (17, 20), 11: (36, 40), 12: (13, 14)}
    phases = {7: "RolledBack", 12: "Staged"}
    versions = [
        version(
            number,
            phases.get(number, "Promoted"),
            cohort={"robots": 2, "episodes": episodes, "successes": successes},
            successRate=f"{successes / episodes:.2f}",
        )
        for number, (successes, episodes) in rates.items()
    ]
    trial = ["arm-00", "arm-01"]
    others = [
        robot(
            f"arm-{index:02}", runs=12 if f"arm-{index:02}" in trial else 11, spoolDepth=index % 3
        )
        for index in range(robots - 2)
    ]
    troubled = [
        robot("cell-a", SILENT, runs=9, phase="Offline", lastSeen=None, spoolDepth=140),
        robot("cell-b", condition("Stalled", "True", "SafeStop", NASTY), phase="Stalled"),
    ]
    rollout = {
        "phase": "Staged",
        "reason": "AwaitingEpisodes",
        "candidate": reference(12),
        "robots": trial,
        "startedAt": "2027-01-15T07:59:00Z",
        "episodes": 14,
        "successes": 13,
        "message": "Version 12 has 14 of 20 judged episodes in stage 1 of 2.",
    }
    steps = [{"robots": 2, "minEpisodes": 20}, {"percent": 25, "minEpisodes": 60, "soak": "10m"}]
    told = {
        "phase": "Staged",
        "stable": reference(11),
        "rollout": rollout,
        "tasks": [
            {"name": "push", "episodes": 50, "successRate": "0.91"},
            {"name": "drawer-open", "episodes": 50, "successRate": "0.88"},
        ],
    }
    owner = job(READY, spec={"rollout": {"steps": steps}}, **(told | status))
    return overview(seen(owner, *others, *troubled, *versions, now=NOW), scraped())


def scraped() -> list[str]:
    """Of an operator's metrics, in Prometheus' text."""
    whose = 'job="staged",namespace="lab"'
    counts = {
        ("sent", "experience"): 48_000_000.0,
        ("sent", "telemetry"): 310_000.0,
        ("received", "delta"): 6_100_000.0,
        ("received", "policy"): 650_000.0,
        ("received", "control"): 42_000.0,
    }
    lines = [
        f'{m.ROBOT_BYTES.name}{{direction="{way}",kind="{kind}",{of}}} {count}'
        for of in (f'{whose},robot="arm-0"', f'{whose},robot="arm-1"', 'job="x",robot="other"')
        for (way, kind), count in counts.items()
    ]
    buckets = {"1.0": 10, "2.5": 80, "5.0": 97, "+Inf": 100}
    return lines + [
        f'{m.POLICY_LATENCY.name}_bucket{{le="{bound}",{whose}}} {count}'
        for bound, count in buckets.items()
    ]
