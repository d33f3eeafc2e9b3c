"""Traces of queries with OpenTelemetry: which step took how long, what it cost, and where it failed."""

import logging
import os
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent

from nvrerank_helpers.connector import RerankCostEvent, RerankFailedEvent
from nvrerank_helpers.extras import extra
from nvrerank_helpers.tracing.spans import redact_span, tabulate_spans

if TYPE_CHECKING:
    import pandas as pd

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
UNHANDLED = "openinference.instrumentation.llama_index._handler"  # warns about each event that it does not know
SPANS_KEPT = 1000  # in memory; a query of this course takes about twenty
MOST_ATTRIBUTES = 10_000  # of a span; the SDK's default of 128 is too small for a list of 50 nodes


class Tracing:
    """Trace what LlamaIndex does until it is closed.

    Each step of a query becomes an OpenTelemetry span that follows the conventions of OpenInference. A call of
    `NVIDIARerank` also records its tokens, requests and retries, and whether it failed, even if it kept the first-stage
    order. The last 1,000 spans stay in memory. The process's own tracer provider isn't changed.

    If `endpoint` is given or `OTEL_EXPORTER_OTLP_ENDPOINT` is set, the spans also go to a collector by OTLP over HTTP,
    from a background thread. `OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER` are
    respected. A collector that is down costs spans and log lines, but no query.

    Use it in a `with` block, or call `close`. Opening another one closes this one, so you can run a cell again.

    Args:
        texts: Whether spans contain queries, passages, prompts, answers and error messages. Otherwise they contain the
            names of steps, models and errors, times, counts, and the ids and scores of nodes.
        endpoint: Address of the collector, such as `http://localhost:4318`.

    Raises:
        ExtraNotInstalled: The extra `production` is missing.
        RuntimeError: LlamaIndex is already traced by your own set-up.
    """

    _open: ClassVar["Tracing | None"] = None

    def __init__(self, *, texts: bool = False, endpoint: str | None = None) -> None:
        with extra("production"):
            from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
            from opentelemetry.sdk.trace import SpanLimits, TracerProvider
            from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        if Tracing._open:
            Tracing._open.close()
        self._instrumentor = LlamaIndexInstrumentor()
        if self._instrumentor.is_instrumented_by_opentelemetry:
            raise RuntimeError(
                "LlamaIndex is traced already, by your own set-up: use that one, or end it first with "
                "LlamaIndexInstrumentor().uninstrument()."
            )
        self._kept = _KeepingExporter()
        self._provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=MOST_ATTRIBUTES))
        self._provider.add_span_processor(SimpleSpanProcessor(_RedactingExporter(self._kept, texts=texts)))
        if endpoint or any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
            self._provider.add_span_processor(_make_collector_processor(endpoint, texts=texts))
        self._tracer = self._provider.get_tracer(__name__)
        self._instrumentor.instrument(tracer_provider=self._provider)
        get_dispatcher().add_event_handler(_NOTES)
        logging.getLogger(UNHANDLED).addFilter(_is_not_ours)
        self._closed = False
        Tracing._open = self

    def step(self, name: str) -> AbstractContextManager[Any]:
        """Put what happens in a `with` block under a span, for example one for a whole search.

        Args:
            name: It is sent unchanged, so it must not contain a query.
        """
        step: AbstractContextManager[Any] = self._tracer.start_as_current_span(name)
        return step

    @property
    def spans(self) -> list[Any]:
        """The ended spans as they were sent (`opentelemetry.sdk.trace.ReadableSpan`), the oldest first."""
        return list(self._kept.spans)

    def clear(self) -> None:
        """Forget the spans so far."""
        self._kept.spans.clear()

    def table(self) -> "pd.DataFrame":
        """Make a table of the traces so far; see `tabulate_spans`."""
        return tabulate_spans(self.spans)

    def close(self) -> None:
        """Stop tracing and send what is left to the collector. The spans stay readable; closing twice does no harm."""
        if self._closed:
            return
        self._closed, Tracing._open = True, None
        get_dispatcher().event_handlers.remove(_NOTES)
        logging.getLogger(UNHANDLED).removeFilter(_is_not_ours)
        self._instrumentor.uninstrument()
        self._provider.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _EventNotes(BaseEventHandler):
    """Records the cost or the failure of a reranking in the span of its call."""

    def handle(self, event: BaseEvent, **_: Any) -> None:
        from opentelemetry.trace import get_current_span

        span = get_current_span()
        if isinstance(event, RerankCostEvent):
            tokens = {"llm.token_count.prompt": event.tokens, "llm.token_count.total": event.tokens}
            cost = {f"rerank.{name}": getattr(event, name) for name in ("requests", "retries", "cached")}
            span.set_attributes(cost | (tokens if event.tokens else {}))
        elif isinstance(event, RerankFailedEvent):
            span.set_attribute("error.type", event.error)
            span.add_event("rerank_failed", {"error.type": event.error})


_NOTES = _EventNotes()


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Return whether a log line is about anything but the events that `_EventNotes` handles instead."""
    return not any(kind.__name__ in record.getMessage() for kind in (RerankCostEvent, RerankFailedEvent))


class _KeepingExporter:
    """Keeps the last spans in memory."""

    def __init__(self) -> None:
        self.spans: deque[Any] = deque(maxlen=SPANS_KEPT)

    def export(self, spans: Sequence[Any]) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing: the spans stay readable."""


class _RedactingExporter:
    """Redacts spans and passes them on to another exporter."""

    def __init__(self, to: Any, *, texts: bool) -> None:
        self._to, self._texts = to, texts

    def export(self, spans: Sequence[Any]) -> Any:
        return self._to.export([redact_span(span, texts=self._texts) for span in spans])

    def shutdown(self) -> None:
        self._to.shutdown()


def _make_collector_processor(endpoint: str | None, *, texts: bool) -> Any:
    with extra("production"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    # As an argument, the exporter expects the full path; it adds the path to an address from the environment.
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces") if endpoint else OTLPSpanExporter()
    return BatchSpanProcessor(_RedactingExporter(exporter, texts=texts))
