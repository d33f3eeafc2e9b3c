"""The handbook as a PDF, its pages read by PDFium, and reranked by a stand-in that reads them by OCR."""

import base64
import io

import pytest
from PIL import Image

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.lessons import list_titles, load_page_questions, make_page_nodes, read_pages, write_handbook
from nvrerank_helpers.nim_standin import StandIn

SCANS = ["page 12", "page 17"]


@pytest.fixture(scope="module")
def handbook(tmp_path_factory):
    return write_handbook(tmp_path_factory.mktemp("pages") / "handbook.pdf")


@pytest.fixture(scope="module")
def pages(handbook):
    return read_pages(handbook)


def page(pages, title):
    return pages[list_titles().index(title)]


def test_the_same_handbook_is_written_each_time(handbook, tmp_path):
    assert write_handbook(tmp_path / "again.pdf").read_bytes() == handbook.read_bytes()


def test_the_same_pictures_are_drawn_each_time(handbook, pages):
    assert read_pages(handbook.read_bytes()) == pages


def test_every_page_is_read_with_its_title_but_for_the_scans(pages):
    untitled = [one.id for one, title in zip(pages, list_titles(), strict=True) if title not in one.text]
    assert untitled == SCANS


def test_the_scans_have_no_text_layer(pages):
    assert [one.id for one in pages if not one.text] == SCANS


@pytest.mark.parametrize(
    ("title", "shown", "said"),
    [
        ("Electricity, month by month", "January", "31 cents"),
        ("How loud it is", "52", "6 decibels lower"),
        ("Record of commissioning", "Lindqvist", "less than 16 litres"),
        ("Pipes and valves", "three-way", "1.2 bar"),
        ("What owners would change", "phone", "owners"),
    ],
)
def test_what_a_chart_shows_is_not_in_the_text_layer_and_the_fine_print_is(pages, title, shown, said):
    text = page(pages, title).text.replace("\n", " ")
    assert shown not in text
    assert said in text


def test_a_picture_holds_what_questions_about_pictures_ask_for(pages):
    pictured = {one.id for one in pages if one.pictures}
    for question in load_page_questions():
        best = {id_ for id_, grade in question.relevant.items() if grade == 3}
        assert best <= pictured if question.kind != "text" else not best & pictured, question.text


def test_pictures_are_small_and_as_large_as_was_asked(handbook, pages):
    assert max(len(one.png) for one in pages) < 40_000
    with Image.open(io.BytesIO(read_pages(handbook, dots_per_inch=72)[0].png)) as image:
        assert image.size == (420, 440)


@pytest.mark.parametrize("content", [b"", b"no PDF at all"])
def test_what_is_no_pdf_is_refused(content):
    with pytest.raises(ValueError, match="cannot be read as a PDF"):
        read_pages(content)


def test_a_page_that_would_run_over_is_refused():
    from nvrerank_helpers.lessons.page_images import handbook as module

    block = {"kind": "text", "text": "too long " * 2000}
    with pytest.raises(ValueError, match="'Endless' is too long"):
        module._build_document([{"title": "Endless", "block": [block]}])


@pytest.fixture(scope="module")
def nim():
    with StandIn() as standin:
        yield standin.base_url


def ranked(nim, pages, seen_as, query):
    reranker = NVIDIARerank(base_url=nim, top_n=None, deadline=600)
    return [item.node_id for item in reranker.postprocess_nodes(make_page_nodes(pages, seen_as), query_str=query)]


@pytest.mark.parametrize("query", ["Which serial numbers have the spring that is too soft?", "What does a fan cost?"])
def test_a_scan_is_found_by_its_picture_alone(nim, pages, query):
    few = [one for one in pages if one.number in (3, 9, 12, 16, 17)]
    assert ranked(nim, few, "image", query)[0] in SCANS
    assert not set(SCANS) & set(ranked(nim, few, "text", query))


def test_a_table_that_stands_sideways_is_found_by_its_text(nim, pages):
    few = [one for one in pages if one.number in (3, 5, 9, 16)]
    assert ranked(nim, few, "text", "How many kilograms does the hydraulic module weigh?")[0] == "page 9"


def test_a_page_comes_as_png(pages):
    node = pages[0].node("image")
    assert base64.b64decode(node.image) == pages[0].png
    assert pages[0].png.startswith(b"\x89PNG")
