"""How long to try: which faults pass, how long to wait before each try, and when to give up."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Self, cast

import httpx
from httpx_retries import Retry

from .errors import RerankTimeout
from .rate_limit import RateLimit

PASSING_STATUS = (408, 429, 500, 502, 503, 504)
FIRST_WAIT = 0.25  # seconds; doubles with every try, times a random number from 0 to 1
LONGEST_WAIT = 30.0  # seconds that a service may ask for in `Retry-After`


class GaveUp(Exception):
    """No more tries: the next one would come too late.

    Attributes:
        outcome: The answer or the connection error of the last try.
        wait: Seconds that the next try would have had to wait.
    """

    def __init__(self, outcome: httpx.Response | Exception, wait: float) -> None:
        super().__init__(f"the next try would have to wait {wait:.0f} s")
        self.outcome = outcome
        self.wait = wait


class Patience(Retry):
    """The retries of one request, within a deadline.

    Built on `httpx_retries`, so that the caller's own client, proxies and certificates keep working. A wait that the
    service asks for is obeyed up to 30 s; a longer one ends the request at once.

    Args:
        max_retries: How often to try again.
        timeout: Seconds for connecting, for sending and for each wait for data.
        ends: Time on the monotonic clock at which the tries and the waits between them must be over.
        rate_limit: Where each try books its place.
        over: Set when the call has ended without this request: then no more is sent for it.

    Example:
        >>> patience = Patience(max_retries=3, timeout=60, ends=time.monotonic() + 120)
        >>> patience.request_timeout["read"]
        60
    """

    def __init__(
        self,
        max_retries: int,
        timeout: float,
        ends: float,
        rate_limit: RateLimit | None = None,
        over: threading.Event | None = None,
    ) -> None:
        super().__init__(
            total=max_retries,
            allowed_methods=("GET", "POST"),
            status_forcelist=PASSING_STATUS,
            backoff_factor=FIRST_WAIT,
            max_backoff_wait=LONGEST_WAIT,
        )
        self._timeout = timeout
        self._ends = ends
        self._rate_limit = rate_limit
        self._over = over or threading.Event()
        self.request_timeout: dict[str, float] = {}
        """httpx's own dictionary of the request, so that each try gets what is left of the deadline."""
        self.shorten()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._ends - time.monotonic()

    def increment(self) -> Self:
        """Count a try; unlike its base class this one keeps its state, since it belongs to one request."""
        self.attempts_made += 1
        return self

    def begin(self) -> None:
        """Wait for the place of a try under the rate limit.

        Raises:
            RateLimited: The place would come too late.
        """
        if self._rate_limit:
            with self._rate_limit.book(self.left) as wait:
                self.pause(wait)
        self.shorten()

    async def abegin(self) -> None:
        """Wait for the place of a try under the rate limit; the async twin of `begin`."""
        if self._rate_limit:
            with self._rate_limit.book(self.left) as wait:
                await asyncio.sleep(wait)
        self.shorten()

    def sleep(self, response: httpx.Response | Exception) -> None:
        """Wait until the next try, or give up."""
        self.pause(self.wait_after(response))
        self.begin()

    async def asleep(self, response: httpx.Response | Exception) -> None:
        """Wait until the next try, or give up; the async twin of `sleep`."""
        await asyncio.sleep(self.wait_after(response))
        await self.abegin()

    def pause(self, seconds: float) -> None:
        """Wait, or leave as soon as the call is over; an async request is cancelled instead.

        Raises:
            RerankTimeout: The call is over, so that nobody will read this.
        """
        if self._over.wait(seconds):
            raise RerankTimeout("The call had ended before this request was sent")

    def wait_after(self, outcome: httpx.Response | Exception) -> float:
        """Return how many seconds to wait before the next try.

        Raises:
            GaveUp: The service asks for more than 30 s, or the deadline would pass.
        """
        asked = self._asked(outcome)
        wait = self.backoff_strategy() if asked is None else asked
        if wait > LONGEST_WAIT or wait >= self.left:
            raise GaveUp(outcome, wait)
        return wait

    def _asked(self, outcome: httpx.Response | Exception) -> float | None:
        header = outcome.headers.get("retry-after") if isinstance(outcome, httpx.Response) else None
        try:
            return self.parse_retry_after(header) if header else None
        except (ValueError, OverflowError):  # neither seconds nor a date: as if it were not there
            return None

    def shorten(self) -> None:
        """Let no phase of the request that begins now last beyond the deadline."""
        seconds = max(0.001, min(self._timeout, self.left))
        self.request_timeout |= dict.fromkeys(("connect", "read", "write", "pool"), seconds)


def read_by_the_clock(response: httpx.Response) -> None:
    """Let the body of an answer end at the deadline of its request, however slowly it drips; a hook of httpx.

    httpx counts its timeouts for each read. Here the deadline is looked at between the reads, and no single one may
    last longer than what was left when the body began.
    """
    patience = response.request.extensions.get("retry")
    if patience:
        patience.shorten()
        response.stream = _ByTheClock(cast("httpx.SyncByteStream", response.stream), patience)


class _ByTheClock(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if self._patience.left <= 0:
                raise httpx.ReadTimeout("the answer drips")
            yield part

    def close(self) -> None:
        self._stream.close()
