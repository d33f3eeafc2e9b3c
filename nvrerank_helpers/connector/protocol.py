"""The ranking protocol as pure functions: what is sent, what a right answer is, which order it gives."""

import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from pydantic_core import from_json

from .errors import InvalidAnswer, excerpt

Truncate = Literal["NONE", "END"]
MAX_FLOAT = sys.float_info.max  # JSON knows larger integers; NaN compares false with anything
MAX_TOKENS = 2**53  # a count beyond it is not a count


class Passage(TypedDict, total=False):
    """One passage of a request: a text, an image as a data URL, or both."""

    text: str
    image: str


@dataclass(frozen=True)
class Dialect:
    """Where two protocols for the same thing differ."""

    name: str
    payload: Callable[[str, str, Sequence[Passage], Truncate | None], dict[str, Any]]  # the body of a request
    entries: str | None  # where an answer has its list; None: the answer is the list
    score: str  # where an entry of that list has its number
    logits: bool | None = None  # None: some services send logits, others probabilities
    max_passages: int | None = None  # of one request, where the service hasn't said


@dataclass(frozen=True)
class BatchScores:
    """The checked answer to one request: one raw score for each passage, in the order in which they were sent."""

    logits: list[float]
    tokens: int = 0


@dataclass(frozen=True)
class RankResult:
    """The result of a call, and what it cost.

    Attributes:
        logits: One raw score for each passage, in the order in which the passages were given.
        tokens: Tokens that the service counted, 0 if it doesn't say.
        requests: Requests sent, retries not counted.
        retries: Requests that had to be sent again.
        seconds: Wall time of the call.
        cached: How many of the logits came from a score cache.
        probabilities: Whether the scores are from 0 to 1 already, as some `/rerank` services send them.
    """

    logits: list[float]
    tokens: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    cached: int = 0
    probabilities: bool = False


def build_nim_payload(model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> dict[str, Any]:
    """Build the body of a request to a NIM: the four documented fields and nothing else, since NIM 2 refuses any other.

    Without `truncate` the service chooses, and its default depends on the model.
    """
    payload = {"model": model, "query": {"text": query}, "passages": list(passages)}
    return payload | ({"truncate": truncate} if truncate else {})


NIM = Dialect("NIM", build_nim_payload, "rankings", "logit", logits=True)


def split(count: int, size: int) -> list[range]:
    """Divide `count` passages into batches of at most `size`, in order."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def join_answers(answers: Sequence[tuple[BatchScores, int]]) -> RankResult:
    """Join the answers to consecutive batches, each with its number of retries."""
    return RankResult(
        logits=[logit for answer, _ in answers for logit in answer.logits],
        tokens=sum(answer.tokens for answer, _ in answers),
        requests=len(answers),
        retries=sum(retries for _, retries in answers),
    )


def parse_answer(body: bytes, count: int, dialect: Dialect = NIM) -> BatchScores:
    """Check the answer to a request of `count` passages and bring it into their order.

    Raises:
        InvalidAnswer: The body is not JSON, contains no rankings, or these are not one finite number for each passage.
    """
    answer = _load(body)
    rankings = answer if dialect.entries is None else answer.get(dialect.entries) if isinstance(answer, dict) else None
    if not isinstance(rankings, list):
        raise InvalidAnswer(f"The service answered 200 without a list of {dialect.entries or 'ranks'}: {excerpt(body)}")
    try:
        by_index = {entry["index"]: entry[dialect.score] for entry in rankings}
    except (TypeError, KeyError):
        by_index = {}
    if len(rankings) != count or not _is_permutation(by_index, count) or not _are_finite(by_index.values()):
        raise InvalidAnswer(_what_is_wrong(rankings, count, dialect.score))
    return BatchScores([float(by_index[index]) for index in range(count)], _count_tokens(answer))


def _is_permutation(indices: Collection[Any], count: int) -> bool:
    return set(indices) == set(range(count)) and set(map(type, indices)) <= {int}  # True and 1.0 equal 1


def _are_finite(numbers: Collection[Any]) -> bool:
    return set(map(type, numbers)) <= {int, float} and all(-MAX_FLOAT <= number <= MAX_FLOAT for number in numbers)


def _what_is_wrong(rankings: Sequence[Any], count: int, score: str) -> str:
    indices = [entry.get("index") if isinstance(entry, dict) else None for entry in rankings]
    for index, entry in zip(indices, rankings, strict=True):
        if type(index) is not int or not 0 <= index < count:
            return f"The service ranked a passage that was not sent: index {index!r:.40} of {count}."
        if not _are_finite([entry.get(score)]):
            return f"The service scored passage {index} with {entry.get(score)!r:.40}, which is not a finite number."
    return f"The service ranked {len(set(indices))} different passages in {len(indices)} entries; {count} were sent."


def _load(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        raise InvalidAnswer(f"The service answered 200 with a body that is not JSON: {excerpt(body)}") from None


def _count_tokens(answer: Any) -> int:
    # `usage` is in every sample since NIM 1.11 but nowhere promised.
    usage = answer.get("usage") if isinstance(answer, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and 0 <= tokens <= MAX_TOKENS else 0


def argsort_descending(logits: Sequence[float]) -> list[int]:
    """Return the positions from the highest logit to the lowest, ties in input order."""
    return sorted(range(len(logits)), key=lambda position: -logits[position])


def sigmoid(logit: float, scale: float = 1.0) -> float:
    """Map a logit to a number from 0 to 1: 1 / (1 + exp(-logit / scale)). The order stays.

    NVIDIA's RAG blueprint takes a scale of 10; a threshold for one scale means nothing for another. The result isn't a
    calibrated probability: NVIDIA publishes no calibration.

    Example:
        >>> round(sigmoid(-1.24), 2), round(sigmoid(-1.24, scale=10), 2)
        (0.22, 0.47)
    """
    value = logit / scale
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    small = math.exp(value)  # exp of a large positive number would overflow
    return small / (1 + small)


def to_scores(ranked: RankResult, transform: Literal["sigmoid"] | None, scale: float) -> list[float]:
    """Return the scores that callers see; probabilities stay what they are, unless another scale is asked for."""
    if transform is None or (ranked.probabilities and scale == 1):
        return ranked.logits
    if not ranked.probabilities:
        return [sigmoid(logit, scale) for logit in ranked.logits]
    return [p if p in (0, 1) else sigmoid(math.log(p / (1 - p)), scale) for p in ranked.logits]
