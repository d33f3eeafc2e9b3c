"""Staying under a rate limit: whoever sends a request books the next free place, and waits for it or does not begin."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .errors import RateLimited


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
        """Book the next free place, to be waited for in the `with` block; one that is broken off gives it back.

        Args:
            longest: Seconds that the caller can wait for it.

        Yields:
            Seconds to wait before the request is sent.

        Raises:
            RateLimited: The next free place is later than that; nothing is booked.
        """
        place, wait = self._next(longest)
        try:
            yield wait
        except BaseException:
            with self._lock, suppress(ValueError):  # it may be long past
                self._booked.remove(place)
            raise

    def _next(self, longest: float) -> tuple[float, float]:
        with self._lock:
            now = self._clock()
            while self._booked and self._booked[0] + self.seconds <= now:
                self._booked.popleft()
            place = max(now, self._booked[-1]) if self._booked else now
            if len(self._booked) >= self.requests:
                place = max(place, self._booked[-self.requests] + self.seconds)
            wait = place - now
            if wait and wait >= longest:
                raise RateLimited(
                    f"The limit of {self.requests} requests in {self.seconds:g} seconds that was set here is reached",
                    hint=f"Try again in {wait:.0f} seconds, longer than this call may take; or raise `deadline`.",
                )
            self._booked.append(place)
        return place, wait
