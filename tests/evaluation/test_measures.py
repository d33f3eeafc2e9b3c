import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.evaluation.measures import (
    Run,
    compare_orders,
    fit_judgments,
    keep_answered,
    measure,
    measure_each,
    run_search,
    show_grades,
)
from nvrerank_helpers.pydocs import Question

QUESTIONS = [Question("q1", "which way?", "test", {"a": 3, "b": 1}), Question("q2", "whose woods?", "test", {"c": 2})]


def found(*ids):
    return [NodeWithScore(node=TextNode(id_=id_, text=f"{id_}\nabout {id_}"), score=1.0) for id_ in ids]


def test_a_perfect_ranking_gets_one_in_every_measure():
    table = measure([Run("best", {"q1": ["a", "b"], "q2": ["c"]}, [0.1, 0.3])], QUESTIONS)
    assert table.loc["best"].to_list() == pytest.approx([1, 1, 1, 1, 200])


def test_the_gain_of_ndcg_is_the_grade():
    values = measure_each(Run("swapped", {"q1": ["b", "a"], "q2": []}, [0.1]), QUESTIONS)
    log3 = 1.584962500721156
    assert values["q1"] == pytest.approx((1 + 3 / log3) / (3 + 1 / log3))
    assert values["q2"] == 0


def test_a_question_without_results_counts_as_zero():
    assert measure([Run("half", {"q1": ["a"]}, [0.1])], QUESTIONS).at["half", "hit@1"] == 0.5


def test_equal_scores_do_not_change_the_order():
    assert measure([Run("s", {"q1": ["z", "a"], "q2": ["y", "c"]}, [0.1])], QUESTIONS).at["s", "MRR@10"] == 0.5


def test_a_run_records_order_and_time():
    result = run_search("fixed", lambda text: found(*text.split()), QUESTIONS)
    assert result.ranked["q2"] == ["whose", "woods?"]
    assert len(result.seconds) == 2


def node(id_, text):
    return TextNode(id_=id_, text=f"{id_}\n{text}")


def test_judgments_of_missing_passages_are_dropped_and_counted():
    kept, lost = fit_judgments(QUESTIONS, [node("a", "two roads")])
    assert ([question.relevant for question in kept], lost) == ([{"a": 3}], 2)


def test_a_part_with_another_number_is_found_by_its_first_words():
    question = Question("q", "which way?", "test", {"a#2": 3}, {"a#2": "the other"})
    kept, lost = fit_judgments([question], [node("a", "two"), node("a#2", "roads"), node("a#3", "the\nother")])
    assert (kept[0].relevant, lost) == ({"a#3": 3}, 0)


def test_the_judgment_of_a_part_whose_text_is_gone_is_dropped():
    question = Question("q", "which way?", "test", {"a": 1, "a#2": 3}, {"a#2": "the other"})
    kept, lost = fit_judgments([question], [node("a", "two"), node("a#2", "roads")])
    assert (kept[0].relevant, lost) == ({"a": 1}, 1)


def test_two_judged_parts_that_became_one_keep_the_higher_grade():
    begins = {"a": "the other", "a#2": "the other"}
    kept, _ = fit_judgments([Question("q", "which way?", "test", {"a": 1, "a#2": 3}, begins)], [node("a", "the other")])
    assert kept[0].relevant == {"a": 3}


def test_two_orders_are_compared_by_their_moves():
    table = compare_orders(found("a", "b", "c"), found("c", "b", "a"))
    assert table["move"].to_list() == ["▲ 2", "=", "▼ 2"]
    assert table["before"].to_list() == [3, 2, 1]


def test_orders_of_different_nodes_are_refused():
    with pytest.raises(ValueError, match="'z'"):
        compare_orders(found("a"), found("z"))


def test_nodes_are_shown_with_their_grades():
    table = show_grades(found("b", "x"), QUESTIONS[0])
    assert table["grade"].to_list() == [1, 0]
    assert table["begins"].to_list() == ["about b", "about x"]


def test_empty_lists_are_empty_tables():
    assert show_grades([], QUESTIONS[0]).empty
    assert compare_orders([], []).empty


NO_ANSWER = Question("q3", "what is north?", "test", {}, kind="no_answer")


def test_questions_without_a_relevant_passage_change_no_measure():
    one = Run("s", {"q1": ["a", "b"], "q2": [], "q3": ["a"]}, [0.1])
    assert measure([one], [*QUESTIONS, NO_ANSWER]).equals(measure([one], QUESTIONS))
    assert list(measure_each(one, [*QUESTIONS, NO_ANSWER]).index) == ["q1", "q2"]


def test_questions_without_a_relevant_passage_are_dropped():
    assert fit_judgments([NO_ANSWER], [node("a", "two roads")]) == ([], 0)


def test_questions_that_keep_a_grade_of_three_are_answered():
    assert [question.id for question in keep_answered(QUESTIONS, [node("a", "two roads"), node("c", "snow")])] == ["q1"]


def test_the_line_under_a_heading_is_not_shown():
    underlined = [NodeWithScore(node=node("a", "With\n****\ntext"))]
    assert show_grades(underlined, QUESTIONS[0])["begins"].item() == "With text"
