"""A score cache in the memory of this process."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from .score_cache import CountingCache


class MemoryCache(CountingCache):
    """Keep the scores that were used last, in this process.

    Args:
        max_pairs: How many scores are kept at most, about 150 bytes each; the least recently used goes first.

    Raises:
        ValueError: `max_pairs` is less than 1.

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
