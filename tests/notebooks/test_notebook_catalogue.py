"""The catalogue: what it refuses, and the text made from it."""

from pathlib import Path

import pytest
from tiny_course import CATALOGUE

from tools.notebook_tool.catalogue import CourseError, fill_readme, load_catalogue

SECOND = (
    CATALOGUE.partition("[[notebook]]")[2]
    .replace("00_tiny", "01_more")
    .replace("A tiny lesson", "More")
    .replace("needs = []", 'needs = ["00_tiny"]')
)


@pytest.fixture
def load(tmp_path: Path):
    def from_text(text):
        path = tmp_path / "catalogue.toml"
        path.write_text(text, encoding="utf-8")
        return load_catalogue(path)

    return from_text


@pytest.fixture
def two(load):
    return load(f"{CATALOGUE}\n[[notebook]]\n{SECOND}")


def test_neighbours_are_linked_in_the_order_of_the_file(two):
    assert two.link_neighbors("00_tiny").endswith("[All notebooks](README.md) · Next: [More](01_more.ipynb)")
    assert "Previous: [A tiny lesson](00_tiny.ipynb) · " in two.link_neighbors("01_more")


def test_the_header_links_what_is_needed(two):
    assert "- **You need:** [A tiny lesson](00_tiny.ipynb)" in two.make_header("01_more")


def test_the_readme_table_is_between_the_markers(two):
    text = fill_readme("a\n<!-- course:begin -->\nold\n<!-- course:end -->\nb\n", "course", two.make_table())
    assert text.startswith("a\n<!-- course:begin -->\n| no. | notebook |")
    assert "| 01 | [More](notebooks/01_more.ipynb) | beginner | 1 | add; subtract |" in text
    assert text.endswith("\n<!-- course:end -->\nb\n")
    assert "old" not in text


def test_the_map_says_what_leads_to_what_and_how_long_all_takes(two):
    first, second, together = two.make_map().splitlines()[-3:]
    assert first == "| 00 | [A tiny lesson](00_tiny.ipynb) | beginner | 1 | none | two numbers |"
    assert second == "| 01 | [More](01_more.ipynb) | beginner | 1 | [00](00_tiny.ipynb) | two numbers |"
    assert together == "| | *all of them* | | *2* | | |"


@pytest.mark.parametrize("readme", ["", "<!-- course:begin -->", "<!-- course:end --> <!-- course:begin -->"])
def test_a_readme_without_markers_is_refused(two, readme):
    with pytest.raises(CourseError, match="add the two lines <!-- course:begin -->"):
        fill_readme(readme, "course", two.make_table())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("00_tiny", "tiny", "form NN_name"),
        ('level = "beginner"', 'level = "easy"', "level must be one of beginner"),
        ('["add", "subtract"]', '["add"]', "2 to 4 things"),
        ("needs = []", 'needs = ["05_later"]', "needs may only name"),
        ('key = "not needed"', 'key = "perhaps"', "key must be one of not needed"),
        ("minutes = 1\n", "", "missing 1 required positional argument: 'minutes'"),
        ("minutes = 1\n", "minutes = 1\ncolor = 2\n", "unexpected keyword argument 'color'"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(load, old, new, message):
    with pytest.raises(CourseError, match=message):
        load(CATALOGUE.replace(old, new))
