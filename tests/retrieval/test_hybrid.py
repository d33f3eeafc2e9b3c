import subprocess
import sys

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from nvrerank_helpers.retrieval import (
    HybridRetriever,
    StaticEmbedding,
    build_hybrid,
    fuse_by_reciprocal_rank,
    make_search,
)

TEXTS = {
    "roads": "two roads diverged in a yellow wood",
    "file": "read the lines of a file sequentially",
    "sort": "put the elements of a list in order",
    "snow": "whose woods these are I think I know",
}
NODES = [TextNode(id_=id_, text=text, metadata={"source": "poem"}) for id_, text in TEXTS.items()]


class FixedRetriever(BaseRetriever):
    """Returns the same nodes whatever the query."""

    def __init__(self, *ids):
        self.found = [NodeWithScore(node=TextNode(id_=id_, text=id_), score=1 / n) for n, id_ in enumerate(ids, 1)]
        super().__init__()

    def _retrieve(self, query_bundle):
        return self.found


@pytest.fixture(scope="module")
def hybrid():
    return build_hybrid(NODES)


def ids(found):
    return [node.node_id for node in found]


def fuse(*lists):
    return fuse_by_reciprocal_rank({f"list{n}": FixedRetriever(*ids).found for n, ids in enumerate(lists)})


def test_a_node_in_both_lists_comes_before_nodes_in_one():
    retrievers = {"bm25": FixedRetriever("a", "b"), "vector": FixedRetriever("b", "c")}
    assert ids(HybridRetriever(retrievers).retrieve("q")) == ["b", "a", "c"]


def test_the_fused_score_is_the_sum_of_the_reciprocal_ranks():
    assert fuse("ab", "b")[0].score == pytest.approx(1 / 62 + 1 / 61)


def test_ties_keep_the_order_in_which_nodes_were_found():
    assert ids(fuse("a", "b")) == ["a", "b"]


def test_a_node_that_is_twice_in_one_list_counts_once():
    found = fuse("aba")
    assert (ids(found), found[0].score) == (["a", "b"], 1 / 61)


def test_rank_and_score_in_each_list_are_metadata_that_no_model_sees():
    best = fuse("a", "ba")[0]
    assert best.metadata == {"list0_rank": 1, "list0_score": 1.0, "list1_rank": 2, "list1_score": 0.5}
    assert best.node.get_content(MetadataMode.EMBED) == best.node.get_content(MetadataMode.LLM) == "a"


def test_fusing_leaves_the_nodes_of_the_stores_unchanged():
    store = FixedRetriever("a")
    HybridRetriever({"bm25": store}).retrieve("q")
    assert store.found[0].metadata == {}


def test_at_most_top_k_nodes_are_returned():
    assert len(HybridRetriever({"bm25": FixedRetriever("a", "b", "c")}, similarity_top_k=2).retrieve("q")) == 2


async def test_async_finds_the_same(hybrid):
    assert ids(await hybrid.aretrieve("read a file")) == ids(hybrid.retrieve("read a file"))


async def test_async_uses_the_async_side_of_the_stores():
    class AsyncRetriever(FixedRetriever):
        async def _aretrieve(self, query_bundle):
            return [NodeWithScore(node=TextNode(id_="async"), score=1.0)]

    assert ids(await HybridRetriever({"bm25": AsyncRetriever("sync")}).aretrieve("q")) == ["async"]


def test_bm25_returns_only_nodes_that_share_a_word(hybrid):
    assert ids(hybrid.retrievers["bm25"].retrieve("yellow roads")) == ["roads"]


def test_the_vector_store_finds_without_a_shared_word(hybrid):
    assert ids(hybrid.retrievers["vector"].retrieve("forest"))[0] in {"roads", "snow"}


def test_top_k_may_be_larger_than_the_store(hybrid):
    assert len(hybrid.retrieve("wood")) == len(NODES)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "at least one node"),
        ([*NODES, NODES[0]], "'roads'"),
        ([*NODES, TextNode(id_="empty", text=" ")], "leave out empty passages"),
        ([TextNode(text="the of")], "texts with words"),
    ],
)
def test_nodes_that_cannot_be_stored_are_refused(nodes, message):
    with pytest.raises(ValueError, match=message):
        build_hybrid(nodes)


@pytest.mark.parametrize(
    ("retrievers", "top_k", "message"),
    [({}, 50, "at least one retriever"), ({"bm25": FixedRetriever("a")}, 0, "at least 1")],
)
def test_wrong_arguments_of_a_retriever_are_refused(retrievers, top_k, message):
    with pytest.raises(ValueError, match=message):
        HybridRetriever(retrievers, similarity_top_k=top_k)


@pytest.mark.parametrize("query", ["", "  "])
async def test_an_empty_query_is_refused(hybrid, query):
    with pytest.raises(ValueError, match="query is empty"):
        hybrid.retrieve(query)
    with pytest.raises(ValueError, match="query is empty"):
        await hybrid.aretrieve(query)


async def test_static_vectors_have_length_one_and_are_the_same_async():
    embedding = StaticEmbedding()
    vector = embedding.get_query_embedding("sort a list")
    assert sum(number**2 for number in vector) == pytest.approx(1, abs=1e-5)
    assert await embedding.aget_query_embedding("sort a list") == vector == embedding.get_text_embedding("sort a list")


def test_loading_the_vectors_leaves_the_root_logger_unchanged():
    code = (
        "import logging; root = logging.getLogger(); before = root.level, root.handlers[:]\n"
        "from nvrerank_helpers.retrieval import StaticEmbedding; StaticEmbedding().get_text_embedding('sort')\n"
        "print((root.level, root.handlers[:]) == before)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_search_asks_the_store_and_then_the_reranker():
    search = make_search(FixedRetriever("a", "b"), SimilarityPostprocessor(similarity_cutoff=0.9))
    assert ids(search("q")) == ["a"]
