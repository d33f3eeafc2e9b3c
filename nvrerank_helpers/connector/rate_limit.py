"""A client-side rate limit: each request books the next free slot, and waits for it or isn't sent."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .errors import RateLimited


class RateLimit:
    """At most N requests per interval, for all who share the object: threads, event loops and rerankers.

    Slots are given in the order of asking. The object counts in its own process: give each of several processes under
    one limit a share of it.

    Args:
        requests: How many requests, at least 1. Users report 40 a minute on the API catalog's free tier; set a little
            less, since requests don't arrive as evenly as they are sent.
        seconds: Length of the interval, more than 0.
        clock: Returns a time in seconds that never runs backwards.

    Raises:
        ValueError: One of the numbers is too small.

    Example:
        >>> limit = RateLimit(2, clock=lambda: 100.0)
        >>> for _ in range(3):
        ...     with limit.book(longest=90) as wait:
        ...         print(wait)  # and sleep as long, then send
        0.0
        0.0
        60.0
    """

    def __init__(self, requests: int, seconds: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        if requests < 1 or not seconds > 0:
            raise ValueError(f"A rate limit is at least 1 request in more than 0 seconds, not {requests} in {seconds}.")
        self.requests, self.seconds = requests, seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._booked: deque[float] = deque()

    def __repr__(self) -> str:
        return f"RateLimit({self.requests}, {self.seconds})"

    def __reduce__(self) -> tuple[type["RateLimit"], tuple[int, float]]:
        """Pickle the numbers; a copy in another process counts anew."""
        return type(self), (self.requests, self.seconds)

    @contextmanager
    def book(self, longest: float) -> Iterator[float]:
        """Book the next free slot and yield the seconds to wait for it; leaving the block by an error gives it back.

        Raises:
            RateLimited: The slot is more than `longest` seconds away; nothing is booked.
        """
        slot, wait = self._next(longest)
        try:
            yield wait
        except BaseException:
            with self._lock, suppress(ValueError):  # it may be long past
                self._booked.remove(slot)
            raise

    def _next(self, longest: float) -> tuple[float, float]:
        with self._lock:
            now = self._clock()
            while self._booked and self._booked[0] + self.seconds <= now:
                self._booked.popleft()
            slot = max(now, self._booked[-1]) if self._booked else now
            if len(self._booked) >= self.requests:
                slot = max(slot, self._booked[-self.requests] + self.seconds)
            wait = slot - now
            if wait and wait >= longest:
                error = RateLimited(
                    f"The limit of {self.requests} requests in {self.seconds:g} seconds that was set here is reached",
                    hint="Raise `deadline`, or the limit if the service allows more.",
                )
                error.retry_after = wait
                raise error
            self._booked.append(slot)
        return slot, wait
