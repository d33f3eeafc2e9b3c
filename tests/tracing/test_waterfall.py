import pandas as pd
import pytest

from nvrerank_helpers.evaluation import DOWN
from nvrerank_helpers.tracing import draw_waterfall

STEPS = pd.DataFrame(
    {
        "trace": [1, 1, 2],
        "kind": ["chain", "reranker", "reranker"],
        "starts": [0.0, 2.0, 0.0],
        "ms": [20.0, 9.5, 100.0],
        "tokens": [0, 1204, 0],
        "status": ["ok", "ok", "Overloaded"],
    },
    index=pd.Index(["search", "· NVIDIARerank", "NVIDIARerank"], name="step"),
)


def test_the_waterfall_says_how_long_each_step_took():
    assert draw_waterfall(STEPS, ["healthy", "busy"]).description == (
        "Milliseconds of each step. healthy: search 20 ms, NVIDIARerank 9.5 ms, 1,204 tokens. "
        "busy: NVIDIARerank 100 ms, ✗ Overloaded."
    )


def test_a_waterfall_is_svg_with_the_steps_and_what_failed_in_it():
    svg = draw_waterfall(STEPS, ["healthy", "busy"]).svg
    assert all(text in svg for text in ("· NVIDIARerank", "1,204 tokens", "✗ Overloaded", "healthy"))


def test_only_a_failed_step_has_the_color_of_failure():
    assert DOWN in draw_waterfall(STEPS).svg
    assert DOWN not in draw_waterfall(STEPS[:2]).svg


def test_traces_without_titles_are_numbered():
    assert "Trace 2: NVIDIARerank" in draw_waterfall(STEPS).description


def test_titles_must_fit_the_traces():
    with pytest.raises(ValueError, match="2 traces need 2 titles, not 1"):
        draw_waterfall(STEPS, ["healthy"])


def test_no_steps_are_an_error_that_says_so():
    with pytest.raises(ValueError, match="no steps"):
        draw_waterfall(STEPS.iloc[:0])
