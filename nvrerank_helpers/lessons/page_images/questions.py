"""Searches over pages, the judged questions about the handbook, and measures for each kind of them."""

import json
from collections.abc import Iterable, Sequence
from importlib.resources import files

import pandas as pd
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.evaluation import Run, Search, measure
from nvrerank_helpers.pydocs import Question

KINDS = ("text", "picture", "both")


def load_page_questions() -> list[Question]:
    """Load the questions about the handbook, each with the pages that answer it.

    The kind says where the answer is: `text` in the text layer, `picture` in a picture only, `both` partly here
    and partly there (in a chart and in the fine print under it, say). They were written with the pages in view,
    before anything was ranked.

    Returns:
        The questions. Page id to grade: 3 answers it, 2 answers a part, 1 helps.

    Example:
        >>> load_page_questions()[0].text
        'What does the outdoor unit weigh without its packaging?'
    """
    lines = files(__package__).joinpath("questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [Question(split="test", **json.loads(line)) for line in lines]


def measure_by_kind(runs: Iterable[Run], questions: Sequence[Question], name: str = "nDCG@10") -> pd.DataFrame:
    """Compute the mean of one measure for each kind of question and each system.

    Args:
        runs: One run a system, all over the same questions.
        questions: The judgments.
        name: One of the columns of `evaluation.measure`.

    Returns:
        One row a kind, in the order `text`, `picture`, `both`, and a last one, `all`; `questions` tells how many they
        are, and each system has a column with its mean, 0 to 1.
    """
    runs = list(runs)
    groups = {kind: [question for question in questions if question.kind == kind] for kind in KINDS}
    groups = {kind: group for kind, group in groups.items() if group} | {"all": list(questions)}
    rows = {kind: {"questions": len(group), **measure(runs, group)[name]} for kind, group in groups.items()}
    return pd.DataFrame.from_dict(rows, orient="index").astype({"questions": int}).rename_axis("answer is in")


def build_page_search(
    nodes: Sequence[NodeWithScore], reranker: BaseNodePostprocessor, first: BaseRetriever | None = None
) -> Search:
    """Join pages and a reranker into one search.

    Args:
        nodes: What the reranker gets to see of each page, as `make_page_nodes` makes it.
        reranker: What puts them into order.
        first: A first stage over the same pages: only those that it finds are reranked, and each is exchanged for its
            node in `nodes`. So a first stage that reads can feed a reranker that sees. None reranks all.

    Returns:
        A function from a query to the reranked nodes, best first.

    Raises:
        KeyError: The first stage finds a page that is not in `nodes`; raised when the search is used.
    """
    shown = {item.node_id: item for item in nodes}

    def search(query: str) -> list[NodeWithScore]:
        chosen = list(nodes) if first is None else [shown[found.node_id] for found in first.retrieve(query)]
        return reranker.postprocess_nodes(chosen, query_str=query)

    return search
