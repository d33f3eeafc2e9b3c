"""What the check of committed notebooks finds."""

import json

import pytest

from tools.notebook_tool.__main__ import main

NAME = "00_tiny"


@pytest.fixture
def check(course, capsys):
    """Run the check on a course that a test has spoilt, and return what it complains about."""

    def run(*options):
        status = main(["check", *options], course)
        complaints = capsys.readouterr().err
        assert status == (1 if complaints else 0)
        return complaints

    return run


@pytest.fixture
def edit(course):
    """Change a text in the committed notebook, as a hand would."""

    def change(old, new):
        path = course.notebook(NAME)
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def test_a_built_course_has_no_complaints(check):
    assert check() == ""


def test_an_edited_source_is_found(check, course):
    path = course.source(NAME)
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "stamp differ" in check()


def test_an_edited_notebook_cell_is_found(check, edit):
    edit('print(\\"after it\\")', 'print(\\"before it\\")')
    assert "cell 4 is not what the source makes" in check()


def test_a_removed_cell_is_found(check, course):
    path = course.notebook(NAME)
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["cells"][-1]
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    assert "cell 8 is not what the source makes" in check()


def test_a_key_in_an_output_is_found_and_not_repeated(check, edit):
    edit("after it\\n", "nvapi-abcdefgh12345678\\n")
    complaints = check()
    assert "cell 4 contains an API key" in complaints
    assert "abcdefgh" not in complaints


@pytest.mark.parametrize("path", ["/home/ann/data", "/" + "root/data", "/Users/ann", "C:\\\\Users\\\\ann", "/tmp/x1"])
def test_an_absolute_path_in_an_output_is_found(check, edit, path):
    edit("after it\\n", f"see {path}\\n")
    assert "cell 4 contains an absolute path" in check()


def test_a_closing_tag_is_not_taken_for_a_path(check, edit):
    edit("after it\\n", "<root></root> ~/home/x\\n")
    assert check() == ""


def test_the_address_of_a_package_index_is_found(check, edit):
    edit("after it\\n", "https://index.example/simple/\\n")
    assert "cell 4 contains the address of a package index" in check()


def test_the_host_of_this_machines_package_index_is_found(check, edit, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/all")
    edit("after it\\n", "from packages.example\\n")
    assert "cell 4 contains the host of a package index" in check()


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ({"output_type": "error", "ename": "KeyError", "evalue": "1", "traceback": []}, "ends in an error"),
        ({"output_type": "stream", "name": "stderr", "text": "oh"}, "keeps what was written to stderr"),
        (
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<script>1</script>"}},
            "needs a script",
        ),
        (
            {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.plotly.v1+json": {}}},
            "many viewers cannot show",
        ),
    ],
)
def test_an_unfit_output_is_found(check, course, output, complaint):
    path = course.notebook(NAME)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cells"][2]["outputs"].append(output)
    path.write_text(json.dumps(content), encoding="utf-8")
    assert complaint in check()


def test_a_wrong_counter_is_found(check, edit):
    edit('"execution_count": 3', '"execution_count": 7')
    assert "has the counter 7, not 3" in check()


def test_an_exercise_that_does_not_say_not_yet_is_found(check, edit):
    edit("Not yet", "Right")
    assert "must say 'Not yet'" in check()


def test_another_form_of_the_file_is_found(check, course):
    path = course.notebook(NAME)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert "saved in another form" in check()


def test_a_large_notebook_is_found(check, edit):
    edit("after it\\n", "x" * 151_000)
    assert "at most 150 kB" in check()


def test_a_notebook_without_source_is_found(check, course):
    course.notebook("09_lost").write_text("{}", encoding="utf-8")
    assert "09_lost: has a notebook but no source" in check()


def test_a_source_without_entry_is_found(check, course):
    course.source("09_lost").write_text("", encoding="utf-8")
    assert "09_lost: has a source but no entry" in check()


def test_a_missing_notebook_is_found(check, course):
    course.notebook(NAME).unlink()
    assert "there is no notebook" in check()


@pytest.mark.parametrize("file", ["README.md", "notebooks/README.md"])
def test_a_stale_table_is_found(check, course, file):
    path = course.root / file
    path.write_text(path.read_text(encoding="utf-8").replace("beginner", "expert"), encoding="utf-8")
    assert check().startswith(f"{file}: the course table is stale")


def test_a_name_outside_the_catalogue_is_refused(check):
    assert "99_none is not in catalogue.toml" in check("99_none")


def test_rerun_passes_over_timings_and_shows_the_first_stale_output(check, edit):
    edit("after it\\n", "before it\\n")
    complaints = check("--rerun")
    assert "cell 4 shows something else" in complaints
    assert "-before it" in complaints
    assert "+after it" in complaints
