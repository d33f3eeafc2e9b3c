"""The figures of the course, as SVG that shows without scripts and without a network."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from llama_index.core.schema import NodeWithScore
from pandas.api.types import is_integer_dtype

from nvrerank_helpers.evaluation.measures import compare_orders

# Okabe and Ito's colors are distinct for every kind of color vision. A shape or a label carries the meaning as well.
UP, DOWN, SAME, BASE = "#0072B2", "#D55E00", "#999999", "#56B4E9"
DIRECTIONS = alt.Scale(domain=["▲", "▼", "="], range=[UP, DOWN, SAME])
TALLEST = 480  # pixels: a figure should fit on the screen together with the cell that draws it
FONT = "DejaVu Sans, Verdana, Arial, sans-serif"


class Figure:
    """A chart that shows itself as SVG in Jupyter, on a web page and in a README.

    Args:
        chart: Any Altair chart.
        description: One sentence for readers who can't see the picture.
    """

    def __init__(self, chart: alt.TopLevelMixin, description: str) -> None:
        self.chart = chart
        self.description = description

    @property
    def svg(self) -> str:
        """The picture as SVG text, with the description in it."""
        drawn = vl_convert.vegalite_to_svg(self.chart.to_dict())
        start, _, rest = drawn.partition(">")
        said = escape(self.description)
        return f'{start} role="img" aria-label="{said}"><title>{said}</title>{rest}'

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure: {self.description}"


def draw_moves(
    before: Sequence[NodeWithScore], after: Sequence[NodeWithScore], labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw a slope chart of two orders: a line for each node, from its old rank to its new one.

    A blue line with ▲ moved up, an orange one with ▼ moved down, and a gray one with = stayed.

    Args:
        before: The nodes in their old order, best first.
        after: The same nodes, or some of them, in their new order.
        labels: Node id to the text at the end of its line; None writes the ids.

    Raises:
        ValueError: `after` contains a node that isn't in `before`.
    """
    moves = compare_orders(before, after).reset_index()
    moves["direction"] = moves["move"].str[0]
    moves["text"] = [(labels or {}).get(id_, id_) for id_ in moves["passage"]]
    moves["label"] = moves["after"].astype(str) + " " + moves["move"] + "  " + moves["text"]
    up = int((moves["direction"] == "▲").sum())
    return Figure(_draw_slopes(moves), f"{up} of {len(moves)} passages move up when they are reranked.")


def _draw_slopes(moves: pd.DataFrame) -> alt.TopLevelMixin:
    ends = moves.melt(["passage", "direction", "label"], ["before", "after"], "stage", "rank")
    base = alt.Chart(ends).encode(
        x=alt.X("stage:N", sort=["before", "after"], axis=alt.Axis(title=None, labelAngle=0, orient="top")),
        y=alt.Y("rank:Q", scale=alt.Scale(reverse=True, nice=False, zero=False, padding=12), axis=None),
        color=alt.Color("direction:N", scale=DIRECTIONS, legend=None),
        detail="passage:N",
    )
    old = base.transform_filter("datum.stage == 'before'").mark_text(align="right", dx=-10).encode(text="rank:Q")
    new = base.transform_filter("datum.stage == 'after'").mark_text(align="left", dx=10).encode(text="label:N")
    drawn = alt.layer(base.mark_line(strokeWidth=2.5), base.mark_point(filled=True, size=60), old, new)
    return apply_style(drawn.properties(width=220, height=min(26 * int(ends["rank"].max()), TALLEST)))


def draw_bars(table: pd.DataFrame, column: str) -> Figure:
    """Draw one column of a table as bars: one for each row, in their order, the last one in the strong color."""
    rows = pd.DataFrame({"system": table.index, "value": table[column].to_numpy()})
    last = rows["system"].iloc[-1]
    whole = is_integer_dtype(rows["value"])
    form, steps = ("d", alt.Axis(tickMinStep=1)) if whole else (".3f", alt.Axis())
    base = alt.Chart(rows).encode(
        x=alt.X("value:Q", title=column, scale=alt.Scale(domainMin=0), axis=steps),
        y=alt.Y("system:N", sort=None, title=None),
    )
    color = alt.when(alt.datum.system == last).then(alt.value(UP)).otherwise(alt.value(SAME))
    label = base.mark_text(align="left", dx=5).encode(text=alt.Text("value:Q", format=form))
    values = ", ".join(f"{row.system} {row.value:{form}}" for row in rows.itertuples())
    drawn = alt.layer(base.mark_bar(height=20).encode(color=color), label).properties(width=420, height=36 * len(rows))
    return Figure(apply_style(drawn), f"{column}: {values}.")


def draw_gains(values: "pd.Series[float]", title: str) -> Figure:
    """Draw what each question gained (blue) or lost (orange), sorted: do few questions carry the mean, or many?

    Args:
        values: The difference for each question, for example in nDCG@10.
        title: What the values are.
    """
    ordered = values.sort_values(ascending=False)
    rows = pd.DataFrame({"place": range(1, len(ordered) + 1), "value": ordered.to_numpy()})
    color = alt.when(alt.datum.value > 0).then(alt.value(UP)).otherwise(alt.value(DOWN))
    drawn = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X(
                "place:O",
                title="question, from the largest gain to the largest loss",
                axis=alt.Axis(labels=False, ticks=False),
            ),
            y=alt.Y("value:Q", title=title),
            color=color,
        )
        .properties(width=520, height=200)
    )
    up, down = int((values > 0).sum()), int((values < 0).sum())
    return Figure(
        apply_style(drawn), f"{title}: {up} questions gain, {down} lose, {len(values) - up - down} stay the same."
    )


