"""The API catalog's gateway: keys and accounts, retired models, the rate limit."""

import re
import time
from collections import deque
from collections.abc import Callable, Collection
from hashlib import blake2b
from urllib.parse import urlsplit

from nvrerank_helpers.connector import CATALOG, find_model
from nvrerank_helpers.nim_standin.profiles import REQUESTS_PER_MINUTE, Reason, RefusalError

BEARER = re.compile(r"Bearer (nvapi-\S+)", re.IGNORECASE)

LESSON_KEYS = {
    # Keys for lessons: they show what only some accounts meet. Every other key that begins with `nvapi-` is valid.
    "nvapi-revoked": Reason.NO_KEY,
    "nvapi-no-credit": Reason.NO_CREDIT,
    "nvapi-forbidden": Reason.FORBIDDEN,
    "nvapi-other-account": Reason.NOT_FOR_ACCOUNT,
}

MESSAGES = {
    Reason.NO_KEY: "",
    Reason.NO_CREDIT: "Account has no credits left",
    Reason.FORBIDDEN: "Authorization failed",
    Reason.NOT_FOR_ACCOUNT: (
        "Function '00000000-0000-0000-0000-000000000000': Not found for account 'the-account-of-this-key'"
    ),
    Reason.TOO_MANY: "",
}

MAX_KEYS = 10_000
"""Keys whose requests are counted; beyond it, the least recently used ones are forgotten."""


class CatalogGateway:
    """Admits requests to the catalog's models, or refuses them as NVIDIA's gateway does.

    Args:
        per_minute: Requests that one key may make in 60 seconds.
        clock: Seconds, from any start.
    """

    def __init__(self, per_minute: int = REQUESTS_PER_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._times: dict[bytes, deque[float]] = {}  # by key, the least recently admitted first

    def admit(self, authorization: str | None) -> None:
        """Check and count the request with this header, or raise a `RefusalError`."""
        if not self._count(self.check(authorization)):
            raise RefusalError(Reason.TOO_MANY, MESSAGES[Reason.TOO_MANY])

    def check(self, authorization: str | None) -> str:
        """Return the key in the header without counting the request, or raise a `RefusalError`."""
        match = BEARER.fullmatch(authorization or "")
        if match is None:
            raise RefusalError(Reason.NO_KEY, MESSAGES[Reason.NO_KEY])
        if reason := LESSON_KEYS.get(match[1]):
            raise RefusalError(reason, MESSAGES[reason])
        return match[1]

    def _count(self, key: str) -> bool:
        """Count a request unless the key has used up its minute; only digests of keys are kept."""
        now, digest = self._clock(), blake2b(key.encode(), digest_size=16).digest()
        times = self._times.get(digest, deque())
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= self.per_minute:
            return False
        times.append(now)
        self._times.pop(digest, None)
        self._times[digest] = times
        while (first := next(iter(self._times.items())))[1][-1] <= now - 60 or len(self._times) > MAX_KEYS:
            del self._times[first[0]]
        return True


def find_hosted_models(path: str, served: Collection[str]) -> list[str]:
    """Return the served models whose catalog path this is.

    Example:
        >>> find_hosted_models("/v1/retrieval/a/b_2/reranking", ["a/b.2", "a/c"])
        ['a/b.2']
    """
    return [model for model in served if urlsplit(find_model(model).url).path == path]


def check_hosted_path(path: str, served: Collection[str]) -> None:
    """Raise a `RefusalError` for the path of a model that is retired, not enabled for the account, or unknown."""
    if find_hosted_models(path, served):
        return
    entry = next((model for model in CATALOG.values() if urlsplit(model.url).path == path), None)
    if entry and entry.end_of_life:
        when = f"{entry.end_of_life}T00:00:00Z"
        raise RefusalError(
            Reason.GONE, f"This endpoint has reached its end of life on {when} and is no longer available."
        )
    if entry and entry.status == "unknown":
        raise RefusalError(Reason.NOT_FOR_ACCOUNT, MESSAGES[Reason.NOT_FOR_ACCOUNT])
    raise RefusalError(Reason.NO_PATH, "404 page not found")
