"""Scores kept from earlier calls: a pair of query and passage that was scored once is not sent again.

A score of a reranking model depends on its own query and passage alone, not on the other passages of the request, so
it may be kept.
"""

import asyncio
import hashlib
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, runtime_checkable

from pydantic_core import to_json

from .background import run_in_thread
from .errors import RerankError
from .protocol import Passage, Ranked, Truncate

WAIT = 1.0  # seconds that a call gives its cache: a slow disk must not hold up a query

logger = logging.getLogger(__name__)
_warned: set[int] = set()  # by id: a cache may be neither hashable nor weakly referenced


@runtime_checkable
class ScoreCache(Protocol):
    """Where scores are kept, as in `DiskCache` and `MemoryCache`; used by several threads at once.

    Whatever `get` or `put` raises is logged once, and the call goes on without the cache; so it does after a second.
    A score that is no finite number counts as missing.
    """

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are there."""

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores."""


class CountingCache:
    """What every cache counts: `hits`, scores that were there, and `misses`, scores that were not."""

    def __init__(self, max_pairs: int) -> None:
        if max_pairs < 1:
            raise ValueError(f"max_pairs is {max_pairs}: a cache keeps at least one score.")
        self.max_pairs = max_pairs
        self.hits = self.misses = 0
        self._counting = threading.Lock()

    @property
    def hit_rate(self) -> float:
        """Share of the scores looked for that were there, from 0 to 1; 0 before the first look."""
        return self.hits / (self.hits + self.misses or 1)

    def count(self, keys: Sequence[bytes], found: Mapping[bytes, float]) -> None:
        """Count one look; a key that was looked for twice counts twice."""
        hits = sum(key in found for key in keys)
        with self._counting:
            self.hits += hits
            self.misses += len(keys) - hits


def pair_keys(
    service: str, model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None
) -> list[bytes]:
    """Name each pair of query and passage by all that its score depends on, as a hash from which no text can be read.

    Each service address has its own scores: two services may run one model in different precision or version, and
    scores of both in one ranking would be out of order.
    """
    common = hashlib.sha256(to_json([service, model, query, truncate]))
    keys = []
    for passage in passages:
        key = common.copy()
        key.update(to_json([passage.get("text"), passage.get("image")]))
        keys.append(key.digest())
    return keys


async def rank_missing(
    cache: ScoreCache, keys: Sequence[bytes], ask: Callable[[list[int]], Awaitable[Ranked]], seconds: float
) -> tuple[Ranked, dict[bytes, float]]:
    """Take scores from the cache, within some seconds, and ask for those at the other positions, each key once.

    Returns the scores of all keys, and those to keep. An error of `ask` has its positions in `keys`.
    """
    known = await _look_up(cache, keys, seconds)
    first = {key: position for position, key in reversed(list(enumerate(keys))) if key not in known}
    positions = sorted(first.values())
    try:
        asked = await ask(positions)
    except RerankError as error:
        if error.passages is not None:
            error.passages = [positions[place] for place in error.passages]
        raise
    fresh = dict(zip((keys[position] for position in positions), asked.logits, strict=True))
    scores = known | fresh
    return replace(asked, logits=[scores[key] for key in keys], cached=sum(key in known for key in keys)), fresh


async def _look_up(cache: ScoreCache, keys: Sequence[bytes], seconds: float) -> dict[bytes, float]:
    try:
        async with asyncio.timeout(min(WAIT, seconds)):
            found = await run_in_thread(partial(cache.get, keys), "the score cache")
        # Whatever wrote into the cache, a score that isn't a number must not break or disorder a ranking.
        return {key: score for key, score in found.items() if isinstance(score, int | float) and math.isfinite(score)}
    except Exception as error:  # noqa: BLE001 (a cache may be anything, and a query must not fail with it)
        _warn_once(cache, error)
        return {}


async def keep(cache: ScoreCache, scores: Mapping[bytes, float], seconds: float) -> None:
    """Put scores into the cache, and stop waiting for it when it takes longer than the time that is left."""
    if not scores:
        return
    try:
        async with asyncio.timeout(min(WAIT, seconds)):
            await run_in_thread(partial(cache.put, scores), "the score cache")
    except Exception as error:  # noqa: BLE001
        _warn_once(cache, error)


def _warn_once(cache: ScoreCache, error: Exception) -> None:
    if id(cache) not in _warned:
        _warned.add(id(cache))
        reason = "it took too long" if isinstance(error, TimeoutError) else error
        logger.warning("Reranking goes on without its score cache: %s", reason)
