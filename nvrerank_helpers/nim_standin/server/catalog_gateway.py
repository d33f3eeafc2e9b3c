"""What stands before the API catalog's models: keys and accounts, ends of life, the rate limit."""

import re
import time
from collections import deque
from collections.abc import Callable, Collection
from hashlib import blake2b
from urllib.parse import urlsplit

from nvrerank_helpers.connector import CATALOG, known
from nvrerank_helpers.nim_standin.profiles import REQUESTS_PER_MINUTE, Reason, RefusalError

BEARER = re.compile(r"Bearer (nvapi-\S+)", re.IGNORECASE)

LESSON_KEYS = {
    # Keys that show in class what only some accounts meet. Every other key that begins with `nvapi-` is good.
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


MOST_KEYS = 10_000
"""Keys whose requests are counted; beyond it, those admitted longest ago begin again."""


class Gateway:
    """Admits requests to the catalog's models, or refuses them as NVIDIA's gateway does.

    Args:
        per_minute: Requests that one key may make in 60 seconds.
        clock: Seconds, from any start.

    Example:
        >>> Gateway().admit("Bearer nvapi-anything")
    """

    def __init__(self, per_minute: int = REQUESTS_PER_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._times: dict[bytes, deque[float]] = {}  # of the keys in the order in which they were last admitted

    def admit(self, authorization: str | None) -> None:
        """Check a request's key and count it.

        Args:
            authorization: The header's value.

        Raises:
            RefusalError: As of `check`, or too many requests in this minute.
        """
        if not self._in_time(self.check(authorization)):
            raise RefusalError(Reason.TOO_MANY, MESSAGES[Reason.TOO_MANY])

    def check(self, authorization: str | None) -> str:
        """Check a request's key without counting it.

        Args:
            authorization: The header's value.

        Returns:
            The key.

        Raises:
            RefusalError: No key of the right form, or one of `LESSON_KEYS`.
        """
        match = BEARER.fullmatch(authorization or "")
        if match is None:
            raise RefusalError(Reason.NO_KEY, MESSAGES[Reason.NO_KEY])
        if reason := LESSON_KEYS.get(match[1]):
            raise RefusalError(reason, MESSAGES[reason])
        return match[1]

    def _in_time(self, key: str) -> bool:
        """Count a request of this key, unless its minute is full; keys are not kept, only their digests."""
        now, digest = self._clock(), blake2b(key.encode(), digest_size=16).digest()
        times = self._times.get(digest, deque())
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= self.per_minute:
            return False
        times.append(now)
        self._times.pop(digest, None)
        self._times[digest] = times
        self._forget(now - 60)
        return True

    def _forget(self, begin: float) -> None:
        """Drop the keys that were last admitted before this time, and those beyond `MOST_KEYS`."""
        while (first := next(iter(self._times.items())))[1][-1] <= begin or len(self._times) > MOST_KEYS:
            del self._times[first[0]]


def hosted_models(path: str, served: Collection[str]) -> list[str]:
    """Return the served models whose catalog path this is.

    Example:
        >>> hosted_models("/v1/retrieval/a/b_2/reranking", ["a/b.2", "a/c"])
        ['a/b.2']
    """
    return [model for model in served if urlsplit(known(model).url).path == path]


def check_hosted(path: str, served: Collection[str]) -> None:
    """Refuse a path of the catalog that answers nothing here.

    Args:
        path: Of the request.
        served: Ids of the models that answer.

    Raises:
        RefusalError: The model has reached its end of life, is not enabled for the account, or was never there.
    """
    if hosted_models(path, served):
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
