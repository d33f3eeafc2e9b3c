"""The ranking protocol as pure functions: what is sent, what a right answer is, which order it gives."""

import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from pydantic_core import from_json

from .errors import InvalidAnswer, excerpt

Truncate = Literal["NONE", "END"]


LARGEST = sys.float_info.max  # JSON knows larger integers; NaN compares false with anything


class Passage(TypedDict, total=False):
    """One passage of a request: a text, an image as a data URL, or both."""

    text: str
    image: str


@dataclass(frozen=True)
class Dialect:
    """Where two protocols for the same thing differ.

    Attributes:
        payload: Builds the body of a request from model, query, passages and truncate.
        entries: Where an answer has its list.
        score: Where an entry of that list has its number.
    """

    payload: Callable[[str, str, Sequence[Passage], Truncate | None], dict[str, Any]]
    entries: str
    score: str


@dataclass(frozen=True)
class Answer:
    """A checked answer.

    Attributes:
        logits: One raw score a passage, in the order in which the passages were sent.
        tokens: Tokens that the service counted, 0 where it does not say.
    """

    logits: list[float]
    tokens: int = 0


@dataclass(frozen=True)
class Ranked:
    """What one call to `rank` brought.

    Attributes:
        logits: One raw score a passage, in the order in which the passages were given.
        tokens: Tokens that the service counted, 0 where it does not say.
        requests: Requests sent, retries not counted.
        retries: Requests that had to be sent again.
        seconds: Wall time of the call.
        cached: How many of the logits came from a score cache.
    """

    logits: list[float]
    tokens: int
    requests: int
    retries: int
    seconds: float
    cached: int = 0


@dataclass(frozen=True)
class Batch:
    """One request of a call.

    Attributes:
        passages: Which of the passages of the call it holds.
        payload: The body to send.
    """

    passages: range
    payload: dict[str, Any]


