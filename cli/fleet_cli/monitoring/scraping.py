"""Whom the Prometheus operator's Prometheus scrapes. Pure."""

from typing import Any

from fleet_contract.names import Label, Role

OPERATOR = {"app.kubernetes.io/name": "fleetloop-operator"}
LEARNER = {Label.ROLE.value: Role.LEARNER.value}
CLERK = {Label.ROLE.value: Role.CLERK.value}


def monitors() -> list[dict[str, Any]]:
    """Operator, learner and clerk; a robot is never scraped. All are pods without a Service."""
    whom = {"operator": OPERATOR, "learner": LEARNER, "clerk": CLERK}
    return [_monitor(f"fleetloop-{name}", labels) for name, labels in whom.items()]


def _monitor(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            # `namespace` and `job` are those of the FleetTrainingJob.
            "podMetricsEndpoints": [{"port": "metrics", "honorLabels": True, "interval": "15s"}],
        },
    }
