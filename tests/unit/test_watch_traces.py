"""Spans of an answer: sent where a collector is named, of the right length, without a user."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from penchant.serve.answering.panel import Verdict
from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Seen
from penchant.serve.watch.traces import Traces
from penchant.serve.wire.schema import Answer, LeftOut, Result

LATE = LeftOut(member="three", reason="deadline")
SEEN = Seen(
    path="/v1/score",
    role="primary",
    answer=Answer(
        request_id="r1",
        ensemble="greedy",
        version="v1",
        time_ms=1,
        degraded=True,
        left_out=[LATE],
        used_events=0,
        ignored_events=0,
        results=[Result(item="embarrassing", score=0.5)],
    ),
    verdict=Verdict(
        scores=np.zeros((1, 1), dtype=np.float32),
        probabilities=None,
        members={},
        left_out=[LATE],
        latency_ms={"one": 2.0, "two": 8.0},
    ),
    columns=None,
    user="ann",
    caller="shop",
    latency_ms=10.0,
)


@pytest.fixture(autouse=True)
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An address that takes spans over HTTP, and what it got."""
    got: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


def test_an_answer_is_a_span_with_one_below_it_for_each_member() -> None:
    spans = InMemorySpanExporter()
    traces = Traces(spans)
    traces.answered(SEEN)
    traces.close()
    found = {span.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"POST /v1/score", "member one", "member two"}
    whole = found["POST /v1/score"]
    lengths = {name: (span.end_time or 0) - (span.start_time or 0) for name, span in found.items()}
    assert lengths == {
        "POST /v1/score": 10_000_000,
        "member one": 2_000_000,
        "member two": 8_000_000,
    }
    for name in ("member one", "member two"):
        parent = found[name].parent
        assert parent is not None
        assert parent.span_id == whole.context.span_id
    attributes = dict(whole.attributes or {})
    assert attributes["penchant.left_out"] == ("three: deadline",)
    assert attributes["penchant.degraded"] is True
    told = str([dict(span.attributes or {}) for span in found.values()])
    assert "embarrassing" not in told
    assert "ann" not in told.replace("penchant", "")


def test_answers_are_traces_of_their_own() -> None:
    spans = InMemorySpanExporter()
    traces = Traces(spans)
    traces.answered(SEEN)
    traces.answered(SEEN)
    traces.close()
    assert len({span.context.trace_id for span in spans.get_finished_spans()}) == 2


@pytest.mark.parametrize(
    ("status", "code"), [(503, StatusCode.ERROR), (500, StatusCode.ERROR), (422, StatusCode.UNSET)]
)
def test_a_refusal_is_a_span_of_its_callers_trace_without_what_the_user_wrote(
    status: int, code: StatusCode
) -> None:
    """An outage must be seen where people look for it."""
    spans = InMemorySpanExporter()
    traces, path = Traces(spans), "/v1/users/ann@example.org"
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traces.refused(
        Refusal(path=path, status=status, request_id="r1", latency_ms=25.0, traceparent=parent)
    )
    traces.close()
    (span,) = spans.get_finished_spans()
    assert span.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert span.status.status_code == code
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 25_000_000
    assert dict(span.attributes or {}) == {
        "http.route": "/v1/users",
        "http.response.status_code": status,
        "penchant.request_id": "r1",
    }
    assert "ann" not in span.name


def test_without_a_collector_nothing_is_made() -> None:
    traces = Traces()
    traces.answered(SEEN)
    traces.refused(Refusal(path="/v1/score", status=422))
    traces.close()
    assert traces._provider is None


def test_spans_reach_the_collector_of_the_environment(
    collector: tuple[str, list[ExportTraceServiceRequest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    traces = Traces()
    traces.answered(SEEN)
    traces.close()
    resource = got[0].resource_spans[0]
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert sorted(names) == ["POST /v1/score", "member one", "member two"]
    service = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert service["service.name"] == "penchant"


@pytest.mark.parametrize(
    ("traceparent", "trace_id", "parent"),
    [
        (f"00-{'4b' * 16}-{'a1' * 8}-01", int("4b" * 16, 16), int("a1" * 8, 16)),
        ("00-what-ever-01", None, None),
        (f"00-{'00' * 16}-{'a1' * 8}-01", None, None),
        (None, None, None),
    ],
)
def test_a_callers_trace_goes_on_and_nonsense_begins_a_new_one(
    traceparent: str | None, trace_id: int | None, parent: int | None
) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    traces.answered(replace(SEEN, traceparent=traceparent))
    traces.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    whole, part = spans["POST /v1/score"], spans["member one"]
    assert (None if whole.parent is None else whole.parent.span_id) == parent
    assert trace_id is None or whole.context.trace_id == trace_id
    assert part.context.trace_id == whole.context.trace_id
    assert part.parent is not None
    assert part.parent.span_id == whole.context.span_id
