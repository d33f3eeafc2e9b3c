import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.bulk import BadRun
from nvrerank_helpers.bulk.rows import QueryGroup, RunValidator, group_by_query, make_failed_rows, make_ranked_rows
from nvrerank_helpers.connector import PassageTooLong

THREE = QueryGroup("1", "a", ["x", "y", "z"], ["X", "Y", "Z"])


@pytest.mark.parametrize("docnos", ["xyx", "xyz"])
def test_a_query_starts_where_its_id_changes(docnos):
    assert RunValidator().find_query_starts("112", "aab", docnos) == [0, 2]


def test_a_query_may_continue_in_the_next_rows():
    validator = RunValidator()
    validator.find_query_starts("1", "a", "x")
    assert validator.find_query_starts("12", "ab", "yx") == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("11", "ab", "xy"), r"Query id '1' has two queries, 'a' and 'b' \(row 1\)"),
        (("11", "aa", "xx"), r"Passage 'x' appears twice under query '1' \(row 1\)"),
        (("121", "aba", "xxy"), r"query '1' are not consecutive: it is back in row 2.*sort_by\('qid'\)"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(rows, message):
    with pytest.raises(BadRun, match=message):
        RunValidator().find_query_starts(*rows)


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(1, 4)), unique_by=lambda pair: pair[0]))
def test_grouping_keeps_every_row_in_order(queries):
    rows = [(qid, f"of {qid}", str(place), "text") for qid, count in queries for place in range(count)]
    groups = list(group_by_query(rows))
    assert [group.qid for group in groups] == [qid for qid, _ in queries]
    assert [(g.qid, g.query, *pair) for g in groups for pair in zip(g.docnos, g.texts, strict=True)] == rows


def test_passages_are_ranked_by_logit_and_ties_stay_in_order():
    assert make_ranked_rows(THREE, [1.0, 2.0, 1.0]) == [("1", "y", 1, 2.0), ("1", "x", 2, 1.0), ("1", "z", 3, 1.0)]


def test_the_best_are_kept():
    assert make_ranked_rows(THREE, [1.0, 2.0, 3.0], top_n=1) == [("1", "z", 1, 3.0)]


def test_a_passage_without_a_logit_takes_no_rank_and_is_reported():
    outcomes = [1.0, PassageTooLong("too long"), 2.0]
    assert [row[1:3] for row in make_ranked_rows(THREE, outcomes)] == [("z", 1), ("x", 2)]
    assert make_failed_rows(THREE, outcomes) == [("1", "y", "PassageTooLong", "too long")]
