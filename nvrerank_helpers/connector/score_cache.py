"""Scores kept from earlier calls: a pair of query and passage that was scored once is not sent again.

A score of a reranking model depends on its own query and passage alone, not on the other passages of the request, so
it may be kept. `DiskCache` keeps scores in a file, `MemoryCache` in this process; both fit `ScoreCache`, and so may a
cache of your own.
"""

import asyncio
import hashlib
import logging
import math
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic_core import to_json

from .client import RankingClient
from .errors import CacheError, RerankError
from .protocol import Passage, Ranked, Truncate

WAIT = 1.0  # seconds that an async call gives its cache: where that is slow, many calls queue for few threads

logger = logging.getLogger(__name__)
T = TypeVar("T")


@runtime_checkable
class ScoreCache(Protocol):
    """Where scores are kept; used by several threads at once.

    A `CacheError` of `get` or `put` is logged, and the call goes on without the cache. A score that is no finite
    number is as good as none. The time that they take is not part of the deadline; an async call gives each a second.
    """

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are there."""

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores."""


class CountingCache:
    """What every cache counts.

    Args:
        max_pairs: How many scores it keeps at the most, at least 1.

    Attributes:
        hits: Scores that were there.
        misses: Scores that were not.
    """

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
    """Name each pair of query and passage by all that its score depends on.

    Args:
        service: The address that is asked. Two services may run one model in different precision or version, and
            scores of both in one ranking would be out of order; so each has its own.
        model: Id of the model.
        query: The query.
        passages: The passages, with exact text and image.
        truncate: What happens to passages that are too long; None leaves it to the service.

    Returns:
        For each passage the SHA-256 of these as JSON: no text can be read from it, and no two lists of texts write
        the same JSON.

    Example:
        >>> same, other = pair_keys("http://nim/v1", "m", "which way?", [{"text": "a"}, {"text": "b"}], "END")
        >>> len(same), same == other
        (32, False)
    """
    common = hashlib.sha256(to_json([service, model, query, truncate]))
    keys = []
    for passage in passages:
        key = common.copy()
        key.update(to_json([passage.get("text"), passage.get("image")]))
        keys.append(key.digest())
    return keys


def missing(keys: Sequence[bytes], known: Mapping[bytes, float]) -> list[int]:
    """Return the positions that must be asked for, the first of each key.

    Example:
        >>> missing([b"a", b"b", b"b", b"c"], {b"a": 1.5})
        [1, 3]
    """
    first = {key: position for position, key in reversed(list(enumerate(keys))) if key not in known}
    return sorted(first.values())


def merged(keys: Sequence[bytes], known: Mapping[bytes, float], fresh: Mapping[bytes, float], asked: Ranked) -> Ranked:
    """Join the scores that were there with those that were asked for, in the order of the keys.

    Example:
        >>> asked = Ranked([-1.0], tokens=7, requests=1, retries=0, seconds=0.2)
        >>> merged([b"a", b"b"], {b"a": 1.5}, {b"b": -1.0}, asked).logits
        [1.5, -1.0]
    """
    scores = {**known, **fresh}
    return replace(asked, logits=[scores[key] for key in keys], cached=sum(key in known for key in keys))


def rank(
    client: RankingClient, cache: ScoreCache, query: str, passages: Sequence[Passage], truncate: Truncate | None
) -> Ranked:
    """Score passages, and ask the service only for those whose score is not in the cache.

    Args:
        client: Who asks the service.
        cache: What is looked up first, and gets the new scores.
        query: The query, not empty.
        passages: Any number of passages; one that stands in it twice is asked for once.
        truncate: What happens to passages that are too long.

    Returns:
        One logit a passage. Nothing is sent when all were in the cache.

    Raises:
        RerankError: The service failed; then nothing is kept. `passages` of the error are positions in `passages`.
    """
    started = time.monotonic()
    keys = pair_keys(client.endpoint.ranking_url, client.model, query, passages, truncate)
    known = _get(cache, keys)
    positions = missing(keys, known)
    try:
        asked = client.rank(query, [passages[position] for position in positions], truncate)
    except RerankError as error:
        raise _with_positions(error, positions) from error.__cause__
    fresh = _by_key(keys, positions, asked)
    _put(cache, fresh)
    return replace(merged(keys, known, fresh, asked), seconds=time.monotonic() - started)


async def arank(
    client: RankingClient, cache: ScoreCache, query: str, passages: Sequence[Passage], truncate: Truncate | None
) -> Ranked:
    """Score passages, and ask the service only for those whose score is not in the cache; the async twin of `rank`."""
    started = time.monotonic()
    keys = pair_keys(client.endpoint.ranking_url, client.model, query, passages, truncate)
    known = await _in_time(asyncio.to_thread(_get, cache, keys), {})
    positions = missing(keys, known)
    try:
        asked = await client.arank(query, [passages[position] for position in positions], truncate)
    except RerankError as error:
        raise _with_positions(error, positions) from error.__cause__
    fresh = _by_key(keys, positions, asked)
    await _in_time(asyncio.to_thread(_put, cache, fresh), None)
    return replace(merged(keys, known, fresh, asked), seconds=time.monotonic() - started)


def _by_key(keys: Sequence[bytes], positions: Sequence[int], asked: Ranked) -> dict[bytes, float]:
    return dict(zip((keys[position] for position in positions), asked.logits, strict=True))


def _get(cache: ScoreCache, keys: Sequence[bytes]) -> dict[bytes, float]:
    try:
        found = cache.get(keys)
    except CacheError as error:
        logger.warning("Reranking goes on without its score cache: %s", error)
        return {}
    # Whatever wrote into the cache, a score that is no number must not break or disorder a ranking.
    return {key: score for key, score in found.items() if isinstance(score, int | float) and math.isfinite(score)}


def _put(cache: ScoreCache, scores: Mapping[bytes, float]) -> None:
    try:
        if scores:
            cache.put(scores)
    except CacheError as error:
        logger.warning("Scores are not kept: %s", error)


async def _in_time(work: Coroutine[Any, Any, T], otherwise: T) -> T:
    try:
        return await asyncio.wait_for(work, WAIT)
    except TimeoutError:
        logger.warning("Reranking goes on without its score cache: it took longer than %g seconds", WAIT)
        return otherwise


def _with_positions(error: RerankError, positions: Sequence[int]) -> RerankError:
    if error.passages is not None:
        error.passages = [positions[place] for place in error.passages]
    return error
