"""Quality against time: how many candidates are worth reranking."""

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


def cut(reranked: Run, candidates: Run, count: int) -> Run:
    """Derive what reranking only the first candidates would have given.

    A reranker scores each passage by itself, so leaving passages out changes no other one's score: this is exact, and
    needs no further request.

    Args:
        reranked: A run over all candidates.
        candidates: The run of the first stage that was reranked.
        count: How many of its first passages to keep, at least 1.

    Returns:
        A run that is named after the count. Its times are unknown (nan): measure them with `latency`.

    Raises:
        ValueError: `count` is below 1.

    Example:
        >>> ten = cut(reranked, candidates, 10)  # doctest: +SKIP
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}.")
    kept = {question: set(ids[:count]) for question, ids in candidates.ranked.items()}
    ranked = {question: [id_ for id_ in ids if id_ in kept[question]] for question, ids in reranked.ranked.items()}
    return Run(str(count), ranked, [math.nan] * len(ranked))


def by_count(reranked: Run, candidates: Run, questions: Sequence[Question], counts: Sequence[int]) -> pd.DataFrame:
    """Measure what reranking only the first candidates would have given, for several numbers of them; see `cut`.

    Args:
        reranked: A run over all candidates.
        candidates: The run of the first stage that was reranked.
        questions: The judgments.
        counts: Numbers of candidates.

    Returns:
        One row a count; the columns are those measures of `evaluation.measure` that tell of quality.

    Example:
        >>> by_count(reranked, candidates, questions, [5, 10, 50])  # doctest: +SKIP
    """
    table = measure([cut(reranked, candidates, count) for count in counts], questions).drop(columns=MILLISECONDS)
    return table.set_axis(pd.Index(counts, name="candidates"))


def measure_latency(
    reranker: BaseNodePostprocessor, query: str, nodes: Sequence[BaseNode], counts: Sequence[int], rounds: int = 3
) -> "pd.Series[float]":
    """Measure how long reranking takes, by the number of candidates.

    Every measurement takes other nodes, drawn at random: a service that remembers passages cannot shine by it. A first
    call that opens the connection is not counted.

    Args:
        reranker: What is measured.
        query: A question to ask.
        nodes: Where to draw from; at least one more than `rounds` times the sum of the counts.
        counts: Numbers of candidates, each at least 1.
        rounds: Measurements of each count.

    Returns:
        Median of the milliseconds, by count.

    Raises:
        ValueError: There are too few nodes.

    Example:
        >>> measure_latency(reranker, "join two paths", nodes, [5, 50])  # doctest: +SKIP
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


def knee(curve: "pd.Series[float]") -> float:
    """Find where a curve that rises ever more slowly bends most: more than that costs much and brings little.

    The point that stands highest above the straight line from the first point to the last (Satopää, Albrecht, Irwin
    and Raghavan, "Finding a Kneedle in a Haystack", ICDCS Workshops 2011, without its smoothing).

    Args:
        curve: Quality by cost, the cost ascending; at least three points.

    Returns:
        The cost at the knee. A curve that never rises above the line has its knee at the first point.

    Raises:
        ValueError: There are fewer than three points, or the costs do not ascend.

    Example:
        >>> knee(pd.Series({5: 0.40, 20: 0.60, 100: 0.65}))
        20
    """
    if len(curve) < 3 or not curve.index.is_monotonic_increasing:
        raise ValueError("A knee needs at least three points, with the cost ascending.")
    cost, quality = curve.index.to_numpy(), curve.to_numpy()
    line = np.interp(cost, cost[[0, -1]], quality[[0, -1]])
    position: float = curve.index.tolist()[int(np.argmax(quality - line))]
    return position
