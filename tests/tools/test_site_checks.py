"""The web site of the course: what Sphinx adds to the pages, and which errors of a site are found."""

from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs Sphinx, which is in its own environment: make site")

from tools.notebook_tool.source import Course
from tools.site_tool import __main__ as site_tool
from tools.site_tool.checks import site_problems
from tools.site_tool.pages import make_contents

ROOT = Path(__file__).parents[2]

# --- a small site, made by the same conf.py

NOTEBOOK = """{
 "cells": [
  {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Lesson\\n\\nHalf: $\\\\frac{1}{2}$"]},
  {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": 1, "source": ["raise RuntimeError('was run')"],
   "outputs": [{"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "FIGURE"}}]}
 ],
 "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
 "nbformat": 4, "nbformat_minor": 5
}
"""
FIGURE = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><title>A bar.</title></svg>"
CATALOGUE = """
[keys]
none = "none"
[[notebook]]
file = "00_lesson"
title = "Lesson"
level = "beginner"
minutes = 1
needs = []
key = "none"
verbs = ["see", "say"]
data = "none"
license = "none"
"""


def write_source(root, figure=FIGURE, readme="# Start\n\n[Lesson](notebooks/00_lesson.ipynb)\n"):
    for folder in ("docs/static", "deploy", "notebooks", "nvrerank_helpers/nim_standin"):
        (root / folder).mkdir(parents=True)
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    here = "Path(__file__).resolve().parent.parent"
    assert here in conf
    (root / "docs" / "conf.py").write_text(conf.replace(here, f"Path({str(ROOT)!r})"), encoding="utf-8")
    (root / "docs" / "static" / "book.css").write_text("")
    (root / "docs" / "api.md").write_text("# Reference\n")
    (root / "README.md").write_text(readme)
    (root / "deploy" / "README.md").write_text("# Deploy\n")
    (root / "notebooks" / "README.md").write_text("# Map\n")
    (root / "nvrerank_helpers" / "nim_standin" / "README.md").write_text("# Stand-in\n")
    (root / "notebooks" / "TEACHING.md").write_text("# Teaching\n")
    (root / "notebooks" / "catalogue.toml").write_text(CATALOGUE)
    (root / "notebooks" / "00_lesson.ipynb").write_text(NOTEBOOK.replace("FIGURE", figure))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a small site, and the text of its lesson."""
    root = write_source(tmp_path_factory.mktemp("small"))
    assert site_tool.main(root) == 0
    return root / "build" / "site"


def lesson(made):
    return (made / "notebooks" / "00_lesson.html").read_text(encoding="utf-8")


def test_the_start_page_is_what_a_web_server_shows_first(made):
    assert (made / "index.html").read_bytes() == (made / "README.html").read_bytes()


def test_every_page_is_in_the_contents(made):
    text = (made / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{page}.html"' in text for page in ("notebooks/README", "notebooks/00_lesson", "docs/api"))


def test_a_figure_says_what_it_shows(made):
    assert 'alt="A bar."' in lesson(made)


def test_a_formula_is_mathml_which_needs_no_script(made):
    assert "<mfrac>" in lesson(made)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"figure": FIGURE.replace("<title>A bar.</title>", "")}, "does not say what it shows"),
        ({"readme": "# Start\n\n[gone](notebooks/09_gone.ipynb)\n"}, "09_gone.ipynb"),
    ],
    ids=["a figure without words", "a link to no page"],
)
def test_what_sphinx_complains_about_stops_the_build(tmp_path, capfd, change, complaint):
    assert site_tool.main(write_source(tmp_path, **change)) != 0
    assert complaint in capfd.readouterr().err


def test_the_contents_follow_the_catalogue():
    entries = Course(ROOT).catalogue.entries
    text = make_contents(Course(ROOT).catalogue)
    places = [text.index(f"<notebooks/{entry.file}>") for entry in entries]
    assert places == sorted(places)


# --- faults of a built site


@pytest.fixture
def problems_of(tmp_path):
    def look(body):
        (tmp_path / "other page.html").write_text('<h2 id="there">x</h2>')
        (tmp_path / "start.html").write_text(f'<p id="here">{body}</p>')
        return list(site_problems(tmp_path))

    return look


@pytest.mark.parametrize(
    "body",
    [
        '<a href="other%20page.html#there">x</a>',
        '<a href="#here">x</a>',
        '<a href="https://example.org/x#y">x</a>',
        '<a href="mailto:a@example.org">x</a>',
        '<img src="data:image/png;base64,AA==">',
    ],
)
def test_a_good_link_is_no_problem(problems_of, body):
    assert problems_of(body) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="gone.html">x</a>', "gone.html leads to no file"),
        ('<img src="gone.png">', "gone.png leads to no file"),
        ('<a href="other%20page.html#gone">x</a>', "other%20page.html#gone leads to no such place on the page"),
        ('<a href="#gone">x</a>', "#gone leads to no such place on the page"),
        (
            '<script src="https://example.org/x.js"></script>',
            "https://example.org/x.js would be fetched from another host",
        ),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            "//example.org/x.css would be fetched from another host",
        ),
    ],
)
def test_a_fault_is_named_with_its_page(problems_of, body, problem):
    assert problems_of(body) == [f"start.html: {problem}"]
