"""Notebooks that need extras of the package can be chosen, or left out."""

import pytest
from tiny_course import CATALOGUE

from tools.notebook_tool.__main__ import main


@pytest.fixture
def with_extra(course):
    catalogue = course.root / "notebooks" / "catalogue.toml"
    entry = CATALOGUE[CATALOGUE.index("[[notebook]]") :].replace("00_tiny", "01_large").replace("A tiny", "A large")
    catalogue.write_text(CATALOGUE + entry + 'extras = ["ray"]\n', encoding="utf-8")
    return course


def paths(course, *options):
    main(["paths", *options], course)


def test_all_are_meant_unless_stated_otherwise(with_extra, capsys):
    paths(with_extra)
    assert [line.rpartition("/")[2] for line in capsys.readouterr().out.split()] == ["00_tiny.ipynb", "01_large.ipynb"]


@pytest.mark.parametrize(("option", "name"), [("--extras", "01_large"), ("--no-extras", "00_tiny")])
def test_those_with_or_without_extras_are_chosen(with_extra, capsys, option, name):
    paths(with_extra, option)
    assert capsys.readouterr().out.strip() == str(with_extra.notebook(name))


def test_the_header_says_how_the_extras_are_installed(with_extra):
    assert "- **You need:** nothing before this notebook; what `make extras` installs (`ray`)" in (
        with_extra.catalogue.make_header("01_large")
    )
