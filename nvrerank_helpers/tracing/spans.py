"""Spans of OpenTelemetry: without texts if none are wanted, and as a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# All that a span may contain if texts aren't wanted. A list of what to hide isn't enough: openinference 4.6 hides
# inputs and outputs but still sends the passages, inside `llm.prompt_template.variables`.
SAFE_ATTRIBUTES = {
    "openinference.span.kind",
    "embedding.model_name",
    "llm.model_name",
    "reranker.model_name",
    "reranker.top_k",
    "exception.type",
    "error.type",
    "rerank.requests",
    "rerank.retries",
    "rerank.cached",
}
SAFE_BEGINNINGS = ("llm.token_count.",)
SAFE_ENDS = (".document.id", ".document.score")


def redact_span(span: Any, *, texts: bool) -> Any:
    """Return a copy of an ended span, without texts unless `texts` allows them.

    A reranking that kept the first-stage order gets an error status, although the call went on.
    """
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Status, StatusCode

    attributes, events, status = span.attributes, span.events, span.status
    if not texts:
        attributes = drop_texts(attributes)
        events = [Event(event.name, drop_texts(event.attributes), event.timestamp) for event in events]
    failure = _find_failure(span)
    if failure and not (texts and status.description):
        status = Status(StatusCode.ERROR, failure)
    elif not texts:
        status = Status(status.status_code)
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def drop_texts(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return only the attributes that contain no text of a query, a passage, an answer or an error.

    Example:
        >>> drop_texts({"reranker.query": "my secret", "reranker.top_k": 4, "llm.token_count.prompt": 1204})
        {'reranker.top_k': 4, 'llm.token_count.prompt': 1204}
    """
    return {
        name: value
        for name, value in (attributes or {}).items()
        if name in SAFE_ATTRIBUTES or name.startswith(SAFE_BEGINNINGS) or name.endswith(SAFE_ENDS)
    }


def _find_failure(span: Any) -> str | None:
    """Return the name of the error that a span recorded, whether it was raised or handled."""
    types = [(event.attributes or {}).get("exception.type") for event in span.events]
    name = next(filter(None, reversed(types)), None) or (span.attributes or {}).get("error.type")
    return str(name).rpartition(".")[2] if name else None


def tabulate_spans(spans: Iterable[Any]) -> "pd.DataFrame":
    """Make a table of the steps of traces, each step below the one that it is part of.

    A step that LlamaIndex takes inside another one of the same class, such as `_query` in `query`, isn't listed; its
    tokens count for the outer one.

    Returns:
        Indexed by `step`, with a dot for each level. The columns are `trace` (from 1), `kind`, `starts` (milliseconds
        after the trace began), `ms` (how long it took), `tokens` (0 if no service counted any) and `status`: `ok`, or
        the name of the error.
    """
    import pandas as pd

    by_trace: dict[int, list[Any]] = {}
    for span in sorted(spans, key=lambda span: span.start_time):
        by_trace.setdefault(span.context.trace_id, []).append(span)
    rows = [row | {"trace": n} for n, trace in enumerate(by_trace.values(), 1) for row in _make_rows(trace)]
    columns = ["step", "trace", "kind", "starts", "ms", "tokens", "status"]
    return pd.DataFrame(rows, columns=columns).set_index("step")


def _measure_depth(span: Any, by_id: Mapping[int, Any]) -> int:
    above = by_id.get(span.parent.span_id) if span.parent else None
    return _measure_depth(above, by_id) + 1 if above else 0


def _make_rows(trace: Sequence[Any]) -> list[dict[str, Any]]:
    """Make the rows of one trace, whose spans are sorted by start."""
    rows: dict[int, dict[str, Any]] = {}
    by_id = {span.context.span_id: span for span in trace}
    # Parents first: with a coarse clock, a step and its parent may have the same start.
    for span in sorted(trace, key=lambda span: _measure_depth(span, by_id)):
        above = rows.get(span.parent.span_id) if span.parent else None
        name, attributes = span.name.partition(".")[0], span.attributes or {}
        tokens = attributes.get("llm.token_count.total", 0)
        if above and above["name"] == name:
            above["tokens"] = above["tokens"] or tokens
            rows[span.context.span_id] = above
            continue
        depth, begins = above["depth"] + 1 if above else 0, (span.start_time, span.context.span_id)
        rows[span.context.span_id] = {
            "name": name,
            "depth": depth,
            "step": "· " * depth + name,
            "place": ((*above["place"], begins) if above else (begins,)),
            "kind": attributes.get("openinference.span.kind", "CHAIN").lower(),
            "starts": (span.start_time - trace[0].start_time) / 1e6,
            "ms": (span.end_time - span.start_time) / 1e6,
            "tokens": tokens,
            "status": _find_failure(span) or "ok",
        }
    shown = {row["place"]: row for row in rows.values()}  # a step that is not listed has the row of its parent
    return [shown[place] for place in sorted(shown)]
