"""OpenTelemetry: a span for each answer, with one below it for each member that answered, and one
for each refusal.

Nothing is sent unless the standard variables name a collector, such as
`OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318`; `OTEL_TRACES_SAMPLER` and `OTEL_SERVICE_NAME`
hold too. A request with a `traceparent` continues its caller's trace. A span carries ids of the
request, the version and the members, nothing of a user.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Seen
from penchant.serve.watch.meters import route_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Traces"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NS_PER_MS = 1_000_000


class Traces:
    """Emits spans (`observe.Observer`).

    Spans wait in a bounded queue, and a thread sends them: a collector that is slow or gone costs
    spans, never an answer.

    Args:
        exporter: where spans go; by default over OTLP to the collector of the environment, and
            nowhere where that names none.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        self._provider = _provider(exporter)
        self._tracer = None if self._provider is None else self._provider.get_tracer("penchant")

    def answered(self, seen: Seen) -> None:
        """Emit the spans of an answer, which ends now."""
        if self._tracer is None:
            return
        from opentelemetry import trace

        outside = _outside(seen.traceparent)
        answer = seen.answer
        end_ns = time.time_ns()
        start_ns = end_ns - round(seen.latency_ms * _NS_PER_MS)
        whole = self._tracer.start_span(
            f"POST {seen.path}",
            context=outside,
            kind=trace.SpanKind.SERVER,
            start_time=start_ns,
            attributes={
                "http.route": seen.path,
                "penchant.request_id": answer.request_id,
                "penchant.ensemble": answer.ensemble,
                "penchant.version": answer.version,
                "penchant.role": seen.role,
                "penchant.results": len(answer.results),
                "penchant.degraded": answer.degraded,
                "penchant.left_out": [f"{one.member}: {one.reason}" for one in answer.left_out],
            },
        )
        within = trace.set_span_in_context(whole, outside)
        for name, latency_ms in seen.verdict.latency_ms.items():
            # When a member was asked is not told; what counts is how long it took.
            part = self._tracer.start_span(
                f"member {name}",
                context=within,
                kind=trace.SpanKind.CLIENT,
                start_time=start_ns,
                attributes={"penchant.member": name, "penchant.version": answer.version},
            )
            part.end(min(start_ns + round(latency_ms * _NS_PER_MS), end_ns))
        whole.end(end_ns)

    def refused(self, refusal: Refusal) -> None:
        """Emit a span of an answer that is an error, which ends now; it has no members below."""
        if self._tracer is None:
            return
        from opentelemetry import trace

        route, end_ns = route_of(refusal.path), time.time_ns()
        span = self._tracer.start_span(
            f"refused {route}",
            context=_outside(refusal.traceparent),
            kind=trace.SpanKind.SERVER,
            start_time=end_ns - round(refusal.latency_ms * _NS_PER_MS),
            attributes={"http.route": route, "http.response.status_code": refusal.status},
        )
        if refusal.request_id is not None:
            span.set_attribute("penchant.request_id", refusal.request_id)
        if refusal.status >= 500:  # what the client did wrong is no error of the service
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_ns)

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        """What asks no member has no span."""

    def close(self) -> None:
        """Send what waits and stop."""
        if self._provider is not None:
            self._provider.shutdown()


def _outside(traceparent: str | None) -> Context:
    """The caller's trace; where it names none, or none that is well formed, a new one."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _provider(exporter: SpanExporter | None) -> TracerProvider | None:
    if exporter is None and not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    # Not the process's global provider: Ray has uses of its own for that.
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "penchant"}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
