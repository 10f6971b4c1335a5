"""``fleet docs alerts``: every alert as Markdown, from the contract's list."""

from collections.abc import Iterator

from fleet_contract.alerts import ALERTS, Alert

INTRODUCTION = """\
<!-- Made by `make generate` from crds/fleet_contract/alerts.py; edit that. -->
# Alerts

One list, printed for whom it may concern, into `manifests/components/monitoring`:

| file | for |
|---|---|
| `alerts.yaml` | the Prometheus operator: a PrometheusRule |
| `monitors.yaml` | the same, to scrape operator, learners and clerks: three PodMonitors |
| `prometheus/alerts.yaml` | a plain Prometheus, under `rule_files` |
| `grafana/alerts.yaml` | a Grafana that evaluates by itself, in `provisioning/alerting` |
| `dashboards/*.json` | Grafana ([dashboards.md](dashboards.md)) |

`kustomization.yaml` there is a component: name it in an overlay's `components`, beside `../base` in
its `resources` ([install.md](install.md)). Either Prometheus or Grafana should evaluate, not both;
Grafana's rules ask the data source of UID `prometheus`. `runbook_url` is a path in this repository:
`python -m fleet_cli.monitoring FOLDER --runbooks URL` (with the `dev` extra) prints all files with
the address at which you publish [runbooks.md](runbooks.md).

`severity` is `critical` (somebody, now), `warning` (somebody, today) or `info` (nobody has to).
Thresholds are numbers of crds/fleet_contract/alerts.py. A counter that starts above zero shows no
increase: what happened before the operator was first scraped fires nothing.

| alert | severity | after | says |
|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    return (
        INTRODUCTION
        + "".join(_row(one) for one in ALERTS)
        + "\n## Expressions\n\n"
        + "\n".join(_all())
    )


def _row(alert: Alert) -> str:
    link = f"[{alert.name}](runbooks.md#{alert.anchor})"
    return f"| {link} | {alert.severity} | {alert.lasts} | {_plain(alert)} |\n"


def _plain(alert: Alert) -> str:
    return alert.summary.replace("{{ $labels.", "*").replace(" }}", "*")


def _all() -> Iterator[str]:
    for one in ALERTS:
        yield from (f"{one.name}:", "", "```promql", one.expr, "```", "")
