"""Spans to an OTLP endpoint over HTTP; the one room for OpenTelemetry, entered where one is named.

Where to, how, how many may wait and how many of the traces are wanted say OpenTelemetry's own
variables. What waits is bounded, a thread of its own sends it, and an endpoint that is away costs
spans and a line in the log.
"""

from __future__ import annotations

import logging
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from fleet_runtime.tracing import FIRST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from fleet_runtime.tracing import Stage, Trail

log = logging.getLogger(__name__)


class _Ids(RandomIdGenerator):
    """Random ones, but for the first span of a trace."""

    def __init__(self) -> None:
        self.first = threading.local()

    def generate_trace_id(self) -> int:
        return int(self.first.of.trace, 16)

    def generate_span_id(self) -> int:
        of: Trail | None = self.first.of
        return super().generate_span_id() if of is None else int(of.first, 16)


class _Exporter(OTLPSpanExporter):
    """Says once that nothing arrives, and once that it does again."""

    _away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            log.warning("traces do not arrive at %s; they are dropped meanwhile", self._endpoint)
        elif self._away and not away:
            log.info("traces arrive again")
        self._away = away
        return result


class Sender:
    """One program's."""

    def __init__(self, program: str, whose: Mapping[str, str]) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # else a line a second
        ours = {
            "service.name": f"fleetloop-{program}",
            "service.version": version("fleetloop"),
            "service.instance.id": "/".join(whose.values()),
            **{f"fleetloop.{name}": value for name, value in whose.items()},
        }
        self._ids = _Ids()
        self._exporter = _Exporter()
        self._provider = TracerProvider(
            resource=Resource.create(ours).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,  # it would wait for half a minute
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("fleetloop")

    def send(
        self,
        stage: Stage,
        of: Trail,
        when: tuple[float, float],
        links: Sequence[Trail],
        said: Mapping[str, Any],
    ) -> None:
        """As `tracing.tell`."""
        first = stage in FIRST
        self._ids.first.of = of if first else None
        began, ended = (int(moment * 1e9) for moment in when)
        self._tracer.start_span(
            stage.value,
            Context() if first else set_span_in_context(NonRecordingSpan(_place(of)), Context()),
            attributes={f"fleetloop.{name}": value for name, value in said.items()},
            links=[Link(_place(other)) for other in links],
            start_time=began,
        ).end(ended)

    def close(self, within: float) -> None:
        """What waits is sent, or dropped after `within` s."""
        last = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(within)
        if last.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _place(of: Trail) -> SpanContext:
    return SpanContext(
        int(of.trace, 16), int(of.first, 16), is_remote=True, trace_flags=TraceFlags(1)
    )
