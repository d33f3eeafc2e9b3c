from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.evaluation.charts import (
    draw_bars,
    draw_curves,
    draw_endings,
    draw_gains,
    draw_intervals,
    draw_moves,
)


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
    "bars": draw_bars(TABLE, "nDCG@10"),
    "curves": draw_curves({"quality": CURVE, "milliseconds": TIMES}, 10, "knee: 10"),
    "endings": draw_endings(CALLS, "seconds"),
    "gains": draw_gains(pd.Series({"q1": 0.3, "q2": -0.1, "q3": 0.0}), "nDCG@10 gained"),
    "intervals": draw_intervals(TESTS, "gain"),
    "moves": draw_moves(found("a", "b<"), found("b<", "a"), labels={"a": "A & B", "b<": "B"}),
}
DESCRIPTIONS = {
    "bars": "nDCG@10: fused 0.200, reranked 0.400.",
    "curves": "candidates 5 to 50: nDCG@10 from 0.2 to 0.4, recall from 0.1 to 0.4, time from 5 to 50. "
    "Marked at 10: knee: 10.",
    "endings": "seconds: quick 0.1 s (ranked), slow 2.0 s (gave up).",
    "gains": "nDCG@10 gained: 1 questions gain, 1 lose, 1 stay the same.",
    "intervals": "gain, with 95 % intervals: up +0.200 (+0.100 to +0.300), none +0.000 (-0.100 to +0.100), "
    "down -0.200 (-0.300 to -0.100).",
    "moves": "1 of 2 passages move up when they are reranked.",
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_described(name):
    assert repr(FIGURES[name]) == f"Figure: {DESCRIPTIONS[name]}"


def test_a_figure_is_svg_that_contains_its_description(figure):
    root = ET.fromstring(figure._repr_svg_())
    assert root.attrib["aria-label"] == figure.description
    assert root.findtext("{http://www.w3.org/2000/svg}title") == figure.description


def test_a_figure_needs_nothing_from_elsewhere(figure):
    assert "<script" not in figure.svg
    assert "http" not in figure.svg.replace("http://www.w3.org/", "")


def test_bars_of_whole_numbers_have_whole_numbers_as_labels():
    assert repr(draw_bars(pd.DataFrame({"requests": [1, 4]}, index=["401", "429"]), "requests")) == (
        "Figure: requests: 401 1, 429 4."
    )


def test_labels_replace_ids():
    assert "A &amp; B" in FIGURES["moves"].svg


def test_labels_of_curves_that_end_together_do_not_overlap():
    root = ET.fromstring(FIGURES["curves"].svg)
    placed = {text.text: text.attrib["transform"] for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert placed["nDCG@10"] != placed["recall"]


def test_intervals_show_their_side_of_zero():
    assert all(label in FIGURES["intervals"].svg for label in ("+0.200 ▲", "+0.000", "-0.200 ▼"))
