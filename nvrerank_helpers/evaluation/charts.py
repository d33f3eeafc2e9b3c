"""The figures of the course, as SVG that needs no script and no network to be seen."""

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

from nvrerank_helpers.evaluation.measures import side_by_side

# Okabe and Ito's colours stay apart for every kind of colour vision; shape or label carries the meaning as well.
UP, DOWN, SAME, BASE = "#0072B2", "#D55E00", "#999999", "#56B4E9"
TALLEST = 480  # pixels: a figure should fit on the screen together with the cell that draws it
FONT = "DejaVu Sans, Verdana, Arial, sans-serif"


class Figure:
    """A chart that shows itself as SVG in Jupyter, on a web page and in a README.

    Args:
        chart: The Altair chart.
        description: One sentence that says what is to be seen, for readers who cannot see the picture.

    Example:
        >>> Figure(alt.Chart(table).mark_bar(), "Bars of different height.").svg[:4]  # doctest: +SKIP
        '<svg'
    """

    def __init__(self, chart: alt.TopLevelMixin, description: str) -> None:
        self.chart = chart
        self.description = description

    @property
    def svg(self) -> str:
        """Return the picture as SVG text with the description in it."""
        drawn = vl_convert.vegalite_to_svg(self.chart.to_dict())
        start, _, rest = drawn.partition(">")
        said = escape(self.description)
        return f'{start} role="img" aria-label="{said}"><title>{said}</title>{rest}'

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure: {self.description}"


