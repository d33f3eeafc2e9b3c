"""Quality against time: how many candidates are worth reranking?"""

import math
import random
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
import pandas as pd
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeWithScore

from nvrerank_helpers.evaluation.measures import MILLISECONDS, Run, measure
from nvrerank_helpers.pydocs import Question

SEED = 0


def truncate_candidates(reranked: Run, candidates: Run, count: int) -> Run:
    """Derive what reranking only the first candidates would have returned.

    A reranker scores each passage on its own, so leaving passages out changes no other score. The result is exact and
    needs no further request.

    Args:
        reranked: A run over all candidates.
        candidates: The first-stage run that was reranked.
        count: How many of its first passages to keep, at least 1.

    Returns:
        A run named after the count. Its times are unknown (nan): use `measure_latency`.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}.")
    kept = {question: set(ids[:count]) for question, ids in candidates.ranked.items()}
    ranked = {question: [id_ for id_ in ids if id_ in kept[question]] for question, ids in reranked.ranked.items()}
    return Run(str(count), ranked, [math.nan] * len(ranked))


def measure_by_count(
    reranked: Run, candidates: Run, questions: Sequence[Question], counts: Sequence[int]
) -> pd.DataFrame:
    """Measure the quality of reranking only the first candidates, for each of several counts.

    Returns:
        A row for each count; the columns are those of `evaluation.measure`, without the time.
    """
    table = measure([truncate_candidates(reranked, candidates, count) for count in counts], questions).drop(
        columns=MILLISECONDS
    )
    return table.set_axis(pd.Index(counts, name="candidates"))


def measure_latency(
    reranker: BaseNodePostprocessor, query: str, nodes: Sequence[BaseNode], counts: Sequence[int], rounds: int = 3
) -> "pd.Series[float]":
    """Measure how long reranking takes for each number of candidates.

    Each measurement takes other nodes, drawn at random, so a cache can't help. A first call that opens the connection
    isn't counted.

    Args:
        reranker: What to measure.
        query: A question to ask.
        nodes: Where to draw from: more than `rounds` times the sum of the counts.
        counts: Numbers of candidates, each at least 1.
        rounds: Measurements of each count.

    Returns:
        The median of the milliseconds for each count.

    Raises:
        ValueError: There are too few nodes.
    """
    needed = rounds * sum(counts) + 1
    if len(nodes) < needed:
        raise ValueError(f"{len(nodes)} nodes are too few: {needed} are needed for {rounds} rounds of {list(counts)}.")
    drawn = [NodeWithScore(node=node) for node in random.Random(SEED).sample(list(nodes), needed)]  # noqa: S311
    reranker.postprocess_nodes([drawn.pop()], query_str=query)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            some = [drawn.pop() for _ in range(count)]
            started = time.perf_counter()
            reranker.postprocess_nodes(some, query_str=query)
            seconds[count].append(time.perf_counter() - started)
    values = {count: median(times) * 1000 for count, times in seconds.items()}
    return pd.Series(values, name="milliseconds").rename_axis("candidates")


def find_knee(curve: "pd.Series[float]") -> float:
    """Find where a curve of diminishing returns bends most: beyond it, more cost gains little.

    The knee is the point that is highest above the straight line from the first point to the last (Satopää, Albrecht,
    Irwin and Raghavan, "Finding a Kneedle in a Haystack", ICDCS Workshops 2011, without its smoothing).

    Args:
        curve: Quality by cost, the cost ascending; at least three points.

    Returns:
        The cost at the knee. A curve that never rises above the line has its knee at the first point.

    Raises:
        ValueError: There are fewer than three points, or the costs don't ascend.

    Example:
        >>> find_knee(pd.Series({5: 0.40, 20: 0.60, 100: 0.65}))
        20
    """
    if len(curve) < 3 or not curve.index.is_monotonic_increasing:
        raise ValueError("A knee needs at least three points, with the cost ascending.")
    cost, quality = curve.index.to_numpy(), curve.to_numpy()
    line = np.interp(cost, cost[[0, -1]], quality[[0, -1]])
    position: float = curve.index.tolist()[int(np.argmax(quality - line))]
    return position
