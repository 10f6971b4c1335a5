"""The alerts as Prometheus, its operator and Grafana want them. Pure."""

from typing import Any

from fleet_contract.alerts import ALERTS, Alert

Manifest = dict[str, Any]
GROUP = "fleetloop"
DATASOURCE = "prometheus"
"""UID of the data source that Grafana's rules ask; a dashboard lets one choose."""
RUNBOOKS = "docs/runbooks.md"
"""Of this repository; whoever publishes the page gives its address in place of it."""


def group(runbooks: str = RUNBOOKS) -> Manifest:
    """A rules file's ``groups``, with one."""
    return {"groups": [{"name": GROUP, "rules": [_rule(alert, runbooks) for alert in ALERTS]}]}


def prometheus_rule(runbooks: str = RUNBOOKS) -> Manifest:
    """The same for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": GROUP},
        "spec": group(runbooks),
    }


def grafana(runbooks: str = RUNBOOKS) -> Manifest:
    """A file for Grafana's ``provisioning/alerting``, for who lets Grafana evaluate."""
    rules = [_grafana_rule(alert, runbooks) for alert in ALERTS]
    one = {"orgId": 1, "name": GROUP, "folder": "Fleetloop", "interval": "1m", "rules": rules}
    return {"apiVersion": 1, "groups": [one]}


def _words(alert: Alert, runbooks: str) -> Manifest:
    return {
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": alert.summary,
            "runbook_url": f"{runbooks}#{alert.anchor}",
        },
    }


def _rule(alert: Alert, runbooks: str) -> Manifest:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasts,
        **_words(alert, runbooks),
    }


def counted(expr: str) -> str:
    """1 for each series that the expression answers with, whatever its value.

    Grafana compares values with a threshold, and what Prometheus alerts on may well be 0.
    """
    return f"({expr}\n) >= bool -Inf"


def _grafana_rule(alert: Alert, runbooks: str) -> Manifest:
    def query(ref: str, source: str, **model: Any) -> Manifest:
        return {
            "refId": ref,
            "datasourceUid": source,
            "relativeTimeRange": {"from": 600, "to": 0},
            "model": {"refId": ref, **model},
        }

    above = {"evaluator": {"type": "gt", "params": [0]}}
    return {
        "uid": alert.anchor,
        "title": alert.name,
        "condition": "B",
        "data": [
            query("A", DATASOURCE, expr=counted(alert.expr), instant=True, range=False),
            query("B", "__expr__", type="threshold", expression="A", conditions=[above]),
        ],
        "for": alert.lasts,
        # An expression without an answer is one that does not hold.
        "noDataState": "OK",
        "execErrState": "Error",
        **_words(alert, runbooks),
    }
