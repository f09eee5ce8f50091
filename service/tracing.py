"""OpenTelemetry spans of a server: off, and free, unless there is somewhere to send them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

FLUSH_SECONDS = 3.0  # at the end, for spans that were not sent yet

logger = logging.getLogger(__name__)


class Tracing:
    """Spans go to a processor, or nowhere."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        self._tracer: Tracer | None = None
        if processor is None:
            return
        # The SDK is loaded only where it is used: it takes a tenth of a second and some megabytes.
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource.create({"service.name": "regard", "service.version": version("regard")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("regard", version("regard"))

    @classmethod
    def to(cls, endpoint: str | None) -> Tracing:
        """Spans sent in batches to a collector (OTLP over HTTP) at an address without a path; None is off."""
        if endpoint is None:
            return cls()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return cls(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))

    @property
    def enabled(self) -> bool:
        return self._tracer is not None

    def server_span(self, name: str, start_ns: int, context: Context) -> Span:
        """A request's own span, which its caller ends; one that records nothing where tracing is off."""
        if self._tracer is None:
            return INVALID_SPAN
        return self._tracer.start_span(name, context, kind=SpanKind.SERVER, start_time=start_ns)

    def span(
        self,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, AttributeValue] | None = None,
        context: Context | None = None,
    ) -> None:
        """Record something after the fact, as a child of the present request's span or of `context`'s.

        Times are nanoseconds since the epoch, as `time.time_ns()` gives them.
        """
        if self._tracer is not None:
            span = self._tracer.start_span(name, context, attributes=attributes, start_time=start_ns)
            span.end(end_ns)

    def close(self) -> None:
        """Send what is left, within FLUSH_SECONDS; blocks."""
        if self._tracer is None:
            return
        # The provider itself waits for as long as its exporter tries, half a minute.
        flushing = threading.Thread(target=self._provider.shutdown, name="flush-spans", daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            logger.warning("spans were lost: the collector did not take them within %g s", FLUSH_SECONDS)
