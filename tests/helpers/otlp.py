"""Where traces go: a server that takes OTLP over HTTP, and what came to it."""

import asyncio
import contextlib
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from fleet_runtime.tracing import Stage, Trail


class Span(NamedTuple):
    """One that came."""

    name: str
    trail: Trail
    """Its trace, and the span it hangs from: itself where it is the first."""
    id: str
    began: float
    ended: float
    links: list[Trail]
    said: dict[str, Any]
    whose: dict[str, Any]


class Collector:
    """What has come so far."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.url = ""
        self._news = threading.Condition()

    def take(self, body: bytes) -> None:
        said = ExportTraceServiceRequest.FromString(body)
        with self._news:
            for of in said.resource_spans:
                whose = _values(of.resource.attributes)
                self.spans += [_span(one, whose) for scope in of.scope_spans for one in scope.spans]
            self._news.notify_all()

    def until(self, holds: Callable[[list[Span]], object], within: float = 60.0) -> list[Span]:
        """All that came, once that is as awaited; blocks."""
        with self._news:
            assert self._news.wait_for(lambda: holds(self.spans), within), (
                f"not as awaited after {within} s: {sorted({one.name for one in self.spans})}"
            )
            return list(self.spans)

    async def awaited(self, holds: Callable[[list[Span]], object], within: float) -> list[Span]:
        return await asyncio.to_thread(self.until, holds, within)


class Way(NamedTuple):
    """One from an episode to a version that robots took up."""

    episode: Trail
    version: Trail


EPISODE_STAGES = {Stage.EPISODE, Stage.UPLOAD, Stage.INGEST, Stage.RECEIPT, Stage.TRAIN}
VERSION_STAGES = {Stage.VERSION, Stage.PUBLISH, Stage.ASSIGN, Stage.FETCH, Stage.SWAP}


def whole_ways(spans: Iterable[Span]) -> list[Way]:
    """Those of which no span and no link is missing, the version's own episodes included."""
    told: dict[Trail, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
    for one in spans:
        told[one.trail][one.name].append(one)
    acted = {link for stages in told.values() for one in stages["episode"] for link in one.links}
    return [
        Way(episode, version)
        for episode, stages in told.items()
        if stages.keys() >= EPISODE_STAGES
        for train in stages[Stage.TRAIN]
        for version in train.links
        if told[version].keys() >= VERSION_STAGES
        and version in acted
        and any(episode in one.links for one in told[version][Stage.VERSION])
    ]


def _values(said: list[KeyValue]) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in said}


def _span(one: Any, whose: dict[str, Any]) -> Span:
    first = one.parent_span_id or one.span_id
    return Span(
        name=one.name,
        trail=Trail(one.trace_id.hex(), first.hex()),
        id=one.span_id.hex(),
        began=one.start_time_unix_nano / 1e9,
        ended=one.end_time_unix_nano / 1e9,
        links=[Trail(link.trace_id.hex(), link.span_id.hex()) for link in one.links],
        said=_values(one.attributes),
        whose=whose,
    )


@contextlib.contextmanager
def collecting(at: socket.socket | None = None) -> Iterator[Collector]:
    """On loopback, at a free port or at this socket, which is bound and refuses until now."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    address = at.getsockname() if at else ("127.0.0.1", 0)
    server = ThreadingHTTPServer(address, Handler, bind_and_activate=at is None)
    server.daemon_threads = True
    if at is not None:
        server.socket.close()
        server.socket, server.server_port = at, address[1]
        server.server_activate()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
