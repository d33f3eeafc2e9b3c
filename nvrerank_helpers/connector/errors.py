"""What can go wrong between a list of nodes and its new order, each with one line on what to do.

RerankError
├── ServiceUnreachable      no connection
├── RerankTimeout           no answer in time
├── InvalidAnswer           an answer that is not a ranking of what was sent
├── CacheError              a score cache that cannot be used
└── StatusError             an answer with an error status
    ├── Unauthorized        401
    ├── PaymentRequired     402
    ├── Forbidden           403
    ├── NotFound            404
    ├── ModelRetired        410, or known to be retired before anything is sent
    ├── TooManyPassages     413, or more passages than the model takes
    ├── PassageTooLong      400 or 422 with the words that every NIM version uses for it
    ├── RequestRefused      any other 4xx
    ├── RateLimited         429, or a `RateLimit` of one's own that leaves no time
    ├── Overloaded          503
    └── ServerError         any other 5xx

Wrong arguments are a `ValueError`, as everywhere in Python.
"""

import json
from collections.abc import Sequence
from typing import Self


class RerankError(Exception):
    """Something between the nodes and their new order went wrong.

    Args:
        message: What happened, in a sentence.
        hint: What to do about it; each class has its own unless one is given.
        status: HTTP status, where there was an answer.
        detail: The server's own words, where it said any.
        request_id: The server's name for the request, to quote in a support case.
        model: Id of the model that was asked.
        url: Address that was asked, without credentials.

    Attributes:
        passages: Which of the passages of the call the failing request held, where it was one of several.
        node_ids: The ids of their nodes, where `NVIDIARerank` was called.

    Example:
        >>> print(RerankError("The service said no.", hint="Ask again."))
        The service said no.
          What to do: Ask again.
    """

    hint: str = "Read the message above; `python -m nvrerank_helpers.nim_standin` gives a service to try against."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        model: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint or type(self).hint
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.model = model
        self.url = url
        self.passages: Sequence[int] | None = None
        self.node_ids: list[str] = []

    def __str__(self) -> str:
        known = {"model": self.model, "address": self.url, "request id": self.request_id, "nodes": self._nodes()}
        asked = ", ".join(f"{name} {value}" for name, value in known.items() if value)
        return f"{self.args[0]}{f' ({asked})' if asked else ''}\n  What to do: {self.hint}"

    @property
    def summary(self) -> str:
        """What a log may have: neither the service's words, which may repeat what it was sent, nor ids of nodes."""
        known = {"status": self.status, "request id": self.request_id, "model": self.model, "address": self.url}
        facts = ", ".join(f"{name} {value}" for name, value in known.items() if value)
        return f"{type(self).__name__}{f' ({facts})' if facts else ''}. What to do: {self.hint}"

    def alone(self) -> Self:
        """Cut the error off from where it came from: that holds texts, and requests with their key."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def _nodes(self) -> str:
        ends = self.node_ids[:1] + self.node_ids[1:][-1:]
        return " to ".join(map(repr, ends))


class ServiceUnreachable(RerankError):
    """No connection to the service could be made, or it broke."""

    hint = (
        "Is the service running, and is the address right? A NIM needs minutes to load its model: wait until "
        "GET /v1/health/ready answers 200. For a stand-in, call nvrerank_helpers.connect() again, or start one: "
        "python -m nvrerank_helpers.nim_standin --port 1976"
    )


class RerankTimeout(RerankError):
    """The service did not answer in time."""

    hint = "Raise `timeout`, lower `max_batch_size` so that each request is smaller, or look at the service's load."


class InvalidAnswer(RerankError):
    """The service answered with something that is not a ranking of the passages that were sent."""

    hint = "Is this address a reranking service? A proxy in between, or another kind of model, answers like this."


class CacheError(RerankError):
    """A score cache cannot be opened, read or written."""

    hint = "Give another path; or delete the file, if it was a score cache: the service gives the scores again."


class StatusError(RerankError):
    """The service answered with an error status."""


class Unauthorized(StatusError):
    """401: the key is missing, malformed or revoked."""

    hint = "Set NVIDIA_API_KEY to a valid key (it starts with nvapi-); make one at build.nvidia.com."


class PaymentRequired(StatusError):
    """402: the account has no credits left."""

    hint = "The account has used up its credits: see its page at build.nvidia.com, or run your own NIM."


class Forbidden(StatusError):
    """403: the key is well formed but may not call this."""

    hint = "Make the key at build.nvidia.com (an NGC key needs the permission 'Public API Endpoints')."


class NotFound(StatusError):
    """404: no such path or model, or the model is not enabled for this account."""

    hint = (
        "Check the address (a NIM ranks at /v1/ranking) and the model's id; in the API catalog it may not be "
        "enabled for this account."
    )


class ModelRetired(StatusError):
    """410: the model has reached its end of life."""

    hint = "Choose a live model: leave `model` out to get the catalog's current one."


class TooManyPassages(StatusError):
    """413, or more passages in one request than the model takes."""

    hint = "Lower `max_batch_size`: a NIM takes at most 512 passages a request."


class PassageTooLong(StatusError):
    """A query and passage together have more tokens than the model takes."""

    hint = 'Set `truncate="END"` to have long passages cut, or split them into smaller nodes.'


class RequestRefused(StatusError):
    """The service refused the request as it is."""

    hint = "The service's own words say what it did not like."


class RateLimited(StatusError):
    """429: too many requests in this minute, or a `RateLimit` of one's own that leaves no time."""

    hint = "Send fewer requests at once (lower `max_concurrency`), wait a minute, or run your own NIM."


