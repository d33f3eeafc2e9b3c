import pytest

from nvrerank_helpers.evaluation.measures import Run
from nvrerank_helpers.evaluation.pooling import pool, unread, within
from nvrerank_helpers.pydocs import Question

ONE = Run("one", {"q": ["a", "b", "c"], "r": ["x"]}, [0.1])
TWO = Run("two", {"q": ["d", "a"], "r": []}, [0.1])


def test_a_pool_holds_the_first_passages_of_every_list():
    assert pool([ONE, TWO], depth=2) == {"q": {"a", "b", "d"}, "r": {"x"}}


def test_judgments_outside_the_pool_are_left_out():
    questions = [Question("q", "which way?", "test", {"a": 3, "z": 2}), Question("r", "whose woods?", "test", {"z": 3})]
    assert [question.relevant for question in within(questions, pool([ONE]))] == [{"a": 3}, {}]


def test_what_was_pooled_is_read():
    assert unread(ONE, pool([ONE, TWO])) == 0


def test_what_another_system_brings_up_is_unread():
    assert unread(TWO, pool([ONE])) == 0.5


def test_only_the_first_passages_count():
    assert unread(ONE, {"q": {"a"}, "r": {"x"}}, first=1) == 0


def test_a_system_that_found_nothing_is_refused():
    with pytest.raises(ValueError, match="'none' found nothing"):
        unread(Run("none", {"q": []}, [0.1]), {"q": {"a"}})
