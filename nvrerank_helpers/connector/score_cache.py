"""Scores kept from earlier calls: a pair of query and passage that was scored once is not sent again.

A score of a reranking model depends on its own query and passage alone, not on the other passages of the request, so
it may be kept.
"""

import asyncio
import hashlib
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from pydantic_core import to_json

from .background import run_in_thread
from .errors import RerankError
from .protocol import Passage, RankResult, Truncate

T = TypeVar("T")

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
    """Counts `hits`, the scores that were found, and `misses`, those that were not."""

    def __init__(self, max_pairs: int) -> None:
        if max_pairs < 1:
            raise ValueError(f"max_pairs is {max_pairs}: a cache keeps at least one score.")
        self.max_pairs = max_pairs
        self.hits = self.misses = 0
        self._counting = threading.Lock()

    @property
    def hit_rate(self) -> float:
        """The share of hits, from 0 to 1; 0 before the first look."""
        return self.hits / (self.hits + self.misses or 1)

    def count(self, keys: Sequence[bytes], found: Mapping[bytes, float]) -> None:
        """Count one look; a key that was looked for twice counts twice."""
        hits = sum(key in found for key in keys)
        with self._counting:
            self.hits += hits
            self.misses += len(keys) - hits


class MemoryCache(CountingCache):
    """Keep the scores that were used last, in the memory of this process: `max_pairs` of about 150 bytes each.

    Example:
        >>> cache = MemoryCache(max_pairs=100_000)
        >>> cache.put({b"a pair": 1.5})
        >>> cache.get([b"a pair", b"another"]), cache.hit_rate
        ({b'a pair': 1.5}, 0.5)
    """

    def __init__(self, max_pairs: int = 100_000) -> None:
        super().__init__(max_pairs)
        self._scores: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryCache({self.max_pairs})"

    def __reduce__(self) -> tuple[type["MemoryCache"], tuple[int]]:
        """Pickle the size alone: another process begins with an empty cache."""
        return type(self), (self.max_pairs,)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are there."""
        with self._lock:
            found = {key: self._scores[key] for key in keys if key in self._scores}
            for key in found:
                self._scores.move_to_end(key)
        self.count(keys, found)
        return found

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores."""
        with self._lock:
            for key, score in scores.items():
                self._scores[key] = score
                self._scores.move_to_end(key)
            while len(self._scores) > self.max_pairs:
                self._scores.popitem(last=False)


def hash_pairs(
    service: str, model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None
) -> list[bytes]:
    """Name each pair of query and passage by all that its score depends on, as a hash from which no text can be read.

    The address is part of it: two services may run one model in different precision or version, and scores of both in
    one ranking would be out of order.
    """
    common = hashlib.sha256(to_json([service, model, query, truncate]))
    keys = []
    for passage in passages:
        key = common.copy()
        key.update(to_json([passage.get("text"), passage.get("image")]))
        keys.append(key.digest())
    return keys


async def rank_missing(
    cache: ScoreCache, keys: Sequence[bytes], ask: Callable[[list[int]], Awaitable[RankResult]], seconds: float
) -> tuple[RankResult, dict[bytes, float]]:
    """Take scores from the cache, within some seconds, and ask for those at the other positions, each key once.

    Returns the scores of all keys, and those to keep. An error of `ask` has its positions in `keys`.
    """
    known = await _use(cache, lambda: _read(cache, keys), seconds) or {}
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


def _read(cache: ScoreCache, keys: Sequence[bytes]) -> dict[bytes, float]:
    # Whatever wrote into the cache, a score that isn't a number must not break or disorder a ranking.
    found = cache.get(keys).items()
    return {key: score for key, score in found if isinstance(score, int | float) and math.isfinite(score)}


async def store_scores(cache: ScoreCache, scores: Mapping[bytes, float], seconds: float) -> None:
    """Put scores into the cache, and stop waiting for it when it takes longer than the time that is left."""
    if scores:
        await _use(cache, lambda: cache.put(scores), seconds)


async def _use(cache: ScoreCache, function: Callable[[], T], seconds: float) -> T | None:
    try:
        async with asyncio.timeout(min(WAIT, seconds)):
            return await run_in_thread(function, "the score cache")
    except Exception as error:  # noqa: BLE001 (a cache may be anything, and a query must not fail with it)
        if id(cache) not in _warned:
            _warned.add(id(cache))
            reason = "it took too long" if isinstance(error, TimeoutError) else error
            logger.warning("Reranking goes on without its score cache: %s", reason)
        return None
