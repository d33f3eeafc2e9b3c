"""Staying under a rate limit: whoever sends a request books the next free place, and waits for it or does not begin."""

import threading
import time
from collections import deque
from collections.abc import Callable

from nvrerank_helpers.errors import RateLimited


class RateLimit:
    """So many requests in so many seconds, for all who share the object: threads, event loops and rerankers.

    Places are booked in the order of asking, so nobody is overtaken, and in any stretch of `seconds` at most
    `requests` begin. The object counts in its own process: several processes under one limit get a share each.

    Args:
        requests: How many requests, at least 1. The API catalog's free tier is said to allow 40 a minute; a little
            less leaves room for the way to the service, which is not the same for each request.
        seconds: In how many seconds, more than 0.
        clock: What tells the time in seconds; it may begin anywhere and never runs backwards.

    Raises:
        ValueError: One of the numbers is too small.

    Example:
        >>> limit = RateLimit(2, clock=lambda: 100.0)
        >>> [limit.book(longest=90) for _ in range(4)]
        [0.0, 0.0, 60.0, 60.0]
    """

    def __init__(self, requests: int, seconds: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        if requests < 1 or not seconds > 0:
            raise ValueError(f"A rate limit is at least 1 request in more than 0 seconds, not {requests} in {seconds}.")
        self.requests, self.seconds = requests, seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._booked: deque[float] = deque(maxlen=requests)

    def __repr__(self) -> str:
        return f"RateLimit({self.requests}, {self.seconds})"

    def __reduce__(self) -> tuple[type["RateLimit"], tuple[int, float]]:
        """Pickle the numbers; a copy in another process counts anew."""
        return type(self), (self.requests, self.seconds)

    def book(self, longest: float) -> float:
        """Book the next free place.

        Args:
            longest: Seconds that the caller can wait for it.

        Returns:
            Seconds to wait before the request is sent.

        Raises:
            RateLimited: The next free place is later than that; nothing is booked.
        """
        with self._lock:
            now = self._clock()
            free = self._booked[0] + self.seconds if len(self._booked) == self.requests else now
            wait = max(0.0, free - now)
            if wait and wait >= longest:
                raise RateLimited(
                    f"The limit of {self.requests} requests in {self.seconds:g} seconds that was set here is reached",
                    hint=f"Try again in {wait:.0f} seconds, longer than this call may take; or raise `deadline`.",
                )
            self._booked.append(now + wait)
        return wait
