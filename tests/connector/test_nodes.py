import logging

import pytest
from connector.nodes import (
    add_metadata,
    apply_order,
    check_arguments,
    in_first_stage_order,
    mark_skipped,
    to_candidates,
    to_passage,
)
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

NODE = TextNode(id_="n", text="two roads", metadata={"poet": "Frost"})

# Whatever a store may keep: any text, any value that JSON or Python knows.
texts = st.text(st.characters(), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
metadata = st.dictionaries(texts | st.just("image"), values, max_size=4)


def found(*nodes):
    return [NodeWithScore(node=node, score=0.5) for node in nodes]


def test_the_copy_has_the_facts_and_the_node_does_not():
    assert add_metadata(NODE, rank=1).metadata == {"poet": "Frost", "rank": 1}
    assert NODE.metadata == {"poet": "Frost"}


def test_facts_are_not_in_the_text_that_models_see():
    copy = add_metadata(NODE, rank=1)
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert copy.get_content(mode) == NODE.get_content(mode)


def test_annotating_twice_replaces_a_fact():
    twice = add_metadata(add_metadata(NODE, rank=1), rank=2)
    assert (twice.metadata["rank"], twice.excluded_llm_metadata_keys) == (2, ["rank"])


@given(st.lists(st.tuples(texts, metadata), max_size=5), st.sampled_from([True, False, None]))
def test_every_node_becomes_a_passage_or_is_skipped_with_a_reason(contents, takes_images):
    nodes = found(*[TextNode(text=text, metadata=data) for text, data in contents])
    candidates = to_candidates(nodes, MetadataMode.ALL, takes_images=takes_images)
    assert sorted([*candidates.positions, *candidates.skipped]) == list(range(len(nodes)))
    assert len(candidates.passages) == len(candidates.positions)
    for passage in candidates.passages:
        passage.get("text", "").encode()


def test_one_warning_names_the_first_node_that_cannot_be_ranked(caplog):
    with caplog.at_level(logging.WARNING):
        to_candidates(
            found(NODE, TextNode(id_="blank", text=" \n"), TextNode(text="")), MetadataMode.EMBED, takes_images=False
        )
    assert [record.message for record in caplog.records] == [
        "2 of 3 nodes cannot be ranked and come last. The first is node 'blank': it has no text"
    ]


class Broken(TextNode):
    def get_content(self, metadata_mode=MetadataMode.NONE):
        raise KeyError("template")


def test_a_node_whose_own_code_fails_is_skipped():
    candidates = to_candidates(found(Broken(text="a")), MetadataMode.EMBED, takes_images=False)
    assert candidates.skipped == {0: "KeyError('template')"}


def test_text_that_is_not_unicode_is_skipped():
    with pytest.raises(ValueError, match="not valid Unicode"):
        to_passage(TextNode(text="half an emoji \ud83d"), MetadataMode.EMBED, takes_images=False)


def test_nodes_come_back_as_copies_with_where_they_came_from():
    best = apply_order(found(NODE, TextNode(text="b")), [(1, 2.0)])
    assert [(item.text, item.score, item.metadata["first_stage_rank"]) for item in best] == [("b", 2.0, 2)]


def test_a_mark_of_an_earlier_failure_does_not_stay():
    failed = in_first_stage_order(found(NODE), None, TimeoutError())
    skipped = mark_skipped(failed, {0: "why"})
    assert skipped[0].metadata["rerank_failed"] == "TimeoutError"
    assert not {"rerank_failed", "rerank_skipped"} & apply_order(skipped, [(0, 1.0)])[0].metadata.keys()


@pytest.mark.parametrize(
    ("nodes", "query", "words"),
    [
        ([NODE], None, "nodes.0. is a TextNode: wrap each in NodeWithScore"),
        (["text"], None, "nodes.0. is a str"),
        ([*found(NODE), None], None, "nodes.1. is a NoneType"),
        ("text", None, "not a str"),
        (None, None, "not a NoneType"),
        (found(NODE), "a query", "query_str="),
    ],
)
def test_a_wrong_kind_of_argument_is_refused_with_what_to_pass(nodes, query, words):
    with pytest.raises(ValueError, match=words):
        check_arguments(nodes, query)


def test_right_arguments_pass():
    check_arguments(found(NODE), QueryBundle("q"))
