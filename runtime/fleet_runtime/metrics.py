"""What learner and robot count; the only room that knows prometheus_client.

Each program has a registry of its own, so two of them can live in one test. Labels hold names from
the job's spec or from our enums, never ids: the number of series stays bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from fleet_contract.names import Metric

if TYPE_CHECKING:
    from collections.abc import Callable

_LATENCY = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
"""Seconds; the papers' figures (an episode sampleable, a policy applied) lie in the middle."""


class Metrics:
    """What both programs tell."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bytes = Counter(
            Metric.BYTES, "Bytes moved, by direction.", ["direction"], registry=self.registry
        )
        self.records = Counter(
            Metric.RECORDS,
            "Experience records, by what became of them.",
            ["state"],
            registry=self.registry,
        )
        self.policy_sequence = Gauge(
            Metric.POLICY_SEQUENCE,
            "Number of the policy version in use or last published.",
            registry=self.registry,
        )

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


class RobotMetrics(Metrics):
    """A robot agent's."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes = Counter(
            Metric.EPISODES,
            "Episodes by task and outcome.",
            ["task", "outcome"],
            registry=self.registry,
        )
        self.policy_latency = Histogram(
            Metric.POLICY_LATENCY,
            "Seconds from the issue of an assignment to the first episode under its policy.",
            buckets=_LATENCY,
            registry=self.registry,
        )


class LearnerMetrics(Metrics):
    """A learner's."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes = Counter(
            Metric.EPISODES,
            "Episodes admitted, by task and outcome.",
            ["task", "outcome"],
            registry=self.registry,
        )
        self.steps = Counter(Metric.LEARNER_STEPS, "Updates of the policy.", registry=self.registry)
        self.step_rate = Gauge(
            Metric.LEARNER_STEP_RATE, "Updates per second of late.", registry=self.registry
        )
        self.data_wait = Counter(
            Metric.DATA_WAIT, "Seconds spent waiting for data.", registry=self.registry
        )
        self.frames = Gauge(
            Metric.BUFFER_FRAMES,
            "Control steps in replay, by side.",
            ["side"],
            registry=self.registry,
        )
        self.experience_latency = Histogram(
            Metric.EXPERIENCE_LATENCY,
            "Seconds from an episode's end on its robot until it can be sampled.",
            buckets=_LATENCY,
            registry=self.registry,
        )
