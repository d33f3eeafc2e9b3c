"""Pages as passages, the handbook's questions, and what is shown of both; no PDF is made or read here."""

import base64
import io
import sys

import pytest
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore
from PIL import Image

from nvrerank_helpers.connector.nodes import to_passage
from nvrerank_helpers.evaluation import Run
from nvrerank_helpers.extras import ExtraNotInstalled
from nvrerank_helpers.lessons import (
    Gallery,
    Page,
    build_page_search,
    draw_kinds,
    list_titles,
    list_winners,
    load_page_questions,
    make_page_nodes,
    measure_by_kind,
    read_pages,
    write_handbook,
)
from nvrerank_helpers.lessons.page_images.figures import make_thumbnail
from nvrerank_helpers.lessons.page_images.pdf import to_png
from nvrerank_helpers.pydocs import Question

PNG = to_png(Image.new("RGB", (80, 60), "white"), 2)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
PAGE, SCAN = Page(3, "two roads", 0, PNG), Page(4, "", 1, PNG)


class Reversing:
    """A reranker that turns the list round, without a service."""

    def postprocess_nodes(self, nodes, query_str):
        return nodes[::-1]


class Finding(BaseRetriever):
    """A first stage that always finds the same."""

    def _retrieve(self, _):
        return make_page_nodes([PAGE], "text")


@pytest.mark.parametrize(
    ("seen_as", "passage"),
    [("text", {"text": "two roads"}), ("image", {"image": URL}), ("both", {"text": "two roads", "image": URL})],
)
def test_what_is_sent_of_a_page_is_what_it_is_seen_as(seen_as, passage):
    assert to_passage(PAGE.node(seen_as), MetadataMode.EMBED, takes_images=True) == passage


def test_a_page_is_seen_in_one_of_three_ways():
    with pytest.raises(ValueError, match="one of text, image, both, not 'picture'"):
        PAGE.node("picture")


def test_the_number_of_a_page_is_metadata_that_no_model_gets():
    assert PAGE.node("both").metadata == {"page": 3}


@pytest.mark.parametrize(("seen_as", "ids"), [("text", ["page 3"]), ("both", ["page 3", "page 4"])])
def test_a_page_without_text_is_left_out_where_only_text_is_seen(seen_as, ids):
    assert [item.node_id for item in make_page_nodes([PAGE, SCAN], seen_as)] == ids


def test_all_pages_are_reranked_where_no_first_stage_chooses():
    search = build_page_search(make_page_nodes([PAGE, SCAN], "image"), Reversing())
    assert [item.node_id for item in search("which way?")] == ["page 4", "page 3"]


def test_what_a_first_stage_finds_is_shown_in_another_way():
    (found,) = build_page_search(make_page_nodes([PAGE, SCAN], "image"), Reversing(), Finding())("which way?")
    assert isinstance(found.node, ImageNode)
    assert found.node_id == "page 3"


@pytest.mark.parametrize(
    ("module", "call"),
    [("pypdfium2", lambda path: read_pages(b"%PDF")), ("reportlab", write_handbook)],
)
def test_without_the_extra_its_name_is_told(monkeypatch, tmp_path, module, call):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraNotInstalled, match="extra `pages`"):
        call(tmp_path / "handbook.pdf")


def test_a_resolution_must_be_positive():
    with pytest.raises(ValueError, match="dots_per_inch must be above 0"):
        read_pages(b"", dots_per_inch=0)


def test_a_file_that_is_not_there_is_told(tmp_path):
    pytest.importorskip("pypdfium2")
    with pytest.raises(FileNotFoundError):
        read_pages(tmp_path / "gone.pdf")


def test_the_judged_pages_are_pages_of_the_handbook():
    pages = {f"page {number}" for number, _ in enumerate(list_titles(), 1)}
    questions = load_page_questions()
    assert {page for question in questions for page in question.relevant} <= pages
    assert all(3 in question.relevant.values() for question in questions)


def test_there_are_questions_of_each_kind_and_no_two_alike():
    questions = load_page_questions()
    kinds = [question.kind for question in questions]
    assert min(kinds.count(kind) for kind in ("text", "picture", "both")) >= 7
    assert len({question.id for question in questions}) == len({question.text for question in questions}) == len(kinds)


def judged_runs():
    questions = [
        Question("q1", "which way?", "test", {"page 3": 3}, kind="text"),
        Question("q2", "what colour?", "test", {"page 4": 3}, kind="picture"),
    ]
    runs = [Run(name, {"q1": ["page 3"], "q2": found}, [0.1, 0.1]) for name, found in (("a", []), ("b", ["page 4"]))]
    return runs, questions


def test_measures_are_told_apart_by_where_the_answer_stands():
    table = measure_by_kind(*judged_runs())
    assert table.to_dict("index") == {
        "text": {"questions": 1, "a": 1.0, "b": 1.0},
        "picture": {"questions": 1, "a": 0.0, "b": 1.0},
        "all": {"questions": 2, "a": 0.5, "b": 1.0},
    }


def test_the_figure_says_in_words_what_it_draws():
    figure = draw_kinds(measure_by_kind(*judged_runs()))
    assert "picture: a 0.00, b 1.00" in figure.description
    assert ">picture (1)<" in figure.svg


def test_a_thumbnail_keeps_the_proportions():
    with Image.open(io.BytesIO(make_thumbnail(PNG, 40))) as small:
        assert small.size == (40, 30)


def test_a_gallery_describes_each_picture_and_escapes_captions():
    shown = Gallery([PAGE], ["a < b"])._repr_html_()
    assert 'alt="page 3, small"' in shown
    assert "a &lt; b" in shown


def test_a_gallery_needs_a_caption_for_each_page():
    with pytest.raises(ValueError, match="2 pages and 1 captions"):
        Gallery([PAGE, SCAN], ["only one"])


def test_winners_are_shown_with_rank_logit_and_grade():
    found = [NodeWithScore(node=SCAN.node("image"), score=1.25), NodeWithScore(node=PAGE.node("image"), score=-2.0)]
    shown = list_winners(found, [PAGE, SCAN], Question("q1", "which way?", "test", {"page 4": 3}))
    assert shown.captions == ["1. page 4, logit 1.2, grade 3", "2. page 3, logit -2.0, grade 0"]
    assert shown.pages == [SCAN, PAGE]
