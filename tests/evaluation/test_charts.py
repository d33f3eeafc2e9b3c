from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.evaluation.charts import bars, before_and_after, curves, endings, gains, intervals


def found(*ids):
    return [NodeWithScore(node=TextNode(id_=id_, text=id_), score=1.0) for id_ in ids]


TABLE = pd.DataFrame({"nDCG@10": [0.2, 0.4]}, index=["fused", "reranked"])
CURVE = pd.DataFrame(
    {"nDCG@10": [0.2, 0.4, 0.4], "recall": [0.1, 0.3, 0.4]}, index=pd.Index([5, 10, 50], name="candidates")
)
TIMES = pd.DataFrame({"time": [5.0, 10.0, 50.0]}, index=CURVE.index)
TESTS = pd.DataFrame(
    {"difference": [0.2, 0.0, -0.2], "low": [0.1, -0.1, -0.3], "high": [0.3, 0.1, -0.1]}, index=["up", "none", "down"]
)
CALLS = pd.DataFrame(
    {"seconds": [0.1, 2.04], "ended": ["ranked", "gave up"], "answered": [True, False]}, index=["quick", "slow"]
)
FIGURES = {
    "endings": lambda: endings(CALLS, "seconds"),
    "curves": lambda: curves({"quality": CURVE, "milliseconds": TIMES}, 10, "knee: 10"),
    "intervals": lambda: intervals(TESTS, "gain"),
    "before_and_after": lambda: before_and_after(found("a", "b<"), found("b<", "a"), labels={"a": "A & B", "b<": "B"}),
    "bars": lambda: bars(TABLE, "nDCG@10"),
    "gains": lambda: gains(pd.Series({"q1": 0.3, "q2": -0.1, "q3": 0.0}), "nDCG@10 gained"),
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def test_a_figure_is_svg_that_says_what_it_shows(figure):
    root = ET.fromstring(figure._repr_svg_())
    assert root.attrib["aria-label"] == figure.description
    assert root.findtext("{http://www.w3.org/2000/svg}title") == figure.description


def test_a_figure_needs_nothing_from_elsewhere(figure):
    assert "<script" not in figure.svg
    assert "http" not in figure.svg.replace("http://www.w3.org/", "")


def test_bars_of_whole_numbers_are_labelled_with_whole_numbers():
    assert repr(bars(pd.DataFrame({"requests": [1, 4]}, index=["401", "429"]), "requests")) == (
        "Figure: requests: 401 1, 429 4."
    )


def test_a_figure_as_text_is_its_description(figure):
    assert repr(figure) == f"Figure: {figure.description}"


def test_the_slope_chart_counts_who_moves_up():
    assert FIGURES["before_and_after"]().description == "1 of 2 passages move up when they are reranked."


def test_labels_take_the_place_of_ids():
    assert "A &amp; B" in FIGURES["before_and_after"]().svg


def test_bars_name_every_value():
    assert FIGURES["bars"]().description == "nDCG@10: fused 0.200, reranked 0.400."


def test_gains_count_both_sides():
    assert "1 questions gain, 1 lose, 1 stay the same" in FIGURES["gains"]().description


def test_curves_tell_their_ends_and_the_mark():
    said = FIGURES["curves"]().description
    assert "nDCG@10 from 0.2 to 0.4" in said
    assert said.endswith("Marked at 10: knee: 10.")


def test_labels_of_curves_that_end_together_stand_apart():
    root = ET.fromstring(FIGURES["curves"]().svg)
    placed = {text.text: text.attrib["transform"] for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert placed["nDCG@10"] != placed["recall"]


def test_intervals_mark_the_side_on_which_they_lie():
    svg = FIGURES["intervals"]().svg
    assert all(label in svg for label in ("+0.200 ▲", "+0.000", "-0.200 ▼"))
    assert "none +0.000 (-0.100 to +0.100)" in FIGURES["intervals"]().description


def test_endings_tell_how_long_each_call_took():
    assert FIGURES["endings"]().description == "seconds: quick 0.1 s (ranked), slow 2.0 s (gave up)."
