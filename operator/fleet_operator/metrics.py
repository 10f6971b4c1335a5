"""The operator's own figures for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from fleet_contract.names import Metric

REGISTRY = CollectorRegistry()
RECONCILES = Counter(
    Metric.RECONCILES,
    "Reconciles by kind and how they ended.",
    ["kind", "result"],
    registry=REGISTRY,
)
SECONDS = Histogram(
    Metric.RECONCILE_SECONDS,
    "Seconds a reconcile took.",
    ["kind"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LAST_EVENT = Gauge(
    Metric.LAST_EVENT, "When the last event came from the API server.", registry=REGISTRY
)
ROBOT_LAST_SEEN = Gauge(
    Metric.ROBOT_LAST_SEEN,
    "When the robot's last heartbeat came, as of its last reconcile.",
    ["namespace", "job", "robot"],
    registry=REGISTRY,
)
POLICY_SEQUENCE = Gauge(
    Metric.POLICY_SEQUENCE,
    "Sequence of the version the fleet is assigned.",
    ["namespace", "job", "role"],
    registry=REGISTRY,
)


def serve(address: str, port: int) -> None:
    """Answer scrapes in a thread; port 0 serves nothing."""
    if port:
        start_http_server(port, address, registry=REGISTRY)
