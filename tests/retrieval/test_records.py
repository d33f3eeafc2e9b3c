from pathlib import Path

import pytest
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from memory_store import Hashed

from nvrerank_helpers.retrieval.stores.records import About, check_ids, from_json, rows_of, to_json

RICH = {
    "id_": "a'b\"c;üé",
    "text": "two roads\n\u2028diverged",
    "metadata": {"page": 3, "tags": ["x", None, 1.5], "deep": {"é": True}},
    "excluded_embed_metadata_keys": ["page"],
    "excluded_llm_metadata_keys": ["tags"],
    "relationships": {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="whole", metadata={"title": "t"}),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="part")],
    },
    "text_template": "{metadata_str}|{content}",
    "metadata_separator": ";",
    "start_char_idx": 4,
    "end_char_idx": 9,
}
PLAIN = {"id_": "a", "text": "two roads", "metadata": {"page": 3}}


@pytest.mark.parametrize(
    "node",
    [
        TextNode(**RICH),
        Document(**PLAIN),
        IndexNode(**PLAIN, index_id="i"),
        ImageNode(**PLAIN, image="aGVsbG8=", image_mimetype="image/png"),
        ImageDocument(id_="a", image="aGVsbG8="),
        Document(**PLAIN, image_resource=MediaResource(data=b"\x89PNG", mimetype="image/png")),
        Node(id_="a", text_resource=MediaResource(text="a"), audio_resource=MediaResource(data=b"\xff\xfb")),
    ],
    ids=type,
)
def test_a_node_comes_back_as_it_was(node):
    assert from_json(to_json(node)) == node


def test_a_vector_is_not_kept_with_the_node():
    assert from_json(to_json(TextNode(text="a", embedding=[1.0]))).embedding is None


@pytest.mark.parametrize(
    "metadata",
    [{"when": Path("x")}, {"pair": (1, 2)}, {"by page": {1: "a"}}, {"score": float("nan")}, {"text": "\ud800"}],
)
def test_metadata_that_would_come_back_otherwise_is_refused(metadata):
    with pytest.raises(ValueError, match="Node 'a' would not come back"):
        to_json(TextNode(id_="a", text="a", metadata=metadata))


@pytest.mark.parametrize("metadata", [{"pair": (1, 2)}, {"when": Path("x")}])
def test_a_relationship_that_would_come_back_otherwise_is_refused(metadata):
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="whole", metadata=metadata)}
    with pytest.raises(ValueError, match="Node 'a' would not come back"):
        to_json(TextNode(id_="a", text="a", relationships=source))


def test_a_class_that_llamaindex_would_not_give_back_is_refused():
    class Signed(TextNode):
        signature: str

    with pytest.raises(ValueError, match="its class is not known"):
        to_json(Signed(text="a", signature="b"))


def test_an_id_longer_than_an_index_takes_is_refused_and_not_repeated_whole():
    with pytest.raises(ValueError, match=r"^Node 'é{100}' .* longer than 2,000 bytes"):
        to_json(TextNode(id_="é" * 1001, text="a"))


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_a_database_cannot_hold_is_refused(text):
    with pytest.raises(ValueError, match="Node 'a' would not come back"):
        to_json(TextNode(id_="a", text=text))


def test_the_text_of_a_row_is_what_is_embedded():
    model = Hashed()
    node = TextNode(text="two roads", metadata={"title": "Poem", "page": 3}, excluded_embed_metadata_keys=["page"])
    assert [row.text for row in rows_of([node], model, 16)] == model.texts == ["title: Poem\n\ntwo roads"]


def test_the_vector_that_a_node_carries_is_not_trusted():
    assert rows_of([TextNode(text="a", embedding=[9.0] * 16)], Hashed(), 16)[0].vector != [9.0] * 16


@pytest.mark.parametrize("vector", [[0.0, 0.0], [1.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_what_is_no_vector_is_refused(monkeypatch, vector):
    monkeypatch.setattr(Hashed, "_get_text_embedding", lambda self, text: vector)
    with pytest.raises(ValueError, match="no vector of 2 numbers"):
        rows_of([TextNode(text="a")], Hashed(), 2)


def test_a_record_survives_and_knows_its_model():
    about = About.new(Hashed())
    assert About.from_json(about.to_json()).mismatch(About.new(Hashed())) is None


def test_a_single_id_in_place_of_a_list_is_refused():
    with pytest.raises(ValueError, match=r"a list, such as \['ab'\]"):
        check_ids("ab")
