"""A least-recently-used cache, bounded in bytes and safe to share between threads."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows how many bytes it holds, as a NumPy array does."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...


V = TypeVar("V", bound=Sized)


class ByteCache(Generic[V]):
    """Keeps the values used last, and never more than a number of bytes of them.

    Example:
        >>> import numpy as np
        >>> cache = ByteCache[np.ndarray](max_bytes=100)
        >>> cache.put("passage", np.zeros(10, dtype=np.int8))
        >>> cache.nbytes
        10
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        """Return the value kept under `key`, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def pop(self, key: Hashable) -> V | None:
        """Forget the value kept under `key`, and return it, or None."""
        with self._lock:
            value = self._values.pop(key, None)
            self.nbytes -= value.nbytes if value is not None else 0
            return value

    def put(self, key: Hashable, value: V) -> None:
        """Keep `value`, dropping the values unused for longest; one larger than the bound is not kept."""
        with self._lock:
            if key in self._values:
                self.nbytes -= self._values.pop(key).nbytes
            if value.nbytes > self.max_bytes:
                return
            self._values[key] = value
            self.nbytes += value.nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._values.popitem(last=False)[1].nbytes
