from llama_index.core.schema import MetadataMode, TextNode

from nvrerank_helpers.connector.nodes import annotated

NODE = TextNode(id_="n", text="two roads", metadata={"poet": "Frost"})


def test_the_copy_has_the_facts_and_the_node_does_not():
    assert annotated(NODE, rank=1).metadata == {"poet": "Frost", "rank": 1}
    assert NODE.metadata == {"poet": "Frost"}


def test_facts_are_not_in_the_text_that_models_see():
    copy = annotated(NODE, rank=1)
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert copy.get_content(mode) == NODE.get_content(mode)


def test_annotating_twice_replaces_a_fact():
    twice = annotated(annotated(NODE, rank=1), rank=2)
    assert (twice.metadata["rank"], twice.excluded_llm_metadata_keys) == (2, ["rank"])
