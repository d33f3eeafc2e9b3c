import math

import pandas as pd
import pytest
from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import TextNode

from nvrerank_helpers.evaluation.measures import Run
from nvrerank_helpers.evaluation.tradeoff import find_knee, measure_by_count, measure_latency, truncate_candidates
from nvrerank_helpers.pydocs import Question

CANDIDATES = Run("store", {"q": ["a", "b", "c", "d"]}, [0.1])
RERANKED = Run("reranked", {"q": ["d", "b", "c", "a"]}, [0.2])
QUESTIONS = [Question("q", "which way?", "test", {"d": 3})]


class Recorder(BaseNodePostprocessor):
    """Records what it is given."""

    calls: list[list[str]] = Field(default_factory=list)

    def _postprocess_nodes(self, nodes, query_bundle=None):
        self.calls.append([node.node_id for node in nodes])
        return nodes


def test_truncating_keeps_the_reranked_order():
    assert truncate_candidates(RERANKED, CANDIDATES, 3).ranked == {"q": ["b", "c", "a"]}


def test_a_truncated_run_is_named_after_the_count_and_has_no_times():
    two = truncate_candidates(RERANKED, CANDIDATES, 2)
    assert two.system == "2"
    assert math.isnan(two.seconds[0])


def test_truncating_to_no_candidates_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        truncate_candidates(RERANKED, CANDIDATES, 0)


def test_quality_is_measured_for_every_count():
    table = measure_by_count(RERANKED, CANDIDATES, QUESTIONS, [3, 4])
    assert table["nDCG@10"].to_dict() == {3: 0, 4: 1}
    assert table.index.name == "candidates"


def test_no_passage_is_measured_twice():
    recorder = Recorder()
    nodes = [TextNode(id_=str(number), text="text") for number in range(30)]
    price = measure_latency(recorder, "which way?", nodes, [2, 5], rounds=3)
    seen = [id_ for call in recorder.calls for id_ in call]
    assert sorted(map(len, recorder.calls)) == [1, 2, 2, 2, 5, 5, 5]
    assert len(set(seen)) == len(seen)
    assert (price.index.to_list(), (price > 0).all()) == ([2, 5], True)


def test_too_few_passages_to_measure_with_are_refused():
    with pytest.raises(ValueError, match="2 nodes are too few: 4 are needed"):
        measure_latency(Recorder(), "which way?", [TextNode(text="a"), TextNode(text="b")], [1], rounds=3)


def test_the_knee_is_where_the_curve_bends():
    assert find_knee(pd.Series({5: 0.1, 10: 0.5, 20: 0.55, 100: 0.6})) == 10


def test_a_curve_below_the_line_has_its_knee_at_the_start():
    assert find_knee(pd.Series({1: 0.0, 2: 0.1, 3: 1.0})) == 1


@pytest.mark.parametrize("curve", [{1: 0.1, 2: 0.2}, {3: 0.1, 2: 0.2, 1: 0.3}])
def test_a_curve_without_a_knee_is_refused(curve):
    with pytest.raises(ValueError, match="at least three points"):
        find_knee(pd.Series(curve))