def ranking_payload(model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> dict[str, Any]:
    """Build the body of a request to a NIM.

    Args:
        model: Id of the model.
        query: The query, not empty.
        passages: The passages, at most 512 (NIM 2.0 documentation).
        truncate: `END` cuts what is too long, `NONE` makes it an error; None leaves the choice to the service,
            whose default depends on the model.

    Returns:
        The four documented fields and nothing else, since NIM 2 refuses any other.

    Example:
        >>> ranking_payload("m", "which way?", [{"text": "two roads"}], "END")["query"]
        {'text': 'which way?'}
    """
    payload = {"model": model, "query": {"text": query}, "passages": list(passages)}
    return payload | ({"truncate": truncate} if truncate else {})


def rerank_payload(
    model: str, query: str, passages: Sequence[Passage], _truncate: Truncate | None = None
) -> dict[str, Any]:
    """Build the body of a request to a `/rerank` route, as NVIDIA's inference gateway, vLLM and others have it.

    The dialect knows neither images nor `truncate`.

    Args:
        model: Id of the model.
        query: The query, not empty.
        passages: The passages, texts only.

    Returns:
        The body; `top_n` asks for every passage, because some services answer with the best few only.

    Raises:
        ValueError: A passage is an image.

    Example:
        >>> rerank_payload("m", "which way?", [{"text": "two roads"}])["documents"]
        ['two roads']
    """
    if any("image" in passage for passage in passages):
        raise ValueError("A /rerank address takes texts only: use the address of a NIM, which ends in /v1, for images.")
    texts = [passage["text"] for passage in passages]
    return {"model": model, "query": query, "documents": texts, "top_n": len(texts)}


DIALECTS = {
    "ranking": Dialect(ranking_payload, "rankings", "logit"),
    "rerank": Dialect(rerank_payload, "results", "relevance_score"),
}


def batches(
    model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None, size: int, dialect: Dialect
) -> list[Batch]:
    """Cut a call into requests.

    Args:
        model: Id of the model.
        query: The query, not empty.
        passages: Any number of passages.
        truncate: What happens to passages that are too long; see `ranking_payload`.
        size: Passages of one request at the most, at least 1.
        dialect: Which protocol the service speaks.

    Returns:
        The requests, in the order of the passages.

    Example:
        >>> three = [{"text": "a"}, {"text": "b"}, {"text": "c"}]
        >>> [batch.passages for batch in batches("m", "q", three, "END", 2, DIALECTS["ranking"])]
        [range(0, 2), range(2, 3)]
    """
    parts = [range(start, min(start + size, len(passages))) for start in range(0, len(passages), size)]
    return [Batch(part, dialect.payload(model, query, passages[part.start : part.stop], truncate)) for part in parts]


def joined(answered: Sequence[tuple[Answer, int]], seconds: float) -> Ranked:
    """Join the answers to consecutive batches, each with its number of retries.

    Example:
        >>> joined([(Answer([1.0], 7), 0), (Answer([2.0], 5), 1)], 0.2)
        Ranked(logits=[1.0, 2.0], tokens=12, requests=2, retries=1, seconds=0.2, cached=0)
    """
    return Ranked(
        logits=[logit for answer, _ in answered for logit in answer.logits],
        tokens=sum(answer.tokens for answer, _ in answered),
        requests=len(answered),
        retries=sum(retries for _, retries in answered),
        seconds=seconds,
    )


def parsed_answer(body: bytes, count: int, dialect: Dialect = DIALECTS["ranking"]) -> Answer:
    """Check an answer and bring it into the order of the passages.

    Args:
        body: What the service sent with status 200.
        count: How many passages the request had.
        dialect: Which protocol the service speaks.

    Returns:
        The logits in the order of the passages.

    Raises:
        InvalidAnswer: The body is not JSON, holds no rankings, or these are not one finite number for each passage.

    Example:
        >>> parsed_answer(b'{"rankings": [{"index": 1, "logit": 2.5}, {"index": 0, "logit": -1}]}', 2).logits
        [-1.0, 2.5]
    """
    answer = _loaded(body)
    rankings = answer.get(dialect.entries) if isinstance(answer, dict) else None
    if not isinstance(rankings, list):
        raise InvalidAnswer(f"The service answered 200 without a list of {dialect.entries}: {excerpt(body)}")
    try:
        by_index = {entry["index"]: entry[dialect.score] for entry in rankings}
    except (TypeError, KeyError):
        by_index = {}
    if len(rankings) != count or not _is_permutation(by_index, count) or not _are_finite(by_index.values()):
        raise InvalidAnswer(_what_is_wrong(rankings, count, dialect.score))
    return Answer([float(by_index[index]) for index in range(count)], _tokens(answer))


def _is_permutation(indices: Collection[Any], count: int) -> bool:
    return set(indices) == set(range(count)) and set(map(type, indices)) == {int}  # True and 1.0 equal 1


def _are_finite(numbers: Collection[Any]) -> bool:
    return set(map(type, numbers)) <= {int, float} and all(-LARGEST <= number <= LARGEST for number in numbers)


def _what_is_wrong(rankings: Sequence[Any], count: int, score: str) -> str:
    indices = [entry.get("index") if isinstance(entry, dict) else None for entry in rankings]
    for index, entry in zip(indices, rankings, strict=True):
        if type(index) is not int or not 0 <= index < count:
            return f"The service ranked a passage that was not sent: index {index!r:.40} of {count}."
        if not _are_finite([entry.get(score)]):
            return f"The service scored passage {index} with {entry.get(score)!r:.40}, which is not a finite number."
    return f"The service ranked {len(set(indices))} different passages in {len(indices)} entries; {count} were sent."


def _loaded(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        raise InvalidAnswer(f"The service answered 200 with a body that is not JSON: {excerpt(body)}") from None


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
        ids = [str(entry["id"]) for entry in from_json(body)["data"]]
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


def sigmoid(logit: float, scale: float = 1.0) -> float:
    """Map a logit to a number from 0 to 1; the order stays.

    Args:
        logit: A raw score.
        scale: What the logit is divided by first. NVIDIA's RAG blueprint divides by 10; a threshold for one scale
            means nothing for another.

    Returns:
        1 / (1 + exp(-logit / scale)). It is no calibrated probability: NVIDIA publishes no calibration.

    Example:
        >>> round(sigmoid(-1.24), 2), round(sigmoid(-1.24, scale=10), 2)
        (0.22, 0.47)
    """
    value = logit / scale
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    small = math.exp(value)  # exp of a large positive number would overflow
    return small / (1 + small)
