"""What the engine and the scorers say to each other: jobs in, scores out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.minilm import UnfinishedError
from nvrerank_helpers.nim_standin.profiles import MAX_TOKENS, Truncate

LARGEST_LOGIT = 65504.0
"""The largest number of float16."""


class InputTooLongError(ValueError):
    """A text, or a query with its passage, has more tokens than the model takes, and cutting it is forbidden."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"Input length {length} exceeds maximum allowed token size {limit}")
        self.length, self.limit = length, limit


class EmbeddingsUnavailableError(RuntimeError):
    """The scorer judges pairs and has no vectors of single texts."""


class ScoreError(RuntimeError):
    """The scorer gave a passage a score that is no number."""

    def __init__(self, passage: int) -> None:
        super().__init__(f"The scorer gave no number (NaN) for passage {passage}")
        self.passage = passage


@dataclass(frozen=True)
class Job:
    """A query and the texts to judge.

    Attributes:
        query: The question.
        passages: The texts.
        max_tokens: Limit of the query with one passage, special tokens included.
        truncate: With "END" an over-long pair is cut from the right; with "NONE" it is an error.
    """

    query: str
    passages: Sequence[str]
    max_tokens: int = MAX_TOKENS
    truncate: Truncate = "END"


@dataclass(frozen=True)
class Scores:
    """One entry per passage, in the order of the request.

    Attributes:
        raw: What the scorer gives, shape (passages,).
        tokens: Tokens of the query with the passage, specials included, after cutting.
        slope: Of the line from raw score to logit.
        intercept: Of the same line.

    Example:
        >>> Scores(np.array([2.0001], dtype=np.float32), np.array([9]), intercept=-1).logits.tolist()
        [1.0]
    """

    raw: NDArray[np.float32]
    tokens: NDArray[np.int64]
    slope: float = 1
    intercept: float = 0

    @property
    def logits(self) -> NDArray[np.float32]:
        """Raw scores through the line, rounded to float16 as a NIM's are; what is beyond its range becomes its end."""
        line = self.slope * self.raw + self.intercept
        return line.clip(-LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float16).astype(np.float32)


Result = Scores | InputTooLongError | UnfinishedError
"""What becomes of a job in one round."""


class Scorer(Protocol):
    """Judges passages; the engine calls it from one thread."""

    def score_jobs(self, jobs: Sequence[Job], gone: Callable[[int], bool]) -> Iterator[tuple[int, Result]]:
        """Score several jobs together.

        Args:
            jobs: What to judge.
            gone: Whether nobody waits for the job at this position any more; safe to call from any thread.

        Yields:
            The position of a job and its result, as soon as that job is complete. Jobs that are gone are left out; one
            whose result is an `UnfinishedError` is asked again in a later round.
        """
        ...

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Turn texts into unit vectors.

        Args:
            texts: What to embed.
            max_tokens: Limit of one text, special tokens included.

        Returns:
            The vectors, shape (texts, dimensions), and the number of all tokens.

        Raises:
            EmbeddingsUnavailableError: This scorer has no vectors.
            InputTooLongError: A text is longer than `max_tokens`.
            UnfinishedError: A text is so long that this takes several rounds.
        """
        ...

    def close(self) -> None:
        """Give up what it holds."""
        ...