class Overloaded(StatusError):
    """503: the service is still loading or its queue is full."""

    hint = "Wait until GET /v1/health/ready answers 200, or send fewer requests at once."


class ServerError(StatusError):
    """The service failed by itself."""

    hint = "Try again; if it stays, the service's own log tells more."


BY_STATUS: dict[int, type[StatusError]] = {
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    410: ModelRetired,
    413: TooManyPassages,
    429: RateLimited,
    503: Overloaded,
}


def status_error_class(status: int, words: str) -> type[StatusError]:
    """Choose the error for an answer by its status and by what the server said.

    NIM 1.0 to 1.9 answer 400 to a passage that is too long and later ones 422, so its words decide and not its
    status (release notes of NIM 1.10).

    Args:
        status: HTTP status of 300 or more.
        words: The server's explanation, may be empty.

    Returns:
        The class to raise.

    Example:
        >>> status_error_class(422, "Input length 9000 exceeds maximum allowed token size 8192").__name__
        'PassageTooLong'
    """
    if status in (400, 422) and "exceeds maximum allowed" in words:
        return PassageTooLong
    fallback = ServerError if status >= 500 else RequestRefused
    return BY_STATUS.get(status, fallback)


def status_error(
    status: int, body: bytes, *, model: str | None = None, url: str | None = None, request_id: str | None = None
) -> StatusError:
    """Turn an error answer into an exception that keeps the server's own words.

    Args:
        status: HTTP status of 300 or more.
        body: What the service sent.
        model: Id of the model that was asked.
        url: Address that was asked.
        request_id: The service's name for the request.

    Returns:
        The exception to raise.

    Example:
        >>> error = status_error(410, b'{"detail": "end of life"}', model="m", url="u")
        >>> type(error).__name__, error.detail
        ('ModelRetired', 'end of life')
    """
    words = servers_words(body)
    message = f"The reranking service answered {status}{f': {words}' if words else ' without a reason'}"
    kind = status_error_class(status, words)
    return kind(message, status=status, detail=words or None, request_id=request_id, model=model, url=url)


def servers_words(body: bytes) -> str:
    """Find the explanation in an error answer.

    NVIDIA's services put it under `detail`, `message`, `error` or `title`, or send plain text; FastAPI sends a list
    of objects under `detail`.

    Example:
        >>> servers_words(b'{"object": "error", "message": "Input length 9000 exceeds maximum"}')
        'Input length 9000 exceeds maximum'
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return excerpt(body)
    if not isinstance(answer, dict):
        return excerpt(body)
    for key in ("detail", "message", "error", "title"):
        value = answer.get(key)
        if isinstance(value, list):
            value = "; ".join(str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in value)
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value:
            return value[:500]
    return excerpt(body)


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as text on one line, for an error message."""
    return " ".join(body[:400].decode("utf-8", errors="replace").split())[:200]
