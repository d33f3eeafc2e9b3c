"""The verdicts that check cells show."""

import pytest

from nvrerank_helpers.lessons import check


def verdict(answer, expected=3, wrong="count again."):
    return check(answer, expected, right="so it is.", wrong=wrong)


@pytest.mark.parametrize("untouched", [None, ..., [1, ...], (..., ...)])
def test_a_starter_value_is_not_yet_an_answer(untouched):
    assert verdict(untouched).state == "not yet"


def test_the_expected_value_is_right():
    assert str(verdict(3)) == "Right: so it is."


def test_another_value_is_wrong_and_says_why():
    assert str(verdict(4)) == "Not quite: count again."


def test_a_float_may_be_rounded_to_three_digits():
    assert verdict(0.667, expected=2 / 3).state == "right"
    assert verdict(0.66, expected=2 / 3).state == "wrong"


def test_a_test_can_replace_the_expected_value():
    assert verdict(lambda n: n + 1, expected=lambda plus_one: plus_one(2) == 3).state == "right"


def test_the_reason_can_depend_on_the_answer():
    assert verdict(5, wrong=lambda n: f"{n} is too many.").message == "5 is too many."


@pytest.mark.parametrize("answer", ["three", object(), [3]])
def test_an_answer_of_another_kind_is_wrong_without_an_exception(answer):
    odd = verdict(answer, expected=lambda n: n + 1 == 4)
    assert odd.state == "wrong"
    assert "not the kind of value" in odd.message


def test_jupyter_shows_the_verdict_as_escaped_html():
    shown = check(1, 1, right="a < b", wrong="")._repr_html_()
    assert shown == "<p><strong>Right:</strong> a &lt; b</p>"
