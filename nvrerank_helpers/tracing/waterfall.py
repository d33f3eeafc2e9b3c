"""Figures of what happened when: the steps of a query as a waterfall."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from nvrerank_helpers.evaluation import BASE, DOWN, SAME, UP, Figure, styled

ANSWERING = "#009E73"  # the green of Okabe and Ito
COLOURS = {"retriever": BASE, "embedding": BASE, "reranker": UP, "llm": ANSWERING, "other": SAME, "failed": DOWN}
LETTER = 7.5  # pixels that a letter of a label takes on average


def draw_waterfall(table: pd.DataFrame, titles: Sequence[str] = ()) -> Figure:
    """Draw the steps of traces: a bar from the begin of a step to its end, under the step that it belongs to.

    Args:
        table: As `tracing.span_table` gives it.
        titles: What stands above each trace; none writes nothing.

    Returns:
        A panel a trace, all with the same axis of milliseconds. Retrieval is light blue, reranking blue, the language
        model green, the rest grey; a step that failed is orange with ✗ and the name of the error. Times and tokens
        stand behind the bars.

    Raises:
        ValueError: There are no steps, or another number of titles than of traces.

    Example:
        >>> draw_waterfall(tracing.table(), ["healthy", "overloaded"])  # doctest: +SKIP
    """
    traces = [trace.reset_index() for _, trace in table.groupby("trace")]
    if not traces:
        raise ValueError("There are no steps to draw: was a query asked while tracing was open?")
    if titles and len(titles) != len(traces):
        raise ValueError(f"{len(traces)} traces need {len(traces)} titles, not {len(titles)}.")
    longest, width = table.index.str.len().max() * LETTER, (table["starts"] + table["ms"]).max()
    panels = [_steps(trace, longest, width) for trace in traces]
    for panel, title in zip(panels, titles, strict=False):
        panel.title = alt.Title(title, anchor="start", frame="group")
    said = [f"{title}: {_said(trace)}" for title, trace in zip(titles or _numbers(traces), traces, strict=True)]
    return Figure(styled(alt.vconcat(*panels, spacing=16)), f"Milliseconds of each step. {'. '.join(said)}.")


def _steps(trace: pd.DataFrame, longest: float, width: float) -> alt.LayerChart | alt.FacetChart:
    rows = trace.assign(
        place=range(len(trace)),
        ends=trace["starts"] + trace["ms"],
        sort=np.where(trace["status"] == "ok", trace["kind"].where(trace["kind"].isin(COLOURS), "other"), "failed"),
        label=[_label(row.ms, row.tokens, row.status) for row in trace.itertuples()],
    )
    names = alt.Axis(
        labelAlign="left",
        labelPadding=longest,
        ticks=False,
        domain=False,
        title=None,
        labelExpr=f"{rows['step'].tolist()}[datum.value]",
    )
    base = alt.Chart(rows).encode(
        y=alt.Y("place:O", axis=names),
        x=alt.X("starts:Q", title="milliseconds", scale=alt.Scale(domain=[0, width])),
        color=alt.Color("sort:N", scale=alt.Scale(domain=[*COLOURS], range=[*COLOURS.values()]), legend=None),
    )
    bar = base.mark_bar(height=13).encode(x2="ends:Q")
    label = base.mark_text(align="left", dx=5).encode(x="ends:Q", text="label:N", color=alt.value("black"))
    return alt.layer(bar, label).properties(width=340, height=24 * len(rows))


def _label(ms: float, tokens: int, status: str) -> str:
    parts = [f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"]
    if tokens:
        parts.append(f"{tokens:,} tokens")
    if status != "ok":
        parts.append(f"✗ {status}")
    return ", ".join(parts)


def _numbers(traces: Sequence[pd.DataFrame]) -> list[str]:
    return [f"Trace {number}" for number in range(1, len(traces) + 1)]


def _said(trace: pd.DataFrame) -> str:
    return ", ".join(f"{row.step.lstrip('· ')} {_label(row.ms, row.tokens, row.status)}" for row in trace.itertuples())
