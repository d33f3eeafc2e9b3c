"""What the tool makes of a source."""

import json
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from tiny_course import write_course

from tools.notebook_tool.__main__ import main
from tools.notebook_tool.catalogue import CourseError
from tools.notebook_tool.source import Course

EXERCISE, CHECK, SOLUTION = 4, 5, 6


@pytest.fixture(scope="module")
def notebook(built):
    return nbformat.read(built.notebook("00_tiny"), as_version=4)


def text_of(cell):
    return json.dumps(cell.outputs)


def rewrite(course, old, new):
    path = course.source("00_tiny")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_title_cell_gets_the_header_from_the_catalogue(notebook):
    assert notebook.cells[0].source.splitlines()[:4] == [
        "# A tiny lesson",
        "",
        "- **Level and time:** beginner, 1 minutes",
        "- **You will be able to:** add; subtract",
    ]


def test_the_last_cell_holds_the_links(notebook):
    assert notebook.cells[-1].source == "---\n\n[All notebooks](README.md)"


def test_code_cells_are_counted_from_one(notebook):
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == [1, 2, 3, 4, 5]


def test_metadata_holds_kernel_language_and_stamp_only(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info", "nvrerank"}
    assert notebook.metadata.language_info == {"name": "python"}
    assert notebook.metadata.nvrerank.source == "source/00_tiny.py"


def test_cells_keep_no_metadata_but_tags(notebook):
    assert {key for cell in notebook.cells for key in cell.metadata} == {"tags"}


def test_ids_are_unique_hashes(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{12}", cell_id) for cell_id in ids)


def test_the_run_sees_no_key_and_shows_no_folder_of_this_machine(notebook, built):
    printed = notebook.cells[1].outputs[0].text
    assert printed == "False ./notebooks/data.csv\n"


def test_stderr_and_memory_addresses_are_not_kept(notebook):
    outputs = notebook.cells[3].outputs
    assert [output.output_type for output in outputs] == ["stream", "execute_result"]
    assert outputs[1].data["text/plain"] == "<object>"


def test_an_exercise_shows_its_starter_and_not_its_solution(notebook):
    assert notebook.cells[EXERCISE].source == "two = 2\ntotal = ..."


def test_the_solution_is_folded_behind_the_check(notebook):
    folded = notebook.cells[SOLUTION].source
    assert folded.startswith("<details>\n<summary>Solution</summary>")
    assert "```python\n# Both are whole numbers.\ntotal = two + two\n```" in folded


def test_an_untouched_exercise_says_not_yet(notebook):
    assert "Not yet" in text_of(notebook.cells[CHECK])


def test_building_twice_gives_the_same_bytes_but_for_timings(course, built):
    assert main(["build", "00_tiny"], course) == 0
    both = [nbformat.read(c.notebook("00_tiny"), as_version=4) for c in (built, course)]
    for one in both:
        one.cells[2].outputs = []
    assert nbformat.writes(both[0]) == nbformat.writes(both[1])


def test_an_id_does_not_change_when_a_cell_is_added_before_it(unbuilt):
    before = unbuilt.make("00_tiny").cells[-2].id
    rewrite(unbuilt, "# %% tags=", "# %% [markdown]\n# New.\n\n# %% tags=")
    assert unbuilt.make("00_tiny").cells[-2].id == before


def test_a_failing_cell_stops_the_build_and_is_named(unbuilt, capsys):
    rewrite(unbuilt, "import os\n", "1 / 0\n")
    assert main(["build"], unbuilt) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not unbuilt.notebook("00_tiny").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('# %% tags=["check"]', "# %%", "the first code cell after an exercise"),
        ('# %% tags=["timing"]', '# %% tags=["check"]', "the first code cell after an exercise"),
        ("# </solution>", "", "an exercise has lines"),
        ("# <starter> total = ...", "", "an exercise has lines"),
        ("# Both are whole numbers.\ntotal = two + two\n", "", "there is nothing between"),
        ("# # A tiny lesson", "# # Another lesson", "begin with the catalogue's title: # A tiny lesson"),
    ],
)
def test_a_source_that_breaks_a_convention_is_refused(unbuilt, old, new, message):
    rewrite(unbuilt, old, new)
    with pytest.raises(CourseError, match=re.escape(message)):
        unbuilt.make("00_tiny")


def test_an_exercise_without_a_check_is_refused(unbuilt):
    path = unbuilt.source("00_tiny")
    path.write_text(path.read_text(encoding="utf-8").partition('# %% tags=["check"]')[0], encoding="utf-8")
    with pytest.raises(CourseError, match="the last exercise has no check cell"):
        unbuilt.make("00_tiny")


def test_a_missing_source_is_named(unbuilt):
    unbuilt.source("00_tiny").unlink()
    with pytest.raises(CourseError, match=r"write notebooks/source/00_tiny\.py"):
        unbuilt.make("00_tiny")


@pytest.fixture(scope="module")
def nbmake_report(tmp_path_factory):
    """What nbmake says of two solved notebooks, one of them with a solution that is wrong."""
    root = tmp_path_factory.mktemp("solved")
    for name, total in (("right", "two + two"), ("wrong", "two")):
        course = write_course(root / f"course_{name}")
        rewrite(course, "total = two + two", f"total = {total}")
        assert main(["solved", "--to", str(root / name)], course) == 0
    command = [sys.executable, "-m", "pytest", "--nbmake", "-rA", "-p", "no:cacheprovider", "right", "wrong"]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120, check=False).stdout


def test_a_right_solution_passes_under_nbmake(nbmake_report):
    assert "PASSED right/00_tiny.ipynb" in nbmake_report


def test_a_wrong_solution_fails_under_nbmake_and_says_why(nbmake_report):
    assert "FAILED wrong/00_tiny.ipynb" in nbmake_report
    assert "Not quite: count again." in nbmake_report


def test_a_source_with_windows_line_ends_makes_the_same_notebook(unbuilt, tmp_path):
    windows = Course(shutil.copytree(unbuilt.root, tmp_path / "windows"))
    source = windows.source("00_tiny")
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    assert windows.make("00_tiny") == unbuilt.make("00_tiny")
