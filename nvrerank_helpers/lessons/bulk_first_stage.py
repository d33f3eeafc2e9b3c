"""What a retriever finds, as the input of a bulk job."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nvrerank_helpers.extras import extra

if TYPE_CHECKING:
    import pandas as pd
    from llama_index.core.schema import NodeWithScore


def run_table(queries: Mapping[str, str], search: "Callable[[str], Sequence[NodeWithScore]]") -> "pd.DataFrame":
    """Ask a first stage every query, and put what it finds into the table that `rerank` reads.

    Args:
        queries: Query id to query.
        search: Finds nodes for a query, such as the `retrieve` of a LlamaIndex retriever.

    Returns:
        A row a node: qid, query, docno and text for `rerank`, and the first stage's rank (from 1) and score. Its
        `to_parquet` writes the file.

    Example:
        >>> run_table({"1": "How do I join two paths?"}, retriever.retrieve).to_parquet("in.parquet")  # doctest: +SKIP
    """
    with extra("ray"):
        import pandas as pd
    rows = [
        (qid, query, found.node_id, found.text, rank, found.score)
        for qid, query in queries.items()
        for rank, found in enumerate(search(query), 1)
    ]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "rank", "score"])
