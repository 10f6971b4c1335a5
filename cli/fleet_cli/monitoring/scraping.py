"""Whom the Prometheus operator's Prometheus scrapes. Pure."""

from typing import Any

from fleet_contract.names import Label, Role

OPERATOR = {"app.kubernetes.io/name": "fleetloop-operator"}
LEARNER = {Label.ROLE.value: Role.LEARNER.value}


def monitors() -> list[dict[str, Any]]:
    """Operator and learner; a robot is never scraped. Both are pods without a Service."""
    return [_monitor("fleetloop-operator", OPERATOR), _monitor("fleetloop-learner", LEARNER)]


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
