"""The ranking protocol as pure functions: what is sent, what a right answer is, which order it gives."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from nvrerank_helpers.errors import InvalidAnswer, StatusError, status_error_class

Truncate = Literal["NONE", "END"]


class Passage(TypedDict):
    """One passage of a request."""

    text: str


class Payload(TypedDict):
    """The body of a ranking request: the four documented fields and nothing else, since NIM 2 refuses any other."""

    model: str
    query: Passage
    passages: list[Passage]
    truncate: NotRequired[Truncate]


@dataclass(frozen=True)
class Answer:
    """A checked answer.

    Attributes:
        logits: One raw score a passage, in the order in which the passages were sent.
        tokens: Tokens that the service counted, 0 where it does not say.
    """

    logits: list[float]
    tokens: int = 0


def ranking_payload(model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> Payload:
    """Build the body of a ranking request.

    Args:
        model: Id of the model.
        query: The query, not empty.
        passages: The passages, at most 512 (NIM 2.0 documentation).
        truncate: `END` cuts what is too long, `NONE` makes it an error; None leaves the choice to the service,
            whose default depends on the model.

    Returns:
        The body.

    Example:
        >>> ranking_payload("m", "which way?", [{"text": "two roads"}], "END")["query"]
        {'text': 'which way?'}
    """
    payload: Payload = {"model": model, "query": {"text": query}, "passages": list(passages)}
    if truncate:
        payload["truncate"] = truncate
    return payload


def parsed_answer(body: bytes, count: int) -> Answer:
    """Check an answer and bring it into the order of the passages.

    Args:
        body: What the service sent with status 200.
        count: How many passages the request had.

    Returns:
        The logits in the order of the passages.

    Raises:
        InvalidAnswer: The body is not JSON, holds no rankings, or these are not one finite number for each passage.

    Example:
        >>> parsed_answer(b'{"rankings": [{"index": 1, "logit": 2.5}, {"index": 0, "logit": -1}]}', 2).logits
        [-1.0, 2.5]
    """
    try:
        answer = json.loads(body)
    except ValueError:
        raise InvalidAnswer(f"The service answered 200 with a body that is not JSON: {excerpt(body)}") from None
    rankings = answer.get("rankings") if isinstance(answer, dict) else None
    if not isinstance(rankings, list):
        raise InvalidAnswer(f"The service answered 200 without a list of rankings: {excerpt(body)}")
    by_index = dict(_checked(ranking, count) for ranking in rankings)
    if len(rankings) != count or len(by_index) != count:
        raise InvalidAnswer(
            f"The service ranked {len(by_index)} different passages in {len(rankings)} entries; {count} were sent."
        )
    return Answer([by_index[index] for index in range(count)], _tokens(answer))


def _checked(ranking: object, count: int) -> tuple[int, float]:
    entry = ranking if isinstance(ranking, dict) else {}
    index, logit = entry.get("index"), entry.get("logit")
    if type(index) is not int or not 0 <= index < count:
        raise InvalidAnswer(f"The service ranked a passage that was not sent: index {index!r} of {count}.")
    if isinstance(logit, bool) or not isinstance(logit, int | float) or not math.isfinite(logit):
        raise InvalidAnswer(f"The service scored passage {index} with {logit!r}, which is not a finite number.")
    return index, float(logit)


def _tokens(answer: dict[str, Any]) -> int:
    # `usage` is in every sample since NIM 1.11 but nowhere promised.
    usage = answer.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int else 0


def parsed_model_ids(body: bytes) -> list[str]:
    """Read the ids from the answer of `GET /v1/models`.

    Raises:
        InvalidAnswer: The body is not a list of models, or the list is empty.

    Example:
        >>> parsed_model_ids(b'{"object": "list", "data": [{"id": "my-model"}]}')
        ['my-model']
    """
    try:
        answer = json.loads(body)
        ids = [str(entry["id"]) for entry in answer["data"]]
    except (ValueError, TypeError, KeyError):
        raise InvalidAnswer(f"The service's list of models cannot be read: {excerpt(body)}") from None
    if not ids:
        raise InvalidAnswer("The service serves no model.", hint="Name the model with `model`, or restart the service.")
    return ids


def descending(logits: Sequence[float]) -> list[int]:
    """Return the positions from the highest logit to the lowest, ties in input order.

    Example:
        >>> descending([0.5, 2.0, 0.5])
        [1, 0, 2]
    """
    return sorted(range(len(logits)), key=lambda position: -logits[position])


def status_error(status: int, body: bytes, *, model: str, url: str, request_id: str | None = None) -> StatusError:
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
    except ValueError:
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
