"""Nodes are data from a store: whatever is wrong with one of them, the others are ranked."""

import logging

import httpx
import pytest
from asking import client_of, reranker_of
from connector.errors import RerankError
from connector.models import DEFAULT_MODEL
from fake_service import FakeService, RerankService
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode


def make(**arguments):
    """Return a reranker for a NIM that likes long passages."""
    service = FakeService(score=len)
    service.models = [DEFAULT_MODEL]
    return reranker_of(service, **{"model": DEFAULT_MODEL, "top_n": None} | arguments)


def rerank(nodes, **arguments):
    found = [node if isinstance(node, NodeWithScore) else NodeWithScore(node=node, score=0.5) for node in nodes]
    return make(**arguments).postprocess_nodes(found, query_str="q")


UNUSABLE = {
    "empty": TextNode(text=""),
    "blank": TextNode(text=" \n\t\u2003"),
    "a lone surrogate": TextNode(text="a \ud800 b"),
    "a lone surrogate in the metadata": TextNode(text="a", metadata={"title": "\udfff"}),
    "an image elsewhere": ImageNode(image_url="http://elsewhere.example/cat.png"),
    "a file that is missing": ImageNode(image_path="/missing/cat.png"),
    "an image of no kind": ImageNode(image="bm90IGFuIGltYWdl"),
    "an image that is no base64": ImageNode(image="!!!"),
    "a data URL of another kind": TextNode(text="", metadata={"image": "data:image/svg+xml;base64,PHN2Zy8+"}),
}
BY_TEXT = {
    "a file name": TextNode(text="long text", metadata={"image": "figures/cat.png"}),
    "no image": TextNode(text="long text", metadata={"image": None}),
    "a number": TextNode(text="long text", metadata={"image": 7}),
    "a list": TextNode(text="long text", metadata={"image": ["cat.png"]}),
    "an address": ImageNode(text="long text", image_url="http://elsewhere.example/cat.png"),
    "a file that is missing": ImageNode(text="long text", image_path="/missing/cat.png"),
    "an image of no kind": ImageNode(text="long text", image="bm90IGFuIGltYWdl"),
    "a data URL of another kind": TextNode(text="long text", metadata={"image": "data:image/svg+xml;base64,PHN2Zy8+"}),
    "half a data URL": TextNode(text="long text", metadata={"image": "data:image/png;base64"}),
}


@pytest.mark.parametrize("node", UNUSABLE.values(), ids=UNUSABLE)
def test_a_node_that_cannot_be_ranked_comes_last_without_a_score(node, caplog):
    best = rerank([node, TextNode(text="a"), TextNode(text="abc")])
    assert [item.node_id == node.node_id for item in best] == [False, False, True]
    assert [item.text for item in best[:2]] == ["abc", "a"]
    assert best[-1].score is None
    assert best[-1].node.metadata["rerank_skipped"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("node", UNUSABLE.values(), ids=UNUSABLE)
def test_it_never_displaces_one_that_can(node):
    assert [item.text for item in rerank([node, TextNode(text="a"), TextNode(text="abc")], top_n=2)] == ["abc", "a"]


@pytest.mark.parametrize("node", BY_TEXT.values(), ids=BY_TEXT)
def test_a_node_with_text_is_ranked_by_it_whatever_its_image_is(node):
    best = rerank([TextNode(text="a"), node, TextNode(text="abc")])
    assert best[0].node_id == node.node_id
    assert best[0].score >= len("long text")


def test_nodes_of_which_none_can_be_ranked_come_back_as_they_were():
    nodes = [TextNode(text=""), TextNode(text=" ")]
    assert [(item.node_id, item.score) for item in rerank(nodes)] == [(node.node_id, None) for node in nodes]


def test_a_threshold_leaves_them_out():
    assert [item.text for item in rerank([TextNode(text=""), TextNode(text="abc")], min_score=1)] == ["abc"]


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
METADATA = st.dictionaries(
    st.sampled_from(["image", "title", "rerank_failed", "first_stage_rank", ""]), VALUES, max_size=3
)


@given(st.lists(st.tuples(st.text(max_size=20), METADATA, st.none() | st.floats()), max_size=8))
def test_no_text_and_no_metadata_fails_a_query(found):
    logging.disable()
    nodes = [NodeWithScore(node=TextNode(text=text, metadata=facts), score=score) for text, facts, score in found]
    best = rerank(nodes)
    logging.disable(logging.NOTSET)
    assert sorted(item.node_id for item in best) == sorted(item.node_id for item in nodes)
    scores = [item.score for item in best]
    ranked = [score for score in scores if score is not None]
    assert ranked == sorted(ranked, reverse=True)
    assert scores == ranked + [None] * (len(scores) - len(ranked))


@pytest.mark.parametrize("query", ["a \ud800 b", "\udfff"])
def test_a_query_that_is_no_unicode_is_named(query):
    nodes = [NodeWithScore(node=TextNode(text="a"), score=0.5)]
    with pytest.raises(RerankError, match="The query"):
        make().postprocess_nodes(nodes, query_str=query)
    assert make(on_failure="keep_order").postprocess_nodes(nodes, query_str=query)[0].score == 0.5


@pytest.mark.parametrize("passage", [{}, {"text": None}, {"text": 5}, {"text": b"\xff"}, {"text": object()}])
@pytest.mark.parametrize("kind", [FakeService, RerankService])
def test_a_passage_that_is_none_is_an_error_of_ours(passage, kind):
    service = kind()
    service.answers = [httpx.Response(422)]
    with pytest.raises(RerankError):
        client_of(service, service.models[0]).rank("q", [passage])
