"""Which faults are worth another try, how long to wait before it, and when to stop."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .errors import PassageTooLong, RerankError, RerankTimeout, ServiceUnreachable
from .replies import Reply, make_reply_error

# 425, 499 and 520 to 524 come from proxies and gateways whose service was gone or slow for a moment.
PASSING_STATUS = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524})
FIRST_WAIT = 0.25  # seconds; doubles with every try, times a random number from 0 to 1
LONGEST_WAIT = 30.0  # seconds that a service may ask for in `Retry-After`


async def send_with_retries(send: Callable[[], Awaitable[Reply]], max_retries: int, ends: float) -> tuple[Reply, int]:
    """Send a request until an answer comes that another try would not change; returns the number of retries too.

    Raises:
        RerankError: The last try failed, or the next one would come too late (after `retry_after` seconds).
    """
    retries = 0
    while True:
        try:
            reply = await send()
        except (ServiceUnreachable, RerankTimeout) as raised:
            error: RerankError = raised
            wait = backoff(retries)
        else:
            if reply.status not in PASSING_STATUS:
                return reply, retries
            error = make_reply_error(reply)
            if isinstance(error, PassageTooLong):  # llama.cpp says so with 500
                return reply, retries
            asked = parse_retry_after(reply)
            wait = backoff(retries) if asked is None else asked
        if retries == max_retries:
            raise error
        if wait > LONGEST_WAIT or wait >= ends - time.monotonic():
            error.retry_after = wait
            raise error
        await asyncio.sleep(wait)
        retries += 1


def backoff(retries: int) -> float:
    """Return a random wait that grows with every try."""
    return min(FIRST_WAIT * 2.0 ** min(retries, 10), LONGEST_WAIT) * random.random()  # noqa: S311 (no secret depends on it)


def parse_retry_after(reply: Reply) -> float | None:
    """Return the seconds that `Retry-After` asks for; None where it isn't there or is neither seconds nor a date."""
    header = reply.headers.get("retry-after", "").strip()
    try:
        if header.isascii() and header.replace(".", "", 1).isdigit():
            return float(header)
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()) if header else None
    except (ValueError, OverflowError, TypeError):
        return None
