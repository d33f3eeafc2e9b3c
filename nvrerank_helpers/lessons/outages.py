"""Drills: what a search gets when its reranking service fails, and what retries and a cache change about it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.connector import FAILED, MemoryCache, NVIDIARerank
from nvrerank_helpers.evaluation import Attempt, attempt, run_load
from nvrerank_helpers.nim_standin import StandInControl
from nvrerank_helpers.retrieval import make_search

Search = Callable[[str], list[NodeWithScore]]

OUTAGES = {
    "slow": "delay=fixed seconds=3",
    "overloaded": "status=503",
    "too many requests": "status=429 retry-after=60",
    "model retired": "status=410",
    "gone": "reset=before",
    "a proxy's page": "answer=html",
    "mended": "",
}
"""What may happen to a service, as faults of the stand-in; none on the last day."""


def find_failure(found: Sequence[NodeWithScore]) -> str | None:
    """Return the name of the error that kept nodes from being reranked, or None where they were."""
    return next((hit.metadata[FAILED] for hit in found if FAILED in hit.metadata), None)


def run_outages(control: StandInControl, faults: Mapping[str, str], search: Search, query: str) -> pd.DataFrame:
    """Ask one query under each of several faults."""
    rows = {}
    for name, fault in faults.items():
        with control.faults(*filter(None, [fault])):
            tried = attempt(search, query)
        rows[name] = {
            "fault": fault,
            "ended": _describe_end(tried),
            "seconds": tried.seconds,
            "answered": bool(tried.result),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("day")


def _describe_end(tried: Attempt[list[NodeWithScore]]) -> str:
    if tried.error:
        return type(tried.error).__name__
    found = tried.result or []
    ranks = [hit.metadata.get("first_stage_rank") for hit in found]
    if not (failure := find_failure(found)):
        return "reranked"
    in_order = ranks == list(range(1, len(found) + 1))
    return f"{'first order' if in_order else 'another order'}, marked {failure}"


def bind_call(reranker: NVIDIARerank, nodes: list[NodeWithScore], query: str) -> Callable[[], Awaitable[object]]:
    """Make a function that reranks the same nodes again each time, for `sweep_retries` and `measure_loads`."""
    return lambda: reranker.apostprocess_nodes(nodes, query_str=query)


async def sweep_retries(
    control: StandInControl,
    ask: Callable[[], Awaitable[object]],
    shares: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
    calls: int = 40,
) -> pd.DataFrame:
    """Let a growing share of all requests fail, and count what retries send and save."""
    rows = []
    for share in shares:
        with control.faults(f"status=502 share={share}"):
            load = await run_load(ask, calls=calls, concurrency=calls)
            sent = control.faults_so_far().requests
        rows.append({"answered": len(load.latencies) / calls, "requests per call": sent / calls})
    return pd.DataFrame(rows, index=pd.Index(shares, name="share failing"))


def sample_by_popularity(queries: Sequence[str], asked: int, seed: int) -> list[str]:
    """Draw queries as people ask them: the n-th of the list n times more seldom than the first (Zipf's law)."""
    weights = 1 / np.arange(1, len(queries) + 1)
    drawn = np.random.default_rng(seed).choice(len(queries), size=asked, p=weights / weights.sum())
    return [queries[place] for place in drawn]


def measure_hit_rates(
    store: BaseRetriever,
    reranker: Callable[..., NVIDIARerank],
    traffic: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
) -> pd.DataFrame:
    """Measure how often caches of several sizes have a score already."""
    rows = []
    for size in sizes:
        caches = {name: MemoryCache(size) for name in traffic}
        for name, queries in traffic.items():
            search = make_search(store, reranker(score_cache=caches[name]))
            for query in queries:
                search(query)
        rows.append({name: cache.hit_rate for name, cache in caches.items()})
    return pd.DataFrame(rows, index=pd.Index(sizes, name="pairs kept"))
