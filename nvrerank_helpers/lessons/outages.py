"""Drills: what a search gets when its reranking service fails, and what retries and a cache change about it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.connector import FAILED, MemoryCache, NVIDIARerank
from nvrerank_helpers.evaluation import Attempt, attempt, under_load
from nvrerank_helpers.nim_standin import StandInControl
from nvrerank_helpers.retrieval import reranking

Search = Callable[[str], list[NodeWithScore]]

DAYS = {
    "slow": "delay=fixed seconds=3",
    "overloaded": "status=503",
    "too many requests": "status=429 retry-after=60",
    "model retired": "status=410",
    "gone": "reset=before",
    "a proxy's page": "answer=html",
    "mended": "",
}
"""What may happen to a service, as faults of the stand-in; none on the last day."""


def kept_order(found: Sequence[NodeWithScore]) -> str | None:
    """Return the name of the error that kept nodes from being reranked, or None where they were.

    Args:
        found: What a search returned.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> kept_order([NodeWithScore(node=TextNode(text="…", metadata={"rerank_failed": "Overloaded"}))])
        'Overloaded'
    """
    return next((hit.metadata[FAILED] for hit in found if FAILED in hit.metadata), None)


def drilled(control: StandInControl, faults: Mapping[str, str], search: Search, query: str) -> pd.DataFrame:
    """Ask one query under each of several faults.

    Args:
        control: The switches of the stand-in that the search asks.
        faults: What a fault is called, to its compact text, such as `status=503`; empty for none.
        search: What is asked.
        query: The query.

    Returns:
        Indexed by the name of the day: `fault`, its text; `ended`: `reranked`, `first order, marked Overloaded`, or the
        name of the error that was raised; `seconds` until then; `answered`: whether there were nodes. `charts.endings`
        draws it.

    Example:
        >>> drilled(lesson.control, {"overloaded": "status=503"}, search, "join two paths")  # doctest: +SKIP
    """
    rows = {}
    for name, fault in faults.items():
        with control.faults(*filter(None, [fault])):
            tried = attempt(search, query)
        rows[name] = {"fault": fault, "ended": _ended(tried), "seconds": tried.seconds, "answered": bool(tried.result)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("day")


def _ended(tried: Attempt[list[NodeWithScore]]) -> str:
    if tried.error:
        return type(tried.error).__name__
    found = tried.result or []
    ranks = [hit.metadata.get("first_stage_rank") for hit in found]
    if not (failure := kept_order(found)):
        return "reranked"
    in_order = ranks == list(range(1, len(found) + 1))
    return f"{'first order' if in_order else 'another order'}, marked {failure}"


def asking(reranker: NVIDIARerank, nodes: list[NodeWithScore], query: str) -> Callable[[], Awaitable[object]]:
    """Make a function that reranks the same nodes again each time, for `retried` and `load.load_curve`.

    Example:
        >>> await load_curve(asking(reranker, nodes, "join two paths"), calls=100)  # doctest: +SKIP
    """
    return lambda: reranker.apostprocess_nodes(nodes, query_str=query)


async def retried(
    control: StandInControl,
    ask: Callable[[], Awaitable[object]],
    shares: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
    calls: int = 40,
) -> pd.DataFrame:
    """Let a growing share of all requests fail, and count what retries send and save.

    Args:
        control: The switches of the stand-in that is asked.
        ask: Makes one call; a `RerankError` counts as not answered.
        shares: Shares of the requests that end in 502, each from 0 to 1.
        calls: How many calls are made at each, all at once.

    Returns:
        Indexed by `share failing`: `answered`, the share of the calls that were, and `requests per call`.

    Example:
        >>> await retried(lesson.control, ask, [0, 0.5, 1])  # doctest: +SKIP
    """
    rows = []
    for share in shares:
        with control.faults(f"status=502 share={share}"):
            load = await under_load(ask, calls=calls, concurrency=calls)
            sent = control.faults_so_far().requests
        rows.append({"answered": len(load.latencies) / calls, "requests per call": sent / calls})
    return pd.DataFrame(rows, index=pd.Index(shares, name="share failing"))


def by_popularity(queries: Sequence[str], asked: int, seed: int) -> list[str]:
    """Draw queries as people ask them: the n-th of the list n times more seldom than the first (Zipf's law).

    Args:
        queries: The most popular first.
        asked: How many to draw.
        seed: The same seed draws the same.

    Returns:
        The queries in the order in which they are asked.

    Example:
        >>> by_popularity(["often", "seldom"], asked=4, seed=3)
        ['often', 'often', 'seldom', 'often']
    """
    weights = 1 / np.arange(1, len(queries) + 1)
    drawn = np.random.default_rng(seed).choice(len(queries), size=asked, p=weights / weights.sum())
    return [queries[place] for place in drawn]


def hit_rates(
    store: BaseRetriever,
    reranker: Callable[..., NVIDIARerank],
    traffic: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
) -> pd.DataFrame:
    """Measure how often caches of several sizes have a score already.

    Args:
        store: The first stage.
        reranker: Makes a reranker with the `score_cache` that it gets.
        traffic: Name to queries in the order in which they are asked.
        sizes: How many pairs of query and passage each cache may keep.

    Returns:
        Indexed by `pairs kept`: the hit rate for each kind of traffic, from 0 to 1.

    Raises:
        ExtraNotInstalled: The extra `production` is missing.

    Example:
        >>> hit_rates(store, lesson.reranker, {"once": texts}, [100, 1000])  # doctest: +SKIP
    """
    rows = []
    for size in sizes:
        caches = {name: MemoryCache(size) for name in traffic}
        for name, queries in traffic.items():
            search = reranking(store, reranker(score_cache=caches[name]))
            for query in queries:
                search(query)
        rows.append({name: cache.hit_rate for name, cache in caches.items()})
    return pd.DataFrame(rows, index=pd.Index(sizes, name="pairs kept"))
