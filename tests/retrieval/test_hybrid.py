import subprocess
import sys

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from nvrerank_helpers.retrieval.embedding import StaticEmbedding
from nvrerank_helpers.retrieval.hybrid import HybridRetriever, build_hybrid, fuse, reranking

TEXTS = {
    "roads": "two roads diverged in a yellow wood",
    "file": "read the lines of a file one after the other",
    "sort": "put the elements of a list in order",
    "snow": "whose woods these are I think I know",
}
NODES = [TextNode(id_=id_, text=text, metadata={"source": "poem"}) for id_, text in TEXTS.items()]


class Fixed(BaseRetriever):
    """Returns the same nodes whatever is asked."""

    def __init__(self, *ids):
        self.found = [NodeWithScore(node=TextNode(id_=id_, text=id_), score=1 / n) for n, id_ in enumerate(ids, 1)]
        super().__init__()

    def _retrieve(self, query_bundle):
        return self.found


def ids(found):
    return [node.node_id for node in found]


def test_a_node_in_both_lists_comes_before_nodes_in_one():
    assert ids(HybridRetriever({"bm25": Fixed("a", "b"), "vector": Fixed("b", "c")}).retrieve("q")) == ["b", "a", "c"]


def test_the_fused_score_is_the_sum_of_the_reciprocal_ranks():
    found = fuse({"bm25": Fixed("a", "b").found, "vector": Fixed("b").found})
    assert found[0].score == pytest.approx(1 / 62 + 1 / 61)


def test_ties_keep_the_order_in_which_nodes_were_met():
    assert ids(fuse({"bm25": Fixed("a").found, "vector": Fixed("b").found})) == ["a", "b"]


def test_a_node_that_is_twice_in_one_list_counts_once():
    found = fuse({"bm25": Fixed("a", "b", "a").found})
    assert (ids(found), found[0].score) == (["a", "b"], 1 / 61)


def test_rank_and_score_of_each_store_are_kept_for_display_only():
    best = fuse({"bm25": Fixed("a").found, "vector": Fixed("b", "a").found})[0]
    assert best.metadata == {"bm25_rank": 1, "bm25_score": 1.0, "vector_rank": 2, "vector_score": 0.5}
    assert best.node.get_content(MetadataMode.EMBED) == best.node.get_content(MetadataMode.LLM) == "a"


def test_fusing_leaves_the_nodes_of_the_stores_as_they_were():
    store = Fixed("a")
    HybridRetriever({"bm25": store}).retrieve("q")
    assert store.found[0].metadata == {}


def test_no_more_nodes_come_back_than_asked_for():
    assert len(HybridRetriever({"bm25": Fixed("a", "b", "c")}, similarity_top_k=2).retrieve("q")) == 2


async def test_async_finds_the_same():
    hybrid = build_hybrid(NODES)
    assert ids(await hybrid.aretrieve("read a file")) == ids(hybrid.retrieve("read a file"))


def test_bm25_returns_only_what_shares_a_word():
    assert ids(build_hybrid(NODES).retrievers["bm25"].retrieve("yellow roads")) == ["roads"]


def test_the_vector_store_finds_without_a_shared_word():
    assert ids(build_hybrid(NODES).retrievers["vector"].retrieve("forest"))[0] in {"roads", "snow"}


def test_fewer_nodes_than_asked_for_are_no_problem():
    assert len(build_hybrid(NODES, similarity_top_k=50).retrieve("wood")) == len(NODES)


def test_no_nodes_are_refused():
    with pytest.raises(ValueError, match="at least one node"):
        build_hybrid([])


def test_an_id_that_occurs_twice_is_named():
    with pytest.raises(ValueError, match="'roads'"):
        build_hybrid([*NODES, NODES[0]])


def test_no_retriever_is_refused():
    with pytest.raises(ValueError, match="at least one retriever"):
        HybridRetriever({})


def test_a_top_k_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        HybridRetriever({"bm25": Fixed("a")}, similarity_top_k=0)


def test_static_vectors_have_length_one():
    vector = StaticEmbedding().get_text_embedding("sort a list")
    assert sum(number**2 for number in vector) == pytest.approx(1, abs=1e-5)


async def test_static_vectors_are_the_same_async():
    embedding = StaticEmbedding()
    assert await embedding.aget_query_embedding("sort") == embedding.get_query_embedding("sort")


def test_loading_the_vectors_leaves_the_root_logger_alone():
    code = (
        "import logging; root = logging.getLogger(); before = root.level, root.handlers[:]\n"
        "from nvrerank_helpers.retrieval.hybrid import StaticEmbedding; StaticEmbedding().get_text_embedding('sort')\n"
        "print((root.level, root.handlers[:]) == before)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


async def test_async_asks_the_stores_async():
    class Asked(Fixed):
        async def _aretrieve(self, query_bundle):
            return [NodeWithScore(node=TextNode(id_="asked async"), score=1.0)]

    assert ids(await HybridRetriever({"bm25": Asked("asked sync")}).aretrieve("q")) == ["asked async"]


@pytest.mark.parametrize("query", ["", "  "])
async def test_an_empty_query_is_refused(query):
    hybrid = build_hybrid(NODES)
    with pytest.raises(ValueError, match="query is empty"):
        hybrid.retrieve(query)
    with pytest.raises(ValueError, match="query is empty"):
        await hybrid.aretrieve(query)


def test_an_empty_passage_is_refused():
    with pytest.raises(ValueError, match="leave out empty passages"):
        build_hybrid([*NODES, TextNode(id_="empty", text=" ")])


def test_texts_without_a_word_are_refused():
    with pytest.raises(ValueError, match="texts with words"):
        build_hybrid([TextNode(text="the of")])


def test_a_reranking_search_asks_the_store_and_then_the_reranker():
    assert ids(reranking(Fixed("a", "b"), SimilarityPostprocessor(similarity_cutoff=0.9))("q")) == ["a"]
