"""Measure what each step of the pipeline costs in one run: medians over the test questions, and ratios.

python benchmarks/retrieval.py
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import pandas as pd
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.nim_standin import StandIn
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import build_hybrid


def measure_milliseconds(search: Callable[[str], Sequence[NodeWithScore]], queries: Sequence[str]) -> float:
    """Return the median time of one query."""
    times = []
    for query in queries:
        started = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - started)
    return median(times) * 1000


def main() -> None:
    """Measure and print the table."""
    hybrid = build_hybrid(load_passages(), similarity_top_k=50)
    queries = [question.text for question in load_questions("test")]
    hybrid.retrieve("warm up")
    rows = {name: measure_milliseconds(store.retrieve, queries) for name, store in hybrid.retrievers.items()}
    rows["fused"] = measure_milliseconds(hybrid.retrieve, queries)
    candidates = {query: hybrid.retrieve(query) for query in queries}
    with StandIn() as standin:
        reranker = NVIDIARerank(base_url=standin.base_url, top_n=None)
        for name in ("reranking 50, passages not seen before", "reranking 50, passages seen before"):
            rows[name] = measure_milliseconds(lambda q: reranker.postprocess_nodes(candidates[q], query_str=q), queries)
    table = pd.DataFrame({"median ms": pd.Series(rows)})
    table["times fused"] = table["median ms"] / rows["fused"]
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
