"""A figure of what happened when: the steps of a query as a waterfall."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from nvrerank_helpers.evaluation import BASE, DOWN, SAME, UP, Figure, apply_style

ANSWERING = "#009E73"  # the green of Okabe and Ito
COLORS = {"retriever": BASE, "embedding": BASE, "reranker": UP, "llm": ANSWERING, "other": SAME, "failed": DOWN}
LETTER = 7.5  # pixels that a letter of a label takes on average


def draw_waterfall(table: pd.DataFrame, titles: Sequence[str] = ()) -> Figure:
    """Draw the steps of traces as bars, each below the step that it is part of, with its time and tokens.

    Retrieval is light blue, reranking blue, the language model green, and the rest gray. A step that failed is orange,
    with ✗ and the name of the error.

    Args:
        table: From `tracing.tabulate_spans`.
        titles: Written above the traces: one for each, or none.

    Raises:
        ValueError: There are no steps, or the number of titles isn't that of the traces.
    """
    traces = [trace.reset_index() for _, trace in table.groupby("trace")]
    if not traces:
        raise ValueError("There are no steps to draw: was a query asked while tracing was open?")
    if titles and len(titles) != len(traces):
        raise ValueError(f"{len(traces)} traces need {len(traces)} titles, not {len(titles)}.")
    longest, width = table.index.str.len().max() * LETTER, (table["starts"] + table["ms"]).max()
    panels = [_draw_steps(trace, longest, width) for trace in traces]
    for panel, title in zip(panels, titles, strict=False):
        panel.title = alt.Title(title, anchor="start", frame="group")
    names = titles or [f"Trace {number}" for number in range(1, len(traces) + 1)]
    said = [f"{name}: {_describe_trace(trace)}" for name, trace in zip(names, traces, strict=True)]
    return Figure(apply_style(alt.vconcat(*panels, spacing=16)), f"Milliseconds of each step. {'. '.join(said)}.")


def _draw_steps(trace: pd.DataFrame, longest: float, width: float) -> alt.LayerChart | alt.FacetChart:
    rows = trace.assign(
        place=range(len(trace)),
        ends=trace["starts"] + trace["ms"],
        sort=np.where(trace["status"] == "ok", trace["kind"].where(trace["kind"].isin(COLORS), "other"), "failed"),
        label=[_describe_step(row.ms, row.tokens, row.status) for row in trace.itertuples()],
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
        color=alt.Color("sort:N", scale=alt.Scale(domain=[*COLORS], range=[*COLORS.values()]), legend=None),
    )
    bar = base.mark_bar(height=13).encode(x2="ends:Q")
    label = base.mark_text(align="left", dx=5).encode(x="ends:Q", text="label:N", color=alt.value("black"))
    return alt.layer(bar, label).properties(width=340, height=24 * len(rows))


def _describe_step(ms: float, tokens: int, status: str) -> str:
    parts = [f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"]
    if tokens:
        parts.append(f"{tokens:,} tokens")
    if status != "ok":
        parts.append(f"✗ {status}")
    return ", ".join(parts)


def _describe_trace(trace: pd.DataFrame) -> str:
    return ", ".join(
        f"{row.step.lstrip('· ')} {_describe_step(row.ms, row.tokens, row.status)}" for row in trace.itertuples()
    )
