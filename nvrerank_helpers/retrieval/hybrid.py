"""Hybrid retrieval: a vector store and a BM25 store over the same nodes, and a retriever that fuses their lists."""

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

from nvrerank_helpers.connector import add_metadata
from nvrerank_helpers.retrieval.embedding import StaticEmbedding

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG and logs while it builds an index

RANK_CONSTANT = 60  # Cormack, Clarke and Büttcher, SIGIR 2009: reciprocal rank fusion


class HybridRetriever(BaseRetriever):
    """Ask several retrievers the same question and fuse their lists by reciprocal rank.

    A node's fused score is the sum of 1 / (60 + rank) over the lists that contain it, with ranks from 1 (Cormack,
    Clarke and Büttcher, SIGIR 2009). Ranks are fused instead of scores, because BM25 scores and cosines have no common
    scale. Duplicates are recognized by node id.

    Each returned node is a copy whose metadata shows where it came from, as `bm25_rank`, `bm25_score`, `vector_rank`
    and `vector_score`. These keys are excluded from the text that is embedded or sent to a model.

    Args:
        retrievers: Name to retriever; the names become the metadata keys.
        similarity_top_k: How many fused nodes to return, at least 1.
        callback_manager: LlamaIndex's callbacks, if any.

    Raises:
        ValueError: No retriever was given, or `similarity_top_k` is below 1.
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
        return self._fuse([retriever.retrieve(query_bundle) for retriever in self.retrievers.values()])

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        _check_query(query_bundle)
        return self._fuse(await asyncio.gather(*(one.aretrieve(query_bundle) for one in self.retrievers.values())))

    def _fuse(self, found: Sequence[list[NodeWithScore]]) -> list[NodeWithScore]:
        return fuse_by_reciprocal_rank(dict(zip(self.retrievers, found, strict=True)))[: self.similarity_top_k]


def _check_query(query_bundle: QueryBundle) -> None:
    if not query_bundle.query_str.strip():
        raise ValueError("The query is empty: ask a question that says something.")


def fuse_by_reciprocal_rank(found: Mapping[str, Sequence[NodeWithScore]]) -> list[NodeWithScore]:
    """Fuse ranked lists, as `HybridRetriever` does, into one that contains each node once.

    Args:
        found: Name of a list to its nodes, best first.

    Returns:
        Copies of the nodes with the fused score, best first; ties keep the order in which the nodes were first found.
        The metadata has `<name>_rank` (from 1) and `<name>_score` for each list that contained the node.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> fused = fuse_by_reciprocal_rank({"bm25": [NodeWithScore(node=TextNode(id_="a"), score=7.0)]})
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
    return [NodeWithScore(node=add_metadata(nodes[id_], **origins[id_]), score=scores[id_]) for id_ in order]


def make_search(retriever: BaseRetriever, reranker: BaseNodePostprocessor) -> Callable[[str], list[NodeWithScore]]:
    """Combine a retriever and a reranker into a function from a query to the reranked nodes, best first."""

    def search(query: str) -> list[NodeWithScore]:
        return reranker.postprocess_nodes(retriever.retrieve(query), query_str=query)

    return search


def build_hybrid(
    nodes: Sequence[BaseNode], similarity_top_k: int = 50, *, show_progress: bool = False
) -> HybridRetriever:
    """Put nodes into a BM25 store and a vector store, and return a retriever over both.

    Args:
        nodes: The passages; their ids must be unique.
        similarity_top_k: How many nodes each store and the fused list return, at least 1.
        show_progress: Whether to show a progress bar while the nodes are embedded.

    Returns:
        A `HybridRetriever` whose `retrievers["bm25"]` and `retrievers["vector"]` can also be used alone.

    Raises:
        ValueError: No nodes were given, two share an id, one is empty, or none contains a word that BM25 can index.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> texts = {"roads": "two roads diverged in a yellow wood", "file": "read the lines of a file"}
        >>> hybrid = build_hybrid([TextNode(id_=id_, text=text) for id_, text in texts.items()])
        >>> hybrid.retrieve("a yellow wood")[0].node_id
        'roads'
    """
    if not nodes:
        raise ValueError("build_hybrid needs at least one node: an empty store finds nothing.")
    check_unique_ids([node.node_id for node in nodes])
    top_k = max(1, min(similarity_top_k, len(nodes)))
    stores: dict[str, BaseRetriever] = {
        "bm25": _build_bm25_store(nodes, top_k),
        "vector": _build_vector_index(nodes, show_progress=show_progress).as_retriever(similarity_top_k=top_k),
    }
    return HybridRetriever(stores, similarity_top_k=similarity_top_k)


def check_unique_ids(ids: Sequence[str]) -> None:
    """Raise `ValueError` if an id occurs more than once."""
    repeated = [id_ for id_, times in Counter(ids).items() if times > 1]
    if repeated:
        raise ValueError(
            f"{len(repeated)} node ids occur more than once, {repeated[0]!r} among them: give each node its own id."
        )


class MatchingBM25Retriever(BM25Retriever):
    """LlamaIndex's BM25 retriever without padding: it returns only nodes that share a word with the query.

    bm25s fills its list up to `similarity_top_k` with other passages, at score 0. In a fused list those would count.
    """

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [found for found in super()._retrieve(query_bundle) if found.score]


def _build_bm25_store(nodes: Sequence[BaseNode], top_k: int) -> BM25Retriever:
    try:
        with np.errstate(invalid="ignore"):
            return MatchingBM25Retriever(nodes=list(nodes), similarity_top_k=top_k)
    except ValueError as error:  # bm25s: nothing is left without stop words and single letters
        raise ValueError(f"No node contains a word that BM25 can index ({error}): give it texts with words.") from error


def _build_vector_index(nodes: Sequence[BaseNode], *, show_progress: bool) -> VectorStoreIndex:
    embedding = StaticEmbedding()
    width = len(embedding.get_query_embedding("width"))
    # The vectors have length 1, so their inner product is the cosine.
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(width))
    storage = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=storage, embed_model=embedding, show_progress=show_progress)