def draw_curves(panels: Mapping[str, pd.DataFrame], mark: float, label: str) -> Figure:
    """Draw curves in panels that share the horizontal axis, with one position marked in all of them.

    Args:
        panels: Title of a vertical axis to its table. The index (numbers) is the horizontal axis, and each column
            is a curve under its name, at most four in a table.
        mark: The position to mark.
        label: The text at the mark.
    """
    drawn = [
        _draw_panel(title, table, mark, label if not place else "")
        for place, (title, table) in enumerate(panels.items())
    ]
    said = ", ".join(
        f"{column} from {values.iloc[0]:.3g} to {values.iloc[-1]:.3g}"
        for table in panels.values()
        for column, values in table.items()
    )
    axis = next(iter(panels.values())).index
    figure = alt.vconcat(*drawn, spacing=12)
    return Figure(apply_style(figure), f"{axis.name} {axis[0]:g} to {axis[-1]:g}: {said}. Marked at {mark:g}: {label}.")


def _draw_panel(title: str, table: pd.DataFrame, mark: float, label: str) -> alt.LayerChart | alt.FacetChart:
    rows = table.rename_axis("x").reset_index().melt("x", var_name="curve", value_name="value")
    color = alt.Scale(domain=list(table.columns), range=[UP, DOWN, BASE, SAME][: table.shape[1]])
    base = alt.Chart(rows).encode(
        x=alt.X("x:Q", title=table.index.name),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(domainMin=0)),
        color=alt.Color("curve:N", scale=color, legend=None),
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(shape=alt.Shape("curve:N", legend=None))
    ends = pd.DataFrame(
        {"x": table.index[-1], "curve": table.columns, "value": _spread_labels(table.iloc[-1], table.max().max())}
    )
    names = base.mark_text(align="left", dx=8).encode(text="curve:N")
    names.data = ends
    at = alt.Chart(pd.DataFrame({"x": [mark], "label": [label]})).encode(x="x:Q")
    rule = at.mark_rule(strokeDash=[4, 4], color=SAME)
    said = at.mark_text(dy=-4, baseline="bottom").encode(y=alt.value(0), text="label:N")
    return alt.layer(rule, base.mark_line(), points, names, said).properties(width=440, height=170)


def _spread_labels(ends: "pd.Series[float]", highest: float) -> list[float]:
    """Raise labels that would cover the one below."""
    gap, free = highest / 10, -math.inf
    placed: dict[Any, float] = {}
    for name, height in ends.sort_values().items():
        placed[name] = max(height, free)
        free = placed[name] + gap
    return [placed[name] for name in ends.index]


def draw_intervals(table: pd.DataFrame, title: str) -> Figure:
    """Draw differences with their confidence intervals: blue above zero, orange below, gray where zero is inside.

    Args:
        table: A row for each comparison, named by the index, with the columns `difference`, `low` and `high`.
        title: What differs.
    """
    rows = table[["difference", "low", "high"]].rename_axis("name").reset_index()
    rows["sign"] = np.select([rows["low"] > 0, rows["high"] < 0], ["▲", "▼"], "=")
    rows["label"] = [f"{row.difference:+.3f} {row.sign.strip('=')}" for row in rows.itertuples()]
    base = alt.Chart(rows).encode(
        y=alt.Y("name:N", sort=None, title=None),
        color=alt.Color("sign:N", scale=DIRECTIONS, legend=None),
    )
    bar = base.mark_rule(strokeWidth=4).encode(x=alt.X("low:Q", title=title, axis=alt.Axis(tickCount=6)), x2="high:Q")
    point = base.mark_point(filled=True, size=110, opacity=1).encode(x="difference:Q")
    text = base.mark_text(dy=-14).encode(x="difference:Q", text="label:N")
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[4, 4], color=SAME).encode(x="x:Q")
    drawn = alt.layer(zero, bar, point, text).properties(width=440, height=52 * len(rows))
    said = ", ".join(
        f"{row.name} {row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})" for row in rows.itertuples()
    )
    return Figure(apply_style(drawn), f"{title}, with 95 % intervals: {said}.")


def draw_endings(table: pd.DataFrame, title: str) -> Figure:
    """Draw how long calls took and how they ended: blue with ✓ for a result, orange with ✗ for an error.

    Args:
        table: A row for each call, named by the index, with the columns `seconds`, `ended` (in a few words) and
            `answered` (whether it returned a result).
        title: What the horizontal axis shows.
    """
    rows = table[["seconds", "ended", "answered"]].rename_axis("name").reset_index()
    rows["mark"] = np.where(rows["answered"], "✓", "✗")
    rows["label"] = rows["mark"] + " " + rows["ended"]
    base = alt.Chart(rows).encode(
        x=alt.X("seconds:Q", title=title, scale=alt.Scale(domainMin=0)),
        y=alt.Y("name:N", sort=None, title=None),
        color=alt.Color("mark:N", scale=alt.Scale(domain=["✓", "✗"], range=[UP, DOWN]), legend=None),
    )
    label = base.mark_text(align="left", dx=6).encode(text="label:N")
    drawn = alt.layer(base.mark_bar(height=14), label).properties(width=320, height=26 * len(rows))
    said = ", ".join(f"{row.name} {row.seconds:.1f} s ({row.ended})" for row in rows.itertuples(index=False))
    return Figure(apply_style(drawn), f"{title}: {said}.")


def apply_style(chart: Any) -> alt.TopLevelMixin:
    """Give a chart the fonts and sizes that all figures of the course share."""
    text: dict[str, Any] = {"labelFontSize": 13, "titleFontSize": 13, "labelLimit": 420}
    drawn: alt.TopLevelMixin = (
        chart.configure(font=FONT, background="white")
        .configure_view(stroke=None)
        .configure_axis(grid=False, **text)
        .configure_text(fontSize=13, limit=480)
    )
    return drawn
