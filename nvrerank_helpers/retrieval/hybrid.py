"""The first stage: a vector store and a BM25 store over the same nodes, and the retriever that joins them."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import faiss
import numpy as np
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
from llama_index.retrievers.bm25 import BM25Retriever
from llama_index.vector_stores.faiss import FaissVectorStore

from nvrerank_helpers.connector import annotated
from nvrerank_helpers.retrieval.embedding import StaticEmbedding

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG and talks while building

RANK_CONSTANT = 60  # Cormack, Clarke and Büttcher, SIGIR 2009: reciprocal rank fusion


class HybridRetriever(BaseRetriever):
    """Ask several retrievers the same question and fuse their lists by reciprocal rank.

    A node's fused score is the sum over the lists that hold it of 1 / (60 + rank), rank counted from 1 (Cormack,
    Clarke and Büttcher, SIGIR 2009). Ranks are fused and not scores, because BM25 scores and cosines have no common
    scale. Duplicates are recognised by node id.

    Each returned node is a copy whose metadata tells where it came from, as `bm25_rank`, `bm25_score`,
    `vector_rank`, `vector_score`; these keys are kept out of the text that is embedded or sent to a model.

    Args:
        retrievers: Name to retriever; the names become the metadata keys.
        similarity_top_k: How many fused nodes to return, at least 1.
        callback_manager: LlamaIndex's callbacks, if any.

    Raises:
        ValueError: No retriever was given, or `similarity_top_k` is below 1.

    Example:
        >>> hybrid = HybridRetriever({"bm25": bm25, "vector": vector}, similarity_top_k=50)  # doctest: +SKIP
        >>> nodes = hybrid.retrieve("read a file line by line")  # doctest: +SKIP
    """

    def __init__(
        self,
        retrievers: Mapping[str, BaseRetriever],
        similarity_top_k: int = 50,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        if not retrievers:
            raise ValueError("HybridRetriever needs at least one retriever, for example {'bm25': …, 'vector': …}.")
        if similarity_top_k < 1:
            raise ValueError(f"similarity_top_k must be at least 1, not {similarity_top_k}.")
        self.retrievers = dict(retrievers)
        self.similarity_top_k = similarity_top_k
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        _check_query(query_bundle)
        found = [retriever.retrieve(query_bundle) for retriever in self.retrievers.values()]
        return self._fused(found)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        _check_query(query_bundle)
        asked = (retriever.aretrieve(query_bundle) for retriever in self.retrievers.values())
        return self._fused(await asyncio.gather(*asked))

    def _fused(self, found: Sequence[list[NodeWithScore]]) -> list[NodeWithScore]:
        return fuse(dict(zip(self.retrievers, found, strict=True)))[: self.similarity_top_k]


def fuse(found: Mapping[str, Sequence[NodeWithScore]]) -> list[NodeWithScore]:
    """Fuse ranked lists into one by reciprocal rank, each node once.

    Args:
        found: Name of a list to its nodes, best first.

    Returns:
        Copies of the nodes with the fused score, best first; ties keep the order in which the nodes were first met.
        The metadata holds `<name>_rank` (from 1) and `<name>_score` of each list that had the node.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> fused = fuse({"bm25": [NodeWithScore(node=TextNode(id_="a"), score=7.0)]})
        >>> fused[0].metadata
        {'bm25_rank': 1, 'bm25_score': 7.0}
    """
    nodes: dict[str, BaseNode] = {}
    scores: dict[str, float] = defaultdict(float)
    origins: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, ranked in found.items():
        for rank, item in enumerate(ranked, 1):
            origin = origins[item.node_id]
            if f"{name}_rank" not in origin:
                origin |= {f"{name}_rank": rank, f"{name}_score": item.score}
                nodes.setdefault(item.node_id, item.node)
                scores[item.node_id] += 1 / (RANK_CONSTANT + rank)
    order = sorted(scores, key=lambda id_: -scores[id_])
    return [NodeWithScore(node=annotated(nodes[id_], **origins[id_]), score=scores[id_]) for id_ in order]


def reranking(retriever: BaseRetriever, reranker: BaseNodePostprocessor) -> Callable[[str], list[NodeWithScore]]:
    """Join a retriever and a reranker into one search.

    Args:
        retriever: The first stage.
        reranker: What puts its nodes into a new order.

    Returns:
        A function from a query to the reranked nodes, best first.

    Example:
        >>> search = reranking(hybrid, NVIDIARerank(top_n=5))  # doctest: +SKIP
        >>> best = search("join two paths")  # doctest: +SKIP
    """

    def search(query: str) -> list[NodeWithScore]:
        return reranker.postprocess_nodes(retriever.retrieve(query), query_str=query)

    return search


def build_hybrid(
    nodes: Sequence[BaseNode], similarity_top_k: int = 50, *, show_progress: bool = False
) -> HybridRetriever:
    """Put nodes into a BM25 store and a vector store and return the retriever that joins the two.

    Args:
        nodes: The passages; their ids must be unique.
        similarity_top_k: How many nodes each store returns, and how many the fused list holds; at least 1.
        show_progress: Whether to show a bar while the vectors are made.

    Returns:
        A `HybridRetriever` whose `retrievers["bm25"]` and `retrievers["vector"]` can also be asked alone.

    Raises:
        ValueError: No nodes were given, two share an id, one is empty, or no node holds a word that BM25 could index.

    Example:
        >>> hybrid = build_hybrid(load_passages())  # doctest: +SKIP
        >>> hybrid.retrieve("join two paths")[0].metadata["bm25_rank"]  # doctest: +SKIP
    """
    if not nodes:
        raise ValueError("build_hybrid needs at least one node: an empty store finds nothing.")
    check_unique([node.node_id for node in nodes])
    top_k = max(1, min(similarity_top_k, len(nodes)))
    stores: dict[str, BaseRetriever] = {
        "bm25": _bm25_store(nodes, top_k),
        "vector": _vector_index(nodes, show_progress=show_progress).as_retriever(similarity_top_k=top_k),
    }
    return HybridRetriever(stores, similarity_top_k=similarity_top_k)


def check_unique(ids: Sequence[str]) -> None:
    """Refuse ids of nodes that occur more than once.

    Raises:
        ValueError: An id does; the message names one and says how many do.

    Example:
        >>> check_unique(["a", "b"])
    """
    twice = [id_ for id_, times in Counter(ids).items() if times > 1]
    if twice:
        raise ValueError(f"{len(twice)} node ids occur more than once, {twice[0]!r} among them: give each its own.")


class MatchingBM25Retriever(BM25Retriever):
    """LlamaIndex's BM25 retriever without the padding.

    bm25s fills its list up to `similarity_top_k` with passages that share no word with the query, at score 0; in a
    fused list these would earn credit for nothing.
    """

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [found for found in super()._retrieve(query_bundle) if found.score]


def _bm25_store(nodes: Sequence[BaseNode], top_k: int) -> BM25Retriever:
    try:
        with np.errstate(invalid="ignore"):
            return MatchingBM25Retriever(nodes=list(nodes), similarity_top_k=top_k)
    except ValueError as error:  # bm25s: nothing is left after stop words and single letters
        raise ValueError(f"No node holds a word that BM25 could index ({error}): give it texts with words.") from error


def _check_query(query_bundle: QueryBundle) -> None:
    if not query_bundle.query_str.strip():
        raise ValueError("The query is empty: ask a question that says something.")


def _vector_index(nodes: Sequence[BaseNode], *, show_progress: bool) -> VectorStoreIndex:
    embedding = StaticEmbedding()
    width = len(embedding.get_query_embedding("width"))
    # The vectors have length 1, so that the inner product is the cosine.
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(width))
    storage = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=storage, embed_model=embedding, show_progress=show_progress)
