"""A score cache in the memory of this process."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from .score_cache import CountingCache
from ..extras import extra


class MemoryCache(CountingCache):
    """Keep the scores that were used last, in this process; needs the extra `production`.

    Args:
        max_pairs: How many scores are kept at the most, about 150 bytes each; the one not used for longest goes first.

    Raises:
        ExtraNotInstalled: `cachetools` is not installed.
        ValueError: `max_pairs` is less than 1.

    Example:
        >>> from nvrerank_helpers import NVIDIARerank
        >>> reranker = NVIDIARerank(score_cache=MemoryCache(max_pairs=100_000))  # doctest: +SKIP
        >>> reranker.score_cache.hit_rate  # doctest: +SKIP
        0.85
    """

    def __init__(self, max_pairs: int = 100_000) -> None:
        super().__init__(max_pairs)
        with extra("production"):
            from cachetools import LRUCache
        self._scores: Any = LRUCache(max_pairs)
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
        self.count(keys, found)
        return found

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores."""
        with self._lock:
            self._scores.update(scores)
