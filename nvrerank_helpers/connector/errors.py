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
    ├── NotFound            404, or a model that your own service does not list
    ├── ModelRetired        410, or known to be retired before anything is sent
    ├── TooManyPassages     413, or more passages than the service takes in one request
    ├── PassageTooLong      400, 413, 422 or 500 with the words that NIMs, vLLM, TEI and others use for it
    ├── RequestRefused      any other 3xx or 4xx
    ├── RateLimited         429, or a `RateLimit` that leaves no time
    ├── Overloaded          503
    └── ServerError         any other 5xx

Wrong arguments are a `ValueError`, as everywhere in Python.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from .redaction import printable, redact


class RerankError(Exception):
    """Something between the nodes and their new order went wrong.

    Attributes:
        hint: What to do about it; each class has its own unless one is given.
        status: HTTP status, where there was an answer; also `status_code`, as httpx and openai call it.
        detail: The server's message, where it sent one.
        request_id: The server's name for the request, to quote in a support case.
        model: Id of the model that was asked.
        url: Address that was asked, without credentials.
        passages: Which passages of the call the failing request contained, where it was one of several.
        node_ids: The ids of their nodes, where `NVIDIARerank` was called.
        retry_after: Seconds that the service wants to be left alone, where that was too long for the call.

    Example:
        >>> print(RerankError("The service said no.", hint="Ask again."))
        The service said no.
          What to do: Ask again.
    """

    hint: str = "Read the message above. `NVIDIARerank.check()` looks at the service step by step."

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
        self.status, self.detail, self.request_id = status, detail, request_id
        self.model, self.url = model, url
        self.passages: Sequence[int] | None = None
        self.node_ids: list[str] = []
        self.retry_after: float | None = None

    @property
    def status_code(self) -> int | None:
        """The same as `status`."""
        return self.status

    def __str__(self) -> str:
        nodes = " to ".join(map(repr, self.node_ids[:1] + self.node_ids[1:][-1:]))
        facts = {"model": self.model, "address": self.url, "request id": self.request_id, "nodes": nodes}
        return f"{self.args[0]}{_list_facts(facts)}\n  What to do: {self.hint}"

    @property
    def summary(self) -> str:
        """What may go into a log: neither the server's message, which may repeat what it was sent, nor node ids."""
        facts = {"status": self.status, "request id": self.request_id, "model": self.model, "address": self.url}
        return f"{type(self).__name__}{_list_facts(facts)}. What to do: {self.hint}"

    def detach(self) -> Self:
        """Remove the traceback and the causes, whose frames contain texts."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def hide(self, key: str | None) -> None:
        """Remove the key from everything that the error can show."""
        ours, colon, theirs = self.args[0].partition(": ")
        self.args = (redact(ours, key) + colon + redact(theirs, key),)
        for name in ("hint", "detail", "request_id", "url"):
            value = getattr(self, name)
            setattr(self, name, redact(value, key) if value else value)


def _list_facts(facts: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    return f" ({listed})" if listed else ""


class ServiceUnreachable(RerankError):
    """No connection to the service could be made, or it broke."""

    hint = (
        "Is the service running, and is the address right? A NIM needs minutes to load its model: wait until "
        "GET /v1/health/ready answers 200. A local stand-in ends with the process that started it."
    )


class RerankTimeout(RerankError):
    """The service did not answer in time."""

    hint = "Raise `timeout` or `deadline`, make requests smaller with `max_batch_size`, or look at the service's load."


class InvalidAnswer(RerankError):
    """The service answered with something that is not a ranking of the passages that were sent."""

    hint = "Is this address a reranking service? A proxy in between, or another kind of model, answers like this."


class CacheError(RerankError):
    """A score cache cannot be opened, read or written."""

    hint = "Give another path, or delete the file if it was a score cache: the service gives the scores again."


class StatusError(RerankError):
    """The service answered with an error status."""


class Unauthorized(StatusError):
    """401: the key is missing, malformed or revoked."""

    hint = "Pass a valid key as api_key=; for NVIDIA's API catalog, set NVIDIA_API_KEY (made at build.nvidia.com)."


class PaymentRequired(StatusError):
    """402: the account has no credits left."""

    hint = "The account has used up its credits: see its page at build.nvidia.com, or run your own NIM."


class Forbidden(StatusError):
    """403: the key is well formed but may not call this."""

    hint = "Make the key at build.nvidia.com (an NGC key needs the permission 'Public API Endpoints')."


class NotFound(StatusError):
    """404: no such path or model, or the model is not enabled for this account."""

    hint = "Check the address (a NIM ranks at /v1/ranking, other services at /rerank) and the model's id."


class ModelRetired(StatusError):
    """410: the model has reached its end of life."""

    hint = "Choose a live model: leave `model` out to get the catalog's current one."


class TooManyPassages(StatusError):
    """More passages in one request, or more bytes, than the service takes."""

    hint = "Lower `max_batch_size`: a NIM takes at most 512 passages a request, Text Embeddings Inference 32."


class PassageTooLong(StatusError):
    """A query and passage together have more tokens than the model takes."""

    hint = 'Set `truncate="END"` to have long passages cut, or split them into smaller nodes.'


class RequestRefused(StatusError):
    """The service refused the request."""

    hint = "The server's message says what it did not like."


class RateLimited(StatusError):
    """429: too many requests in this minute, or a `RateLimit` that leaves no time."""

    hint = "Send fewer requests at once (lower `max_concurrency`), wait a minute, or run your own NIM."


class Overloaded(StatusError):
    """503: the service is still loading or its queue is full."""

    hint = "Wait until GET /v1/health/ready answers 200, or send fewer requests at once."


class ServerError(StatusError):
    """The service failed internally."""

    hint = "Try again. If the error stays, look into the service's own log."


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

# NIM, vLLM (three wordings over its versions), Text Embeddings Inference, LiteLLM, llama.cpp, Infinity.
_TOO_LONG = re.compile(
    r"exceeds maximum allowed token|exceeds maximum allowed|maximum context length is|context length is only"
    r"|longer than the maximum model length|must have less than \d+ tokens|ContextWindowExceeded"
    r"|is too large to process|exceed_context_size|string should have at most \d+ char",
    re.IGNORECASE,
)
# Text Embeddings Inference, Infinity, FastAPI.
_TOO_MANY = re.compile(r"allowed batch size|at most \d+ items|too many (?:documents|passages)", re.IGNORECASE)


def choose_error_class(status: int, message: str) -> type[StatusError]:
    """Choose the error for an answer by its status and by the server's message.

    NIM 1.0 to 1.9 answer 400 to a passage that is too long and later ones 422 (release notes of NIM 1.10), TEI 413
    and llama.cpp 500, so the message decides and not the status.
    """
    if status in (400, 413, 422, 500):
        if _TOO_MANY.search(message):
            return TooManyPassages
        if _TOO_LONG.search(message):
            return PassageTooLong
    return BY_STATUS.get(status, ServerError if status >= 500 else RequestRefused)


def make_status_error(
    status: int, body: bytes, *, model: str | None = None, url: str | None = None, request_id: str | None = None
) -> StatusError:
    """Turn an answer with a status of 300 or more into the exception to raise, which keeps the server's message."""
    detail = read_server_message(body)
    message = f"The reranking service answered {status}{f': {detail}' if detail else ' without a reason'}"
    kind = choose_error_class(status, detail)
    return kind(message, status=status, detail=detail or None, request_id=request_id, model=model, url=url)


def read_server_message(body: bytes) -> str:
    """Find the explanation in an error answer: one line of at most 500 characters, empty where there is none.

    NVIDIA's services put it under `detail`, `message`, `error` or `title`, or send plain text; FastAPI sends a list
    under `detail`, whose entries name the field in `loc`.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return excerpt(body)
    found = _explanation(answer) if isinstance(answer, dict) else None
    return printable(found) if found else excerpt(body)


def _explanation(answer: dict[str, Any]) -> str | None:
    for name in ("detail", "message", "error", "title"):
        value = answer.get(name)
        if isinstance(value, list):
            value = "; ".join(map(_entry, value))
        if isinstance(value, dict):
            value = _explanation(value)
        if isinstance(value, str) and value:
            return value
    return None


def _entry(entry: object) -> str:
    if not isinstance(entry, dict) or "msg" not in entry:
        return str(entry)
    place = entry.get("loc")
    return f"{'.'.join(map(str, place))}: {entry['msg']}" if isinstance(place, list) and place else str(entry["msg"])


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as text on one line, for an error message."""
    return printable(body[:800].decode("utf-8", errors="replace"), 200)
