"""What `check --rerun` takes for the same output, and what it does not."""

import pytest
from nbformat.v4 import new_code_cell, new_output

from tools.notebook_tool.compare import differ, list_lines


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rank 1  shutil.rmtree  -2.945", "rank 1  shutil.rmtree  -3.117"),
        ("hit@1 0.595", "hit@1 0.581"),
        ("48 questions better", "47 questions better"),
        ("alone   0.91", "alone  0.97"),
    ],
)
def test_numbers_may_be_those_of_another_processor(old, new):
    assert not differ([old], [new])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rank 1  shutil.rmtree", "rank 2  shutil.rmtree"),
        ("nDCG@10 0.4", "nDCG@5 0.4"),
        ("reference.calls#3 0.4", "reference.calls#2 0.4"),
        ("score -0.9", "score 0.9"),
        ("0.44 for all", "0.55 for all"),
        ("0.4 better", "0.4 worse"),
        ("0.4", "0.4 0.4"),
    ],
)
def test_words_names_ranks_and_larger_differences_are_found(old, new):
    assert differ([old], [new])


def test_one_line_in_ten_may_be_another_because_near_ties_change_places():
    old = [f"passage {'abcdefghij'[n]}" for n in range(10)]
    assert not differ(old, [*old[:9], "passage x"])
    assert differ(old, [*old[:8], "passage x", "passage y"])


def test_another_number_of_lines_is_found():
    assert differ(["a"], ["a", "b"])


def test_a_figure_is_compared_by_its_description():
    svg = '<svg width="{}" role="img" aria-label="5 of 8 passages move up."><path d="M{}"/></svg>'
    cells = [
        new_code_cell(outputs=[new_output("display_data", data={"image/svg+xml": svg.format(width, width)})])
        for width in (400, 900)
    ]
    first, second = (list_lines(cell, drawings=False) for cell in cells)
    assert first == second == ["[image/svg+xml]", "5 of 8 passages move up."]
