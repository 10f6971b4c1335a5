"""What learner and clerk serve of themselves; the only room that knows prometheus_client.

Each has a registry of its own, so two of them can live in one test. Label values are names
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


class _Served:
    """Of one job. What has labels of its own is called with their values."""

    def __init__(self, namespace: str, job: str) -> None:
        self.registry = CollectorRegistry()
        self._whose = (namespace, job)

    def _counter(self, family: m.Family) -> Callable[..., Counter]:
        return partial(Counter(*family.head, registry=self.registry).labels, *self._whose)

    def _gauge(self, family: m.Family) -> Callable[..., Gauge]:
        return partial(Gauge(*family.head, registry=self.registry).labels, *self._whose)

    def _histogram(self, family: m.Family) -> Callable[..., Histogram]:
        made = Histogram(*family.head, registry=self.registry, buckets=family.buckets)
        return partial(made.labels, *self._whose)

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


class ClerkMetrics(_Served):
    """One clerk's."""

    def __init__(self, namespace: str, job: str) -> None:
        super().__init__(namespace, job)
        self.grants = self._counter(m.GRANTS)
        self.seconds = self._histogram(m.GRANT_SECONDS)
        for verb in ("get", "create"):
            for result in m.Letting:
                self.grants(verb, result.value)


class LearnerMetrics(_Served):
    """One learner's."""

    def __init__(self, namespace: str, job: str) -> None:
        super().__init__(namespace, job)
        counter, gauge = self._counter, self._gauge
        self.experience_latency = self._histogram(m.EXPERIENCE_LATENCY)
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
