"""What the engine and the scorers exchange: jobs, scores and errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.nim_standin.profiles import MAX_TOKENS, Truncate

LARGEST_LOGIT = 65504.0
"""The largest number of float16."""

EXACT_UP_TO = 10
"""A text that is too long is counted up to this many times the limit."""


class InputTooLongError(ValueError):
    """A text, or a query with its passage, has more tokens than the model takes, and must not be cut."""

    def __init__(self, length: int, limit: int) -> None:
        most = EXACT_UP_TO * limit
        told = str(length) if length <= most else f"more than {most}"
        super().__init__(f"Input length {told} exceeds maximum allowed token size {limit}")
        self.length, self.limit = length, limit


class EmbeddingsUnavailableError(RuntimeError):
    """The scorer judges pairs and has no vectors of single texts."""


class ScoreError(RuntimeError):
    """The scorer returned NaN for a passage."""

    def __init__(self, passage: int) -> None:
        super().__init__(f"The scorer gave no number (NaN) for passage {passage}")
        self.passage = passage


@dataclass(frozen=True)
class Job:
    """A query and the passages to score.

    Attributes:
        max_tokens: Limit for the query with one passage, special tokens included.
        truncate: With "END" a longer pair is cut from the right; with "NONE" it is an error.
    """

    query: str
    passages: Sequence[str]
    max_tokens: int = MAX_TOKENS
    truncate: Truncate = "END"


@dataclass(frozen=True)
class Scores:
    """One entry per passage, in the order of the request.

    Attributes:
        raw: The scorer's own numbers, shape (passages,). logit = slope * raw + intercept.
        tokens: Tokens of the query with the passage after cutting, special tokens included.
    """

    raw: NDArray[np.float32]
    tokens: NDArray[np.int64]
    slope: float = 1
    intercept: float = 0

    @property
    def logits(self) -> NDArray[np.float32]:
        """The logits, rounded to float16 as a NIM's are. Numbers outside its range become its ends."""
        line = self.slope * self.raw + self.intercept
        return line.clip(-LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class ScoreResult:
    """The scores of a job, and the seconds it waited and took."""

    scores: Scores
    queue_seconds: float
    inference_seconds: float


class Scorer(Protocol):
    """Scores passages. The engine calls it from several threads.

    Attributes:
        threads: How many calls there may be at the same time.
        chunk_characters: About how many characters of text to pass in one call.
    """

    threads: int
    chunk_characters: int

    def score(self, job: Job) -> Scores:
        """Score the passages of a job, or raise an `InputTooLongError`."""
        ...

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Return the unit vectors of texts, shape (texts, dimensions), and the number of all tokens.

        Raises:
            EmbeddingsUnavailableError: This scorer has no vectors.
            InputTooLongError: A text is longer than `max_tokens`.
        """
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
