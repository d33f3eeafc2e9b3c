"""Searches over pages: all of them reranked, or those that a first stage found, shown in another way."""

from collections.abc import Sequence

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.evaluation import Search


def page_search(
    nodes: Sequence[NodeWithScore], reranker: BaseNodePostprocessor, first: BaseRetriever | None = None
) -> Search:
    """Join pages and a reranker into one search.

    Args:
        nodes: What the reranker gets to see of each page, as `nodes_of` makes it.
        reranker: What puts them into order.
        first: A first stage over the same pages: only those that it finds are reranked, and each is exchanged for its
            node in `nodes`. A first stage that reads can thus stand before a reranker that sees. None reranks all.

    Returns:
        A function from a query to the reranked nodes, best first.

    Raises:
        KeyError: The first stage finds a page that is not in `nodes`; raised when the search is used.

    Example:
        >>> search = page_search(nodes_of(pages, "both"), NVIDIARerank(top_n=3))  # doctest: +SKIP
        >>> best = search("How much is a new fan?")  # doctest: +SKIP
    """
    shown = {item.node_id: item for item in nodes}

    def search(query: str) -> list[NodeWithScore]:
        chosen = list(nodes) if first is None else [shown[found.node_id] for found in first.retrieve(query)]
        return reranker.postprocess_nodes(chosen, query_str=query)

    return search