def before_and_after(
    before: Sequence[NodeWithScore], after: Sequence[NodeWithScore], labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw how nodes move from one order to another: a line a node, from its old rank to its new one.

    Args:
        before: The nodes in their first order, best first.
        after: The nodes in their new order, best first; all of them are in `before`.
        labels: Node id to what is written at the end of its line; None writes the ids.

    Returns:
        A slope chart: blue lines with ▲ moved up, orange ones with ▼ moved down, grey ones with = stayed.

    Raises:
        ValueError: `after` holds a node that `before` does not.

    Example:
        >>> before_and_after(fused, reranked[:10])  # doctest: +SKIP
    """
    moves = side_by_side(before, after).reset_index()
    moves["direction"] = moves["move"].str[0]
    moves["text"] = [(labels or {}).get(id_, id_) for id_ in moves["passage"]]
    moves["label"] = moves["after"].astype(str) + " " + moves["move"] + "  " + moves["text"]
    up = int((moves["direction"] == "▲").sum())
    return Figure(_slopes(moves), f"{up} of {len(moves)} passages move up when they are reranked.")


def _slopes(moves: pd.DataFrame) -> alt.TopLevelMixin:
    ends = moves.melt(["passage", "direction", "label"], ["before", "after"], "stage", "rank")
    base = alt.Chart(ends).encode(
        x=alt.X("stage:N", sort=["before", "after"], axis=alt.Axis(title=None, labelAngle=0, orient="top")),
        y=alt.Y("rank:Q", scale=alt.Scale(reverse=True, nice=False, zero=False, padding=12), axis=None),
        color=alt.Color("direction:N", scale=alt.Scale(domain=["▲", "▼", "="], range=[UP, DOWN, SAME]), legend=None),
        detail="passage:N",
    )
    old = base.transform_filter("datum.stage == 'before'").mark_text(align="right", dx=-10).encode(text="rank:Q")
    new = base.transform_filter("datum.stage == 'after'").mark_text(align="left", dx=10).encode(text="label:N")
    drawn = alt.layer(base.mark_line(strokeWidth=2.5), base.mark_point(filled=True, size=60), old, new)
    return styled(drawn.properties(width=220, height=min(26 * int(ends["rank"].max()), TALLEST)))


def bars(table: pd.DataFrame, column: str) -> Figure:
    """Draw one column of a table as labelled bars, the last row in the strong colour; whole numbers stay whole.

    Args:
        table: One row a system.
        column: Which column to draw.

    Returns:
        A bar chart in the order of the rows.

    Raises:
        KeyError: The table has no such column.

    Example:
        >>> bars(measure(runs, questions), "nDCG@10")  # doctest: +SKIP
    """
    rows = pd.DataFrame({"system": table.index, "value": table[column].to_numpy()})
    last = rows["system"].iloc[-1]
    whole = is_integer_dtype(rows["value"])
    form, steps = ("d", alt.Axis(tickMinStep=1)) if whole else (".3f", alt.Axis())
    base = alt.Chart(rows).encode(
        x=alt.X("value:Q", title=column, scale=alt.Scale(domainMin=0), axis=steps),
        y=alt.Y("system:N", sort=None, title=None),
    )
    colour = alt.when(alt.datum.system == last).then(alt.value(UP)).otherwise(alt.value(SAME))
    label = base.mark_text(align="left", dx=5).encode(text=alt.Text("value:Q", format=form))
    values = ", ".join(f"{row.system} {row.value:{form}}" for row in rows.itertuples())
    drawn = alt.layer(base.mark_bar(height=20).encode(color=colour), label).properties(width=420, height=36 * len(rows))
    return Figure(styled(drawn), f"{column}: {values}.")


def gains(values: "pd.Series[float]", title: str) -> Figure:
    """Draw what each question gained or lost, sorted: the shape shows whether few or many questions carry the mean.

    Args:
        values: One difference a question, for example of nDCG@10.
        title: What the values are.

    Returns:
        A bar a question, gains in blue upwards, losses in orange downwards.

    Example:
        >>> gains(measure_each(reranked, questions) - measure_each(fused, questions), "nDCG@10")  # doctest: +SKIP
    """
    ordered = values.sort_values(ascending=False)
    rows = pd.DataFrame({"place": range(1, len(ordered) + 1), "value": ordered.to_numpy()})
    colour = alt.when(alt.datum.value > 0).then(alt.value(UP)).otherwise(alt.value(DOWN))
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
            color=colour,
        )
        .properties(width=520, height=200)
    )
    up, down = int((values > 0).sum()), int((values < 0).sum())
    return Figure(styled(drawn), f"{title}: {up} questions gain, {down} lose, {len(values) - up - down} stay the same.")


def curves(panels: Mapping[str, pd.DataFrame], mark: float, label: str) -> Figure:
    """Draw curves over one common axis, a panel for each scale, with one place marked in all of them.

    Args:
        panels: What a panel's vertical axis shows, to its table: the index is the horizontal axis (numbers), each
            column a curve that is labelled with the column's name. At most four columns a table.
        mark: The place on the horizontal axis to mark.
        label: What is written there.

    Returns:
        The panels one below the other; each curve has its own colour and its own shape of point.

    Example:
        >>> curves({"quality": table[["nDCG@10"]], "milliseconds": table[["time"]]}, 50, "knee")  # doctest: +SKIP
    """
    drawn = [
        _panel(title, table, mark, label if not place else "") for place, (title, table) in enumerate(panels.items())
    ]
    said = ", ".join(
        f"{column} from {values.iloc[0]:.3g} to {values.iloc[-1]:.3g}"
        for table in panels.values()
        for column, values in table.items()
    )
    axis = next(iter(panels.values())).index
    figure = alt.vconcat(*drawn, spacing=12)
    return Figure(styled(figure), f"{axis.name} {axis[0]:g} to {axis[-1]:g}: {said}. Marked at {mark:g}: {label}.")


def _panel(title: str, table: pd.DataFrame, mark: float, label: str) -> alt.LayerChart | alt.FacetChart:
    rows = table.rename_axis("x").reset_index().melt("x", var_name="curve", value_name="value")
    colour = alt.Scale(domain=list(table.columns), range=[UP, DOWN, BASE, SAME][: table.shape[1]])
    base = alt.Chart(rows).encode(
        x=alt.X("x:Q", title=table.index.name),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(domainMin=0)),
        color=alt.Color("curve:N", scale=colour, legend=None),
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(shape=alt.Shape("curve:N", legend=None))
    ends = pd.DataFrame(
        {"x": table.index[-1], "curve": table.columns, "value": _apart(table.iloc[-1], table.max().max())}
    )
    names = base.mark_text(align="left", dx=8).encode(text="curve:N")
    names.data = ends
    at = alt.Chart(pd.DataFrame({"x": [mark], "label": [label]})).encode(x="x:Q")
    rule = at.mark_rule(strokeDash=[4, 4], color=SAME)
    said = at.mark_text(dy=-4, baseline="bottom").encode(y=alt.value(0), text="label:N")
    return alt.layer(rule, base.mark_line(), points, names, said).properties(width=440, height=170)


def _apart(ends: "pd.Series[float]", highest: float) -> list[float]:
    """Move the heights of labels apart where they would cover each other, from the lowest up."""
    gap, free = highest / 10, -math.inf
    placed: dict[Any, float] = {}
    for name, height in ends.sort_values().items():
        placed[name] = max(height, free)
        free = placed[name] + gap
    return [placed[name] for name in ends.index]


def intervals(table: pd.DataFrame, title: str) -> Figure:
    """Draw differences with their confidence intervals against the line of no difference.

    Args:
        table: One row a comparison, with the columns `difference`, `low` and `high`; the index names the rows.
        title: What differs, for the horizontal axis.

    Returns:
        A point and a bar a row: blue where the interval lies above zero, orange where below, grey where it holds zero.

    Example:
        >>> intervals(comparisons, "gain by reranking")  # doctest: +SKIP
    """
    rows = table[["difference", "low", "high"]].rename_axis("name").reset_index()
    rows["sign"] = np.select([rows["low"] > 0, rows["high"] < 0], ["▲", "▼"], "=")
    rows["label"] = [f"{row.difference:+.3f} {row.sign.strip('=')}" for row in rows.itertuples()]
    base = alt.Chart(rows).encode(
        y=alt.Y("name:N", sort=None, title=None),
        color=alt.Color("sign:N", scale=alt.Scale(domain=["▲", "▼", "="], range=[UP, DOWN, SAME]), legend=None),
    )
    bar = base.mark_rule(strokeWidth=4).encode(x=alt.X("low:Q", title=title, axis=alt.Axis(tickCount=6)), x2="high:Q")
    point = base.mark_point(filled=True, size=110, opacity=1).encode(x="difference:Q")
    text = base.mark_text(dy=-14).encode(x="difference:Q", text="label:N")
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[4, 4], color=SAME).encode(x="x:Q")
    drawn = alt.layer(zero, bar, point, text).properties(width=440, height=52 * len(rows))
    said = ", ".join(
        f"{row.name} {row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})" for row in rows.itertuples()
    )
    return Figure(styled(drawn), f"{title}, with 95 % intervals: {said}.")


def endings(table: pd.DataFrame, title: str) -> Figure:
    """Draw how long calls took and how they ended.

    Args:
        table: One row a call, with the columns `seconds`, `ended` (in a few words) and `answered` (whether a result
            came); the index names the rows.
        title: What the horizontal axis shows.

    Returns:
        A bar a row with its words at the end: blue with ✓ where a result came, orange with ✗ where an error did.

    Example:
        >>> endings(table, "seconds until the caller knows")  # doctest: +SKIP
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
    return Figure(styled(drawn), f"{title}: {said}.")


def styled(chart: Any) -> alt.TopLevelMixin:
    """Return a chart with the fonts, sizes and colours that all figures of the course share."""
    text: dict[str, Any] = {"labelFontSize": 13, "titleFontSize": 13, "labelLimit": 420}
    drawn: alt.TopLevelMixin = (
        chart.configure(font=FONT, background="white")
        .configure_view(stroke=None)
        .configure_axis(grid=False, **text)
        .configure_text(fontSize=13, limit=480)
    )
    return drawn
