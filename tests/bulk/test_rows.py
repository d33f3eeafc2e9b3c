import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.bulk.rows import Question, Watch, failed_rows, questions, ranked_rows
from nvrerank_helpers.connector import PassageTooLong

TOO_LONG = PassageTooLong("too long")


def test_a_query_begins_where_its_id_changes():
    assert Watch().starts(["1", "1", "2"], ["a", "a", "b"], ["x", "y", "x"]) == [0, 2]


def test_a_query_goes_on_in_the_next_rows():
    watch = Watch()
    watch.starts(["1"], ["a"], ["x"])
    assert watch.starts(["1", "2"], ["a", "b"], ["y", "x"]) == [1]


def test_two_queries_under_one_id_are_refused():
    with pytest.raises(BadRun, match=r"Query id '1' has two queries, 'a' and 'b' \(row 1\)"):
        Watch().starts(["1", "1"], ["a", "b"], ["x", "y"])


def test_a_passage_that_stands_twice_under_a_query_is_refused():
    with pytest.raises(BadRun, match=r"Passage 'x' stands twice under query '1' \(row 1\)"):
        Watch().starts(["1", "1"], ["a", "a"], ["x", "x"])


def test_a_passage_may_stand_under_two_queries():
    assert Watch().starts(["1", "2"], ["a", "b"], ["x", "x"]) == [0, 1]


def test_a_query_that_comes_back_is_refused_with_how_to_sort():
    watch = Watch()
    watch.starts(["1", "2"], ["a", "b"], ["x", "x"])
    with pytest.raises(BadRun, match=r"query '1' do not stand together: it is back in row 2.*sort_by\('qid'\)"):
        watch.starts(["1"], ["a"], ["y"])


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(1, 4)), unique_by=lambda pair: pair[0]))
def test_grouping_keeps_every_row_in_order(queries):
    rows = [(qid, f"of {qid}", str(place), "text") for qid, count in queries for place in range(count)]
    grouped = list(questions(rows))
    assert [question.qid for question in grouped] == [qid for qid, _ in queries]
    assert [(q.qid, q.query, *pair) for q in grouped for pair in zip(q.docnos, q.texts, strict=True)] == rows


THREE = Question("1", "a", ["x", "y", "z"], ["X", "Y", "Z"])


def test_passages_are_ranked_by_logit_and_ties_stay_in_order():
    assert ranked_rows(THREE, [1.0, 2.0, 1.0]) == [("1", "y", 1, 2.0), ("1", "x", 2, 1.0), ("1", "z", 3, 1.0)]


def test_the_best_are_kept():
    assert ranked_rows(THREE, [1.0, 2.0, 3.0], top_n=1) == [("1", "z", 1, 3.0)]


def test_a_passage_without_a_logit_takes_no_rank_and_is_reported():
    outcomes = [1.0, TOO_LONG, 2.0]
    assert [row[1:3] for row in ranked_rows(THREE, outcomes)] == [("z", 1), ("x", 2)]
    assert failed_rows(THREE, outcomes) == [("1", "y", "PassageTooLong", "too long")]
