import numpy as np
import pytest
from scipy import stats

from nvrerank_helpers.evaluation.measures import Run
from nvrerank_helpers.evaluation.significance import compare, compute_power, find_worst
from nvrerank_helpers.pydocs import Question

QUESTIONS = [Question(f"q{number}", f"question {number}", "test", {"a": 3, "b": 1}) for number in range(12)]
NO_ANSWER = Question("none", "what is north?", "test", {}, kind="no_answer")


def ranking(system, *tops):
    return Run(system, {f"q{number}": list(top) for number, top in enumerate(tops)} | {"none": ["a"]}, [0.1])


BAD = ranking("bad", *["xa"] * 12)
MIXED = ranking("mixed", *["ax"] * 8, *["xa"] * 2, *["xya"] * 2)


def test_the_difference_is_the_mean_over_the_questions():
    found = compare(BAD, MIXED, QUESTIONS, "MRR@10")
    assert found.difference == pytest.approx((8 * 0.5 + 2 * (1 / 3 - 1 / 2)) / 12)
    assert (found.better, found.worse, found.n, found.measure) == (8, 2, 12, "MRR@10")


def test_the_interval_surrounds_the_difference_and_swaps_with_the_systems():
    there, back = compare(BAD, MIXED, QUESTIONS), compare(MIXED, BAD, QUESTIONS)
    assert 0 < there.low < there.difference < there.high
    assert (back.low, back.high) == (pytest.approx(-there.high, abs=0.02), pytest.approx(-there.low, abs=0.02))


def test_p_comes_from_all_swaps():
    differences = [0.5] * 8 + [0.0] * 2 + [1 / 3 - 1 / 2] * 2
    signs = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)
    means = (signs * np.array(differences)[:, None]).mean(axis=0)
    exact = (np.abs(means) >= abs(np.mean(differences)) - 1e-12).mean()
    assert compare(BAD, MIXED, QUESTIONS, "MRR@10").p == pytest.approx(exact)


def test_the_same_comparison_gives_the_same_result():
    assert compare(BAD, MIXED, QUESTIONS) == compare(BAD, MIXED, QUESTIONS)


def test_a_system_does_not_differ_from_itself():
    same = compare(BAD, BAD, QUESTIONS)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_the_same_gain_for_every_question_has_no_interval():
    good = compare(BAD, ranking("good", *["ax"] * 12), QUESTIONS, "MRR@10")
    assert (good.low, good.high, good.p) == (0.5, 0.5, 2 / 2**12)


def test_questions_without_an_answer_are_left_out_and_counted():
    found = compare(BAD, MIXED, [*QUESTIONS, NO_ANSWER])
    assert (found.n, found.left_out) == (12, 1)
    assert found.difference == compare(BAD, MIXED, QUESTIONS).difference


def test_one_question_is_too_few_for_a_comparison():
    with pytest.raises(ValueError, match="at least two questions"):
        compare(BAD, MIXED, [QUESTIONS[0], NO_ANSWER])


def test_a_comparison_is_one_line_of_text():
    assert str(compare(BAD, BAD, QUESTIONS)).startswith("nDCG@10 +0.000 [+0.000, +0.000], p = 1.0000, 12 questions")


def test_power_without_an_effect_is_the_level_of_the_test():
    assert compute_power(0, 0.2, 50) == pytest.approx(0.05)


def test_power_is_how_often_a_t_test_finds_the_effect():
    drawn = np.random.default_rng(1).normal(0.1, 0.2, (4000, 30))
    assert compute_power(0.1, 0.2, 30) == pytest.approx(
        (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean(), abs=0.03
    )


def test_power_does_not_depend_on_the_sign():
    assert compute_power(-0.1, 0.2, 30) == compute_power(0.1, 0.2, 30)


def test_a_huge_effect_is_always_found():
    assert compute_power(0.13, 0.21, 320) == pytest.approx(1)


@pytest.mark.parametrize(("deviation", "questions"), [(0, 10), (0.2, 1)])
def test_power_of_nothing_is_refused(deviation, questions):
    with pytest.raises(ValueError, match="at least two questions"):
        compute_power(0.1, deviation, questions)


def test_the_worst_come_first_with_the_ranks_of_their_best_passage():
    table = find_worst(ranking("old", "axb", "ax", "xa"), ranking("new", "xab", "xyza", "ax"), QUESTIONS[:3])
    assert table.index.to_list() == ["q1", "q0"]
    assert table.loc["q1", ["before", "after", "now first", "grade"]].to_list() == [1, 4, "x", 0]


def test_a_best_passage_that_is_not_found_has_no_rank():
    table = find_worst(ranking("old", "bx"), ranking("new", ""), QUESTIONS[:1])
    assert table[["before", "after"]].isna().all(axis=None)
    assert table.at["q0", "now first"] is None


def test_no_question_got_worse():
    assert find_worst(BAD, BAD, QUESTIONS).empty
