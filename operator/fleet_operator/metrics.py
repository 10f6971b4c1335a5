"""The operator's endpoint: its own figures, and what the fleet told it; of prometheus_client alone.

A series lives as long as what it is about: the fleet's are made anew at each scrape from what is
known then, and ``forget`` ends those that are counted here for a job.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fleet_contract import metrics as m
from fleet_operator.decide.bounded import MOST
from fleet_operator.told import Sample, Told

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each one, which nobody asks for

REGISTRY = CollectorRegistry()
Gauge(*m.OPERATOR_BUILD.head, registry=REGISTRY).labels(version("fleetloop")).set(1)
RECONCILES = Counter(*m.RECONCILES.head, registry=REGISTRY)
SECONDS = Histogram(
    *m.RECONCILE_SECONDS.head, registry=REGISTRY, buckets=m.RECONCILE_SECONDS.buckets
)
QUEUE_DEPTH = Gauge(*m.QUEUE_DEPTH.head, registry=REGISTRY)
API_REQUESTS = Counter(*m.API_REQUESTS.head, registry=REGISTRY)
BROKER_REFUSALS = Counter(*m.OPERATOR_BROKER_REFUSALS.head, registry=REGISTRY)
LAST_EVENT = Gauge(*m.LAST_EVENT.head, registry=REGISTRY)
CERTIFICATE_BEGIN = Gauge(*m.CERTIFICATE_BEGIN.head, registry=REGISTRY)
CERTIFICATE_END = Gauge(*m.CERTIFICATE_END.head, registry=REGISTRY)
DEAD_WATCHES = Gauge(*m.DEAD_WATCHES.head, registry=REGISTRY)
ROLLOUTS = Counter(*m.ROLLOUTS.head, registry=REGISTRY)
GATES = Counter(*m.GATES.head, registry=REGISTRY)
POLICY_LATENCY = Histogram(
    *m.POLICY_LATENCY.head, registry=REGISTRY, buckets=m.POLICY_LATENCY.buckets
)
POLICY_STAGE = Histogram(*m.POLICY_STAGE.head, registry=REGISTRY, buckets=m.POLICY_STAGE.buckets)

STATUSES: dict[tuple[str, ...], list[Sample]] = {}
"""By namespace and job: what its status says; replaced whole, so a scrape sees all or the next."""


class Fleet(Collector):
    """What the fleet told, asked anew at each scrape, from a thread of the server's."""

    def __init__(self, told: Callable[[], Iterable[Told]]) -> None:
        self._told = told

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        made: dict[m.Family, CounterMetricFamily | GaugeMetricFamily] = {}
        for whose, samples in (*self._told(), *tuple(STATUSES.items())):
            for family, value, labels in samples:
                if family not in made:
                    kind = m.Kind.COUNTER
                    of = CounterMetricFamily if family.kind is kind else GaugeMetricFamily
                    made[family] = of(family.name, family.help, labels=family.labels)
                made[family].add_metric((*whose, *labels), max(0.0, min(value, MOST)))
        yield from made.values()


def forget(namespace: str, job: str) -> None:
    """The job is gone, and with it the series counted for it here."""
    STATUSES.pop((namespace, job), None)
    for metric in (ROLLOUTS, GATES, POLICY_LATENCY, POLICY_STAGE):
        metric.remove_by_labels({"namespace": namespace, "job": job})


def serve(address: str, port: int, told: Callable[[], Iterable[Told]]) -> None:
    """Answer scrapes in a thread; port 0 serves nothing."""
    if port:
        REGISTRY.register(Fleet(told))
        start_http_server(port, address, registry=REGISTRY)
