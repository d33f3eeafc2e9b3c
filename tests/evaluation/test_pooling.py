import pytest

from nvrerank_helpers.evaluation.measures import Run
from nvrerank_helpers.evaluation.pooling import measure_unread, pool_passages, restrict_to_pool
from nvrerank_helpers.pydocs import Question

ONE = Run("one", {"q": ["a", "b", "c"], "r": ["x"]}, [0.1])
TWO = Run("two", {"q": ["d", "a"], "r": []}, [0.1])


def test_a_pool_contains_the_first_passages_of_each_list():
    assert pool_passages([ONE, TWO], depth=2) == {"q": {"a", "b", "d"}, "r": {"x"}}


def test_judgments_outside_the_pool_are_dropped():
    questions = [Question("q", "which way?", "test", {"a": 3, "z": 2}), Question("r", "whose woods?", "test", {"z": 3})]
    assert [question.relevant for question in restrict_to_pool(questions, pool_passages([ONE]))] == [{"a": 3}, {}]


def test_pooled_passages_are_read():
    assert measure_unread(ONE, pool_passages([ONE, TWO])) == 0


def test_passages_that_only_another_system_finds_are_unread():
    assert measure_unread(TWO, pool_passages([ONE])) == 0.5


def test_only_the_first_passages_count():
    assert measure_unread(ONE, {"q": {"a"}, "r": {"x"}}, first=1) == 0


def test_a_system_that_found_nothing_is_refused():
    with pytest.raises(ValueError, match="'none' found nothing"):
        measure_unread(Run("none", {"q": []}, [0.1]), {"q": {"a"}})
