"""Which logits do relevant passages get, and which do the others: what does a threshold keep?"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.evaluation.charts import DOWN, UP, Figure, apply_style
from nvrerank_helpers.pydocs import Question

RELEVANT, OTHER = "relevant", "not relevant"
BIN = 1.0  # width in logits


def collect_judged_logits(
    reranked: Mapping[str, Sequence[NodeWithScore]], questions: Sequence[Question]
) -> pd.DataFrame:
    """Join the logits of all reranked passages with their judgments.

    Args:
        reranked: Question id to the nodes that came back for it, scored with raw logits.
        questions: The judgments. A passage that wasn't judged counts as not relevant, as in every measure here.

    Returns:
        A row for each passage, with the columns `question`, `passage`, `logit`, `grade` (0 to 3) and `kind` (`relevant`
        from grade 1, else `not relevant`).
    """
    relevant = {question.id: question.relevant for question in questions}
    rows = [
        (id_, node.node_id, node.score, relevant[id_].get(node.node_id, 0))
        for id_, nodes in reranked.items()
        for node in nodes
    ]
    table = pd.DataFrame(rows, columns=["question", "passage", "logit", "grade"])
    return table.assign(kind=np.where(table["grade"] > 0, RELEVANT, OTHER))


def measure_kept(logits: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Compute the share of relevant passages, and of the others, that each threshold keeps.

    Args:
        logits: From `collect_judged_logits`.
        thresholds: The lowest logit that is kept.

    Returns:
        A row for each threshold, with the columns `relevant` and `not relevant`, each 0 to 1; nan if there are none.

    Example:
        >>> table = pd.DataFrame({"logit": [2.0, -3.0], "kind": ["relevant", "not relevant"]})
        >>> measure_kept(table, [0.0]).loc[0.0].to_dict()
        {'relevant': 1.0, 'not relevant': 0.0}
    """
    shares = {
        kind: [(logits.loc[logits["kind"] == kind, "logit"] >= at).mean() for at in thresholds]
        for kind in (RELEVANT, OTHER)
    }
    return pd.DataFrame(shares, index=pd.Index(thresholds, name="threshold"))


def draw_thresholds(logits: pd.DataFrame, mark: float) -> Figure:
    """Draw the distribution of the logits, and below it what each threshold keeps.

    Relevant passages are blue, the others orange and dashed.

    Args:
        logits: From `collect_judged_logits`.
        mark: The threshold to mark in both panels.
    """
    edges = np.arange(np.floor(logits["logit"].min()), np.ceil(logits["logit"].max()) + BIN, BIN)
    spread = pd.DataFrame(
        {kind: np.histogram(group["logit"], edges)[0] / len(group) for kind, group in logits.groupby("kind")},
        index=edges[:-1] + BIN / 2,
    )
    every = np.linspace(edges[0], edges[-1], 121)
    panels = (
        _draw_panel(spread, "share of passages", mark, f"logit {mark:g}", edges),
        _draw_panel(measure_kept(logits, list(every)), "share kept from here up", mark, "", edges),
    )
    at = measure_kept(logits, [mark]).loc[mark]
    said = (
        f"Logits of {len(logits):,} passages from {edges[0]:g} to {edges[-1]:g}: a threshold of {mark:g} keeps "
        f"{at[RELEVANT]:.0%} of the relevant passages and {at[OTHER]:.0%} of the others."
    )
    return Figure(apply_style(alt.vconcat(*panels, spacing=12)), said)


def _draw_panel(
    table: pd.DataFrame, title: str, mark: float, label: str, edges: npt.NDArray[Any]
) -> alt.LayerChart | alt.FacetChart:
    rows = table.rename_axis("x").reset_index().melt("x", var_name="kind", value_name="share")
    domain = [min(edges[0], mark), max(edges[-1], mark)]
    base = alt.Chart(rows).encode(
        x=alt.X("x:Q", title="logit", scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("share:Q", title=title, axis=alt.Axis(format="%", tickCount=4)),
        color=alt.Color("kind:N", scale=alt.Scale(domain=[RELEVANT, OTHER], range=[UP, DOWN]), legend=None),
        strokeDash=alt.StrokeDash(
            "kind:N", scale=alt.Scale(domain=[RELEVANT, OTHER], range=[[1, 0], [6, 3]]), legend=None
        ),
    )
    at = alt.Chart(pd.DataFrame({"x": [mark], "label": [label]})).encode(x="x:Q")
    rule = at.mark_rule(strokeDash=[2, 3], color="black")
    said = at.mark_text(dy=-4, baseline="bottom").encode(y=alt.value(0), text="label:N")
    names = [_name(base, rows, RELEVANT, "left"), _name(base, rows, OTHER, "right")]
    return alt.layer(rule, base.mark_line(strokeWidth=2.5), *names, said).properties(width=480, height=150)


def _name(base: alt.Chart, rows: pd.DataFrame, kind: str, align: Literal["left", "right"]) -> alt.Chart:
    """Name a line beside its highest point or, where that is all of them, halfway down."""
    line = rows[rows["kind"] == kind]
    place = (line["share"] - min(line["share"].max(), 0.5)).abs().idxmin()
    text = base.mark_text(align=align, dx=10 if align == "left" else -10, dy=-6, fontWeight="bold")
    named: alt.Chart = text.encode(text="kind:N", strokeDash=alt.Undefined)
    named.data = line.loc[[place]]
    return named
