"""Spans of requests and their stages reach a collector, and cost nothing where there is none."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from service import tracing
from service.app import create_app
from service.settings import Settings
from service.tracing import Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans, as OTLP over HTTP has them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> dict[str, Any]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


class Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def value_of(attribute: Any) -> Any:
    return getattr(attribute.value, attribute.value.WhichOneof("value"))


def test_a_request_and_its_stages_reach_a_collector(
    repository: Path, tmp_path: Path, collector: Collector
) -> None:
    (tmp_path / "tiny-text").symlink_to(repository / "tiny-text")
    settings = Settings(models=tmp_path, device="cpu", slots=1, otlp_endpoint=collector.address)
    with TestClient(create_app(settings)) as client:
        response = client.post(
            "/v1/models/tiny-text/predict?maps=cls",
            content=b"a",
            headers={"content-type": "text/plain", "traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
        assert response.status_code == 200
    assert set(collector.paths) == {"/v1/traces"}
    resource = collector.requests[0].resource_spans[0].resource
    assert ("service.name", "regard") in {(one.key, value_of(one)) for one in resource.attributes}
    spans = collector.spans()
    server = spans.pop("POST /v1/models/{name}/predict")
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert server.kind == server.SPAN_KIND_SERVER
    attributes = {one.key: value_of(one) for one in server.attributes}
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == "/v1/models/{name}/predict"
    assert attributes["http.response.status_code"] == 200
    assert attributes["url.path"] == "/v1/models/tiny-text/predict"
    assert attributes["regard.request_id"] == response.headers["x-request-id"]
    assert response.headers["traceparent"] == f"00-{TRACE}-{server.span_id.hex()}-01"
    assert set(spans) >= {"queue", "run", "maps"}
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (server.trace_id, server.span_id)
        assert server.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= server.end_time_unix_nano
    assert spans["queue"].end_time_unix_nano <= spans["run"].start_time_unix_nano + 1_000_000
    assert spans["run"].start_time_unix_nano <= spans["maps"].start_time_unix_nano


def test_a_stage_is_recorded_after_the_fact_as_a_child() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    parent = tracing.server_span("POST", time.time_ns(), set_span_in_context(INVALID_SPAN))
    tracing.span("queue", 1000, 3000, {"regard.model": "a"}, set_span_in_context(parent))
    parent.end()
    queue, server = exporter.get_finished_spans()
    assert (queue.name, queue.start_time, queue.end_time) == ("queue", 1000, 3000)
    assert queue.attributes == {"regard.model": "a"}
    assert queue.parent is not None
    assert server.context is not None
    assert queue.parent.span_id == server.context.span_id
    tracing.close()


def test_where_there_is_no_collector_nothing_is_recorded() -> None:
    tracing = Tracing.to(None)
    assert not tracing.enabled
    span = tracing.server_span("POST", 0, set_span_in_context(INVALID_SPAN))
    assert not span.is_recording()
    tracing.span("queue", 0, 1)
    tracing.close()


def test_a_collector_that_is_deaf_holds_the_end_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.3)
    found = Tracing.to("http://127.0.0.1:9")  # the discard port: nobody listens
    found.span("queue", 0, 1)
    began = time.monotonic()
    found.close()
    assert time.monotonic() - began < 2
    assert "spans were lost" in caplog.text
