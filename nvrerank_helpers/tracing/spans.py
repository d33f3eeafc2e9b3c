"""What spans of OpenTelemetry tell: without texts where none are wanted, and as a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What a span may say without texts. A list of what is hidden would not do: openinference 4.6 hides inputs and outputs
# and still sends the passages, inside `llm.prompt_template.variables`.
WORDLESS = {
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
WORDLESS_BEGINNINGS = ("llm.token_count.",)
WORDLESS_ENDS = (".document.id", ".document.score")


def told(span: Any, *, texts: bool) -> Any:
    """Return what may be told of a span.

    Args:
        span: An ended span.
        texts: Whether it may hold words of queries, passages, answers and errors.

    Returns:
        A copy. A reranking that kept the order of the first stage has the status of an error, though the call went on.
    """
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Status, StatusCode

    attributes, events, status = span.attributes, span.events, span.status
    if not texts:
        attributes = wordless(attributes)
        events = [Event(event.name, wordless(event.attributes), event.timestamp) for event in events]
    failure = _failure(span)
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


def wordless(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes that hold no text of a query, a passage, an answer or an error.

    Example:
        >>> wordless({"reranker.query": "my secret", "reranker.top_k": 4, "llm.token_count.prompt": 1204})
        {'reranker.top_k': 4, 'llm.token_count.prompt': 1204}
    """
    return {
        name: value
        for name, value in (attributes or {}).items()
        if name in WORDLESS or name.startswith(WORDLESS_BEGINNINGS) or name.endswith(WORDLESS_ENDS)
    }


def _failure(span: Any) -> str | None:
    """Return the name of the error that a span met, whether it raised or went on."""
    types = [(event.attributes or {}).get("exception.type") for event in span.events]
    name = next(filter(None, reversed(types)), None) or (span.attributes or {}).get("error.type")
    return str(name).rpartition(".")[2] if name else None


def span_table(spans: Iterable[Any]) -> "pd.DataFrame":
    """Put the steps of traces one below the other, each under the step that it belongs to.

    A step that LlamaIndex takes inside another one of the same class, as `_query` in `query`, is left out, and its
    tokens are counted there.

    Args:
        spans: As `Tracing.spans` has them.

    Returns:
        Indexed by the `step`, a dot for each level; columns `trace` (from 1), `kind`, `starts` (milliseconds after the
        begin of its trace), `ms` (how long it took), `tokens` (0 where no service counted any) and `status`: `ok`,
        or the name of the error.
    """
    import pandas as pd

    by_trace: dict[int, list[Any]] = {}
    for span in sorted(spans, key=lambda span: span.start_time):
        by_trace.setdefault(span.context.trace_id, []).append(span)
    rows = [row | {"trace": n} for n, trace in enumerate(by_trace.values(), 1) for row in _rows(trace)]
    columns = ["step", "trace", "kind", "starts", "ms", "tokens", "status"]
    return pd.DataFrame(rows, columns=columns).set_index("step")


def _depth(span: Any, by_id: Mapping[int, Any]) -> int:
    above = by_id.get(span.parent.span_id) if span.parent else None
    return _depth(above, by_id) + 1 if above else 0


def _rows(trace: Sequence[Any]) -> list[dict[str, Any]]:
    """Make the rows of one trace, whose spans are the first to begin first."""
    rows: dict[int, dict[str, Any]] = {}
    by_id = {span.context.span_id: span for span in trace}
    for span in sorted(trace, key=lambda span: _depth(span, by_id)):  # a coarse clock gives both the same begin
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
            "status": _failure(span) or "ok",
        }
    shown = {row["place"]: row for row in rows.values()}  # a step that was left out has the row of the one above it
    return [shown[place] for place in sorted(shown)]
