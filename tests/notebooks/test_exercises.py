"""The exercises of the course's notebooks: untouched they say "not yet", and their solutions are checked.

That the solutions are right is asserted where the solved notebooks run, under nbmake:
`python -m tools.notebook_tool solved --to build/solved`, then `pytest --nbmake build/solved/*.ipynb`.
"""

from pathlib import Path

import nbformat
import pytest

from tools.notebook_tool.compare import list_lines
from tools.notebook_tool.source import ASSERT_RIGHT, CHECK_TAG, Course, get_tags

COURSE = Course(Path(__file__).resolve().parents[2])
NAMES = [entry.file for entry in COURSE.catalogue.entries]


@pytest.fixture(params=NAMES)
def name(request):
    path = COURSE.notebook(request.param)
    assert path.exists(), f"no notebook was found, run: python -m tools.notebook_tool build {request.param}"
    return request.param


@pytest.fixture
def checks(name):
    """The check cells of a committed notebook."""
    cells = nbformat.read(COURSE.notebook(name), as_version=4).cells
    return [cell for cell in cells if CHECK_TAG in get_tags(cell)]


def test_there_are_two_exercises_or_more(checks):
    assert len(checks) >= 2


def test_each_check_is_short(checks):
    assert all(len(cell.source.splitlines()) <= 6 for cell in checks)


def test_each_untouched_exercise_says_not_yet_without_an_error(checks):
    for cell in checks:
        assert [output.output_type for output in cell.outputs] == ["execute_result"], cell.source
        assert any(line.startswith("Not yet: ") for line in list_lines(cell)), cell.source


def test_the_solved_notebook_asserts_each_solution(name, checks):
    cells = COURSE.make(name, solved=True).cells
    asserting = [c for c in cells if c.metadata.get("nbmake", {}).get("post_cell_execute") == [ASSERT_RIGHT]]
    assert len(asserting) == len(checks)


def test_the_solved_notebook_differs_in_the_exercises_only(name, checks):
    pairs = zip(COURSE.make(name).cells, COURSE.make(name, solved=True).cells, strict=True)
    assert sum(given.source != answered.source for given, answered in pairs) == len(checks)
