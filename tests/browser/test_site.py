"""A reader opens the web site of the course from the disk."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

SITE = Path(__file__).parents[2] / "build" / "site"


@pytest.fixture
def visit(page):
    """Open a page of the site."""
    assert SITE.exists(), "there is no site yet, run: make site"
    return lambda name: page.goto((SITE / name).as_uri())


def test_the_start_page_leads_to_the_first_notebook(page, visit):
    visit("index.html")
    page.locator(".bd-article").get_by_role("link", name="Start here: what a reranker changes").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Start here: what a reranker changes"))


def test_search_finds_a_word_of_a_notebook(page, visit):
    visit("index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("negation")
    page.keyboard.press("Enter")
    expect(
        page.locator("#search-results").get_by_role("link", name="Start here: what a reranker changes")
    ).to_be_visible()


def test_a_notebook_shows_its_figure_and_says_what_it_shows(page, visit):
    visit("notebooks/00_start_here.html")
    figure = page.get_by_role("img", name="passages move up when they are reranked")
    figure.scroll_into_view_if_needed()
    assert figure.evaluate("image => image.complete && image.naturalWidth") > 200


def test_a_solution_is_folded_until_it_is_asked_for(page, visit):
    visit("notebooks/00_start_here.html")
    solution = page.locator("details", has_text="Solution").first
    expect(solution.locator("pre")).to_be_hidden()
    solution.get_by_text("Solution").click()
    expect(solution.locator("pre")).to_be_visible()
