"""Faults of a fleet, and exactly the alerts they fire: promtool judges what the operator serves."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fleet_cli.local import prometheus
from fleet_cli.monitoring.rules import counted
from fleet_contract import metrics as m
from fleet_contract.alerts import ALERTS
from fleet_contract.resources import RolloutPhase
from fleet_operator import metrics
from helpers.fleets import MINUTE, NAMESPACE, TURN, Job, scrape

ROOT = Path(__file__).parents[2]
RULES = ROOT / "manifests" / "components" / "monitoring" / "prometheus" / "alerts.yaml"
FAULT, END = 180, 240  # minutes
ASKED = {
    name.removesuffix("_bucket") for one in ALERTS for name in re.findall(r"fleet_\w+", one.expr)
}


def nothing(_: Job, __: int) -> None:
    pass


def one_silent(job: Job, _: int) -> None:
    job.robots[0].heard = False


def most_silent(job: Job, _: int) -> None:
    job.robots[0].heard = job.robots[1].heard = False


def one_behind(job: Job, _: int) -> None:
    job.robots[0].follows = False


def all_behind(job: Job, _: int) -> None:
    for one in job.robots:
        one.follows = False


def success_falls(job: Job, _: int) -> None:
    for one in job.robots:
        one.won, one.lost = 1, 3


def takeovers(job: Job, _: int) -> None:
    for one in job.robots:
        one.needed = 2


def trips(job: Job, _: int) -> None:
    job.robots[0].trips = 2


def falls_back(job: Job, minute: int) -> None:
    job.robots[0].fallbacks = int(minute == END - 2 * TURN)


def spool_fills(job: Job, _: int) -> None:
    job.robots[0].spool_free = 0.1


def gives_up(job: Job, minute: int) -> None:
    job.robots[0].given_up = int(minute == END - 2 * TURN)


def bad_records(job: Job, minute: int) -> None:
    job.rejected = int(minute == END - 2 * TURN)


def slow_ingest(job: Job, _: int) -> None:
    job.latency = 100.0


def kept_out(job: Job, _: int) -> None:
    job.grants = {"granted": 2, "unavailable": 3}


def nothing_settled(job: Job, _: int) -> None:
    for one in job.robots:
        one.settles = False


def learner_dies(job: Job, minute: int) -> None:
    job.learns = job.publishes = False
    job.phase = RolloutPhase.IDLE
    nothing_settled(job, minute)


def goal_reached(job: Job, minute: int) -> None:
    job.complete = True
    learner_dies(job, minute)


def suspended(job: Job, minute: int) -> None:
    job.suspended = True
    learner_dies(job, minute)
    most_silent(job, minute)


def publishes_nothing(job: Job, _: int) -> None:
    job.publishes = False
    job.phase = RolloutPhase.IDLE


def rollout_hangs(job: Job, _: int) -> None:
    job.phase, job.step_began = RolloutPhase.GATED, (FAULT - 10) * MINUTE


def rollout_freezes(job: Job, _: int) -> None:
    job.phase = RolloutPhase.FROZEN


def taken_back(job: Job, minute: int) -> None:
    job.rolled_back = int(minute == END - 2 * TURN)


def stalls(job: Job, _: int) -> None:
    job.stalled = "StorageFailed"


def many_bytes(job: Job, _: int) -> None:
    job.robots[0].nbytes = 240_000_000


FAULTS: dict[Callable[[Job, int], None], set[str]] = {
    nothing: set(),
    goal_reached: set(),
    suspended: set(),
    one_silent: {"FleetRobotSilent"},
    most_silent: {"FleetRobotSilent", "FleetSilent"},
    one_behind: {"FleetRobotBehind"},
    all_behind: {"FleetRobotBehind", "FleetStale"},
    success_falls: {"FleetSuccessFalling"},
    takeovers: {"FleetInterventionsRising"},
    trips: {"FleetGuardTrips"},
    falls_back: {"FleetRobotFellBack"},
    spool_fills: {"FleetSpoolFilling"},
    gives_up: {"FleetExperienceLost"},
    bad_records: {"FleetExperienceRejected"},
    slow_ingest: {"FleetIngestLag"},
    kept_out: {"FleetNotLetIn"},
    nothing_settled: {"FleetIngestLag"},
    learner_dies: {"FleetIngestLag", "FleetLearnerSilent"},
    publishes_nothing: {"FleetPublishStalled"},
    rollout_hangs: {"FleetRolloutStuck"},
    rollout_freezes: {"FleetRolloutStuck"},
    taken_back: {"FleetRolledBack"},
    stalls: {"FleetJobStalled"},
    many_bytes: {"FleetBytesOverBudget"},
}
OPERATORS = {
    *("FleetOperatorDown", "FleetOperatorZombie"),
    *("FleetCertificateOld", "FleetCertificateOver"),
}


def lived() -> list[dict[str, str]]:
    """Every fault in a job of its own, beside each other; promtool's input series."""
    jobs = {Job(fault.__name__.replace("_", "-")): fault for fault in FAULTS}
    series: dict[str, list[str]] = {}
    try:
        for minute in range(0, END + 1, TURN):
            for job, fault in jobs.items():
                if minute >= FAULT:
                    fault(job, minute)
                job.live(minute)
            for name, value in scrape(list(jobs), minute, ASKED):
                mine = series.setdefault(name, [])
                mine += ["_"] * (minute // TURN - len(mine)) + [f"{value:g}"]
    finally:
        for job in jobs:
            metrics.forget(NAMESPACE, job.name)
    return [{"series": name, "values": " ".join(values)} for name, values in series.items()]


def judge(folder: Path, test: Mapping[str, object]) -> None:
    """``promtool test rules``; fails with what it says."""
    file = folder / "tests.json"
    asked = {"rule_files": [str(RULES)], "evaluation_interval": test["interval"], "tests": [test]}
    file.write_text(json.dumps(asked))
    command = [str(prometheus.resolve()["promtool"]), "test", "rules", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def samples(expr: str, found: list[dict[str, str]], at: str = f"{END}m") -> dict[str, object]:
    labels = ["{" + ", ".join(f'{k}="{v}"' for k, v in one.items()) + "}" for one in found]
    return {
        "expr": expr,
        "eval_time": at,
        "exp_samples": [{"labels": one, "value": 1} for one in labels],
    }


def told(name: str, at: str, *whose: dict[str, str]) -> dict[str, object]:
    """What people read of an alert."""
    alert = next(one for one in ALERTS if one.name == name)
    fired = []
    for labels in whose:
        summary = alert.summary
        for label, value in labels.items():
            summary = summary.replace("{{ $labels." + label + " }}", value)
        words = {"summary": summary, "runbook_url": f"docs/runbooks.md#{alert.anchor}"}
        fired.append(
            {"exp_labels": labels | {"severity": alert.severity.value}, "exp_annotations": words}
        )
    return {"alertname": name, "eval_time": at, "exp_alerts": fired}


def test_the_page_says_how_many_faults_there_are() -> None:
    count = sum(map(bool, FAULTS.values()))
    assert f"Each of {count} faults of a fleet" in (ROOT / "docs" / "holds.md").read_text()


def test_each_fault_fires_exactly_its_alerts(tmp_path: Path) -> None:
    where = {
        one.name: [
            {"namespace": NAMESPACE, "job": fault.__name__.replace("_", "-")}
            for fault, fired in FAULTS.items()
            if one.name in fired
        ]
        for one in ALERTS
        if one.name not in OPERATORS
    }
    assert all(where.values()), "a fault for every alert"
    silent = [{"namespace": NAMESPACE, "job": "one-silent", "robot": "one-silent-0"}]
    silent += [{**silent[0], "job": "most-silent", "robot": f"most-silent-{n}"} for n in (0, 1)]
    firing = 'min by (alertname, namespace, job) (ALERTS{alertstate="firing"})'
    fired = [{"alertname": name} | at for name, all_ in where.items() for at in all_]
    test = {
        "interval": f"{TURN}m",
        "input_series": lived(),
        "alert_rule_test": [told("FleetRobotSilent", f"{END}m", *silent)],
        "promql_expr_test": [
            samples(firing, [], f"{FAULT - TURN}m"),
            samples(firing, fired),
            # Grafana asks otherwise, and finds the same.
            *(
                samples(f"min by (namespace, job) ({counted(one.expr)})", where[one.name])
                for one in ALERTS
                if one.name in where
            ),
        ],
    }
    judge(tmp_path, test)


RUNS = 'fleet_operator_build_info{version="1"}'
WORKS = 'fleet_operator_reconciles_total{kind="FleetTrainingJob",result="ok"}'
DEAF = m.DEAD_WATCHES.name


LIFE = 90  # days


@pytest.mark.parametrize(
    ("day", "fired"),
    [
        (45, []),  # the next one is due
        (67, []),
        (68, ["FleetCertificateOld"]),
        (86, ["FleetCertificateOld", "FleetCertificateOver"]),
        (91, ["FleetCertificateOld", "FleetCertificateOver"]),
    ],
)
def test_a_certificate_that_none_follows_is_told_of_before_it_is_over(
    day: int, fired: list[str], tmp_path: Path
) -> None:
    steps = day * 24
    begin, end = (
        f'{one.name}{{certificate="shown"}}' for one in (m.CERTIFICATE_BEGIN, m.CERTIFICATE_END)
    )
    series = {begin: f"0x{steps + 3}", end: f"{LIFE * 24 * 3600}x{steps + 3}"}
    firing = 'min by (alertname, certificate) (ALERTS{alertstate="firing"})'
    found = [{"alertname": one, "certificate": "shown"} for one in fired]
    series |= {RUNS: f"1x{steps + 3}", WORKS: f"0+1x{steps + 3}"}
    test = {
        "interval": "1h",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [samples(firing, found, f"{steps + 2}h")],
    }
    judge(tmp_path, test)


@pytest.mark.parametrize(
    ("series", "fired"),
    [
        ({RUNS: "1x30", WORKS: "0+1x30", DEAF: "0x30"}, []),
        ({RUNS: "1x10", WORKS: "0+1x10", DEAF: "0x10"}, ["FleetOperatorDown"]),
        ({RUNS: "1x30", WORKS: "0+1x15 15x15", DEAF: "0x30"}, ["FleetOperatorZombie"]),
        ({RUNS: "1x30", WORKS: "0+1x30", DEAF: "0x15 1x15"}, ["FleetOperatorZombie"]),
    ],
    ids=["at work", "gone", "idle", "deaf"],
)
def test_an_operator_that_is_gone_or_does_nothing_is_told_of(
    series: dict[str, str], fired: list[str], tmp_path: Path
) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            samples(
                'min by (alertname) (ALERTS{alertstate="firing"})',
                [{"alertname": one} for one in fired],
                "30m",
            )
        ],
    }
    judge(tmp_path, test)
