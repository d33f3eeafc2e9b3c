import pandas as pd
import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.evaluation.thresholds import collect_judged_logits, draw_thresholds, measure_kept
from nvrerank_helpers.pydocs import Question

QUESTIONS = [Question("q1", "which way?", "development", {"a": 3, "c": 1}), Question("q2", "why?", "development", {})]
RERANKED = {
    "q1": [NodeWithScore(node=TextNode(id_=id_), score=score) for id_, score in (("a", 2.0), ("b", -1.0))],
    "q2": [NodeWithScore(node=TextNode(id_="a"), score=-3.0)],
}


@pytest.fixture
def logits():
    return collect_judged_logits(RERANKED, QUESTIONS)


def test_a_passage_is_relevant_for_the_question_that_it_was_judged_for(logits):
    assert logits[["question", "passage", "grade", "kind"]].to_numpy().tolist() == [
        ["q1", "a", 3, "relevant"],
        ["q1", "b", 0, "not relevant"],
        ["q2", "a", 0, "not relevant"],
    ]


def test_passages_at_or_above_the_threshold_are_kept(logits):
    assert measure_kept(logits, [-2.0, 2.0]).to_dict("list") == {"relevant": [1.0, 1.0], "not relevant": [0.5, 0.0]}


def test_the_kept_share_of_nothing_is_not_a_number():
    assert measure_kept(pd.DataFrame({"logit": [1.0], "kind": ["relevant"]}), [0.0])["not relevant"].isna().all()


def test_the_figure_describes_what_its_threshold_keeps(logits):
    assert "a threshold of -2 keeps 100% of the relevant passages and 50% of the others" in repr(
        draw_thresholds(logits, -2)
    )


def test_the_figure_can_mark_a_threshold_beyond_all_logits(logits):
    assert "logit 9" in draw_thresholds(logits, 9).svg
