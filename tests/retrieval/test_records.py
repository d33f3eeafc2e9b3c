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

from nvrerank_helpers.retrieval.stores.records import StoreMetadata, check_ids, from_json, make_rows, to_json

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
def test_a_node_comes_back_unchanged(node):
    assert from_json(to_json(node)) == node


def test_a_vector_is_not_stored_with_the_node():
    assert from_json(to_json(TextNode(text="a", embedding=[1.0]))).embedding is None


@pytest.mark.parametrize(
    "fields",
    [
        *({"metadata": {"key": value}} for value in (Path("x"), (1, 2), {1: "a"}, float("nan"), "\ud800")),
        *(
            {"relationships": {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="whole", metadata={"key": value})}}
            for value in (Path("x"), (1, 2))
        ),
        {"text": "a\0b"},
        {"text": "\ud800"},
    ],
)
def test_a_node_that_would_come_back_changed_is_refused(fields):
    with pytest.raises(ValueError, match="Node 'a' would not come back"):
        to_json(TextNode(**{"id_": "a", "text": "a"} | fields))


def test_a_class_that_llamaindex_does_not_restore_is_refused():
    class Signed(TextNode):
        signature: str

    with pytest.raises(ValueError, match="its class is not known"):
        to_json(Signed(text="a", signature="b"))


def test_an_id_too_long_for_an_index_is_refused_and_shortened_in_the_message():
    with pytest.raises(ValueError, match=r"^Node 'é{100}' .* longer than 2,000 bytes"):
        to_json(TextNode(id_="é" * 1001, text="a"))


def test_the_text_of_a_row_is_what_is_embedded():
    model = Hashed()
    node = TextNode(text="two roads", metadata={"title": "Poem", "page": 3}, excluded_embed_metadata_keys=["page"])
    assert [row.text for row in make_rows([node], model, 16)] == model.texts == ["title: Poem\n\ntwo roads"]


def test_the_vector_of_a_node_is_ignored():
    assert make_rows([TextNode(text="a", embedding=[9.0] * 16)], Hashed(), 16)[0].vector != [9.0] * 16


@pytest.mark.parametrize("vector", [[0.0, 0.0], [1.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_an_embedding_without_direction_or_of_another_width_is_refused(monkeypatch, vector):
    monkeypatch.setattr(Hashed, "_get_text_embedding", lambda self, text: vector)
    with pytest.raises(ValueError, match="not a vector of 2 numbers"):
        make_rows([TextNode(text="a")], Hashed(), 2)


def test_metadata_is_read_as_it_was_written_and_recognizes_its_model():
    metadata = StoreMetadata.create(Hashed())
    assert StoreMetadata.from_json(metadata.to_json()) == metadata
    assert metadata.describe_mismatch(StoreMetadata.create(Hashed())) is None


def test_a_single_id_in_place_of_a_list_is_refused():
    with pytest.raises(ValueError, match=r"a list, such as \['ab'\]"):
        check_ids("ab")
