"""What a learner serves of itself; the only room that knows prometheus_client.

Each learner has a registry of its own, so two of them can live in one test. Label values are names
from the job's spec or from our enums, never ids: the number of series stays bounded.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from fleet_contract import metrics as m
from fleet_contract.errors import RejectCode

if TYPE_CHECKING:
    from collections.abc import Callable

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, for nobody


class LearnerMetrics:
    """One learner's. What has labels of its own is called with their values."""

    def __init__(self, namespace: str, job: str) -> None:
        self.registry = CollectorRegistry()
        whose = (namespace, job)

        def counter(family: m.Family) -> Callable[..., Counter]:
            return partial(Counter(*family.head, registry=self.registry).labels, *whose)

        def gauge(family: m.Family) -> Callable[..., Gauge]:
            return partial(Gauge(*family.head, registry=self.registry).labels, *whose)

        latency = m.EXPERIENCE_LATENCY
        self.experience_latency = partial(
            Histogram(*latency.head, registry=self.registry, buckets=latency.buckets).labels, *whose
        )
        self.episodes = counter(m.LEARNER_EPISODES)
        self.records = counter(m.LEARNER_RECORDS)
        self.rejected = counter(m.LEARNER_REJECTED)
        self.refusals = counter(m.LEARNER_BROKER_REFUSALS)()
        self.bytes = counter(m.LEARNER_BYTES)
        self.frames = gauge(m.REPLAY_FRAMES)
        self.loads = counter(m.REPLAY_LOADS)()
        self.segments = gauge(m.JOURNAL_SEGMENTS)()
        self.collected = counter(m.COLLECTED)
        self.data_wait = counter(m.DATA_WAIT)()
        gauge(m.LEARNER_BUILD)(version("fleetloop")).set(1)
        for code in RejectCode:
            self.rejected(code)  # a counter that is there from the start shows its first step
        for result in ("admitted", "repeated", "evicted"):
            self.records(result)
        for kind in ("segment", "payload", "manifest", "blob"):
            self.collected(kind)

    def serve(self, address: str, port: int) -> Callable[[], None]:
        """Serve /metrics from a thread of its own; returns what stops it. Port 0: serve none."""
        if port == 0:
            return lambda: None
        server, thread = start_http_server(port, address, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop
