"""The stand-in's relevance model: late interaction over all-MiniLM-L6-v2.

The raw score of a passage is the cosine of the mean vectors of query and passage, plus the weighted mean over
the query's tokens of each one's best cosine with a token of the passage (MaxSim: Khattab and Zaharia, ColBERT,
SIGIR 2020). A line maps it to a logit. The score of a passage is bit for bit the same whatever else is scored.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.minilm import EncodedText, TextEncoder, count_cores
from nvrerank_helpers.nim_standin.scoring.jobs import EXACT_UP_TO, InputTooLongError, Job, Scores

LOGIT_SLOPE, LOGIT_INTERCEPT = 5.9, -8.7
"""logit = slope * raw + intercept, fitted on the development questions by `tools.notebook_tool.questions fit`."""

FUNCTION_WORD_WEIGHT = 0.2
"""Weight of a function word or a punctuation mark among the query's tokens; every other token weighs 1."""

FUNCTION_WORDS = frozenset(
    " ".join(
        (
            "a about am an and any are as at be been being but by can could did do does doing for from had has have",
            "having he her here his how i if in into is it its me my no nor not of on or our please she should so some",
            "such than that the their them then there these they this those to us was we were what when where which",
            "while who whom whose why will with would you your",
        )
    ).split()
)

PAIR_SPECIALS = 3
"""Special tokens of a pair: [CLS] query [SEP] passage [SEP]."""

TEXT_SPECIALS = 2
"""Special tokens of a single text: [CLS] text [SEP]."""


class RelevanceModel:
    """Scores each passage on its own against a query. Several threads may use it at once.

    Example:
        >>> from nvrerank_helpers.nim_standin import Job, RelevanceModel
        >>> model = RelevanceModel.load(threads=1)
        >>> scores = model.score(Job("how to sort a list", ["Return a new sorted list.", "Open a file."]))
        >>> bool(scores.logits[0] > scores.logits[1])
        True
    """

    chunk_characters = 1_000
    """About 20 ms of work, so that the threads finish a request at nearly the same time."""

    def __init__(self, encoder: TextEncoder, threads: int) -> None:
        self.threads = threads
        self._encoder = encoder
        self._token_weights = np.array([_weigh_token(token) for token in encoder.vocabulary], dtype=np.float32)

    @classmethod
    def load(cls, threads: int | None = None, cache_mb: int = 256, *, keep: bool = False) -> Self:
        """Load the model from the installed weights, which takes about a third of a second.

        Args:
            threads: How many threads may score at the same time, each on one core; None for one per core.
            cache_mb: Memory for the vectors of known texts, in MiB.
            keep: Whether to keep vectors between runs in the user's cache folder.

        Returns:
            A model that is ready to score.

        Raises:
            WeightsError: The weights are not installed, or are not the official ones.
        """
        threads = threads or count_cores()
        return cls(TextEncoder.load(threads, cache_mb, keep=keep), threads)

    def score(self, job: Job) -> Scores:
        """Score every passage of a job.

        Raises:
            InputTooLongError: A pair is longer than the job allows and must not be cut. Nothing was scored.
        """
        found_query = self._encoder.find(job.query, job.max_tokens - PAIR_SPECIALS)
        room = job.max_tokens - PAIR_SPECIALS - len(found_query.tokens.ids)
        found = [self._encoder.find(text, room) for text in job.passages]
        if job.truncate == "NONE":
            for text, passage in zip(job.passages, found, strict=True):
                if not (found_query.tokens.whole and passage.tokens.whole):
                    raise self._build_error((job.query, text), PAIR_SPECIALS, job.max_tokens)
        passages = [self._encoder.encode(passage) for passage in found]
        query = self._encoder.encode(found_query)  # last: another thread may have encoded it meanwhile
        asked, weights = query.vectors.astype(np.float32).T, self._token_weights[query.tokens.ids]
        return Scores(
            np.array([_score_passage(query, asked, weights, passage) for passage in passages], dtype=np.float32),
            np.array([_count_pair(query, passage) for passage in passages], dtype=np.int64),
            LOGIT_SLOPE,
            LOGIT_INTERCEPT,
        )

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Return the unit vectors of texts, shape (texts, 384), and the number of all tokens with special tokens."""
        found = [self._encoder.find(text, max_tokens - TEXT_SPECIALS) for text in texts]
        for text, known in zip(texts, found, strict=True):
            if not known.tokens.whole:
                raise self._build_error((text,), TEXT_SPECIALS, max_tokens)
        encoded = [self._encoder.encode(text) for text in found]
        tokens = sum(len(text.tokens.ids) + TEXT_SPECIALS for text in encoded)
        return np.array([text.mean for text in encoded], dtype=np.float32), tokens

    def close(self) -> None:
        """Finish writing the vectors that are kept between runs."""
        self._encoder.close()

    def _build_error(self, texts: Sequence[str], specials: int, limit: int) -> InputTooLongError:
        most = EXACT_UP_TO * limit
        return InputTooLongError(sum(self._encoder.count(text, most) for text in texts) + specials, limit)


def _count_pair(query: EncodedText, passage: EncodedText) -> int:
    return len(query.tokens.ids) + len(passage.tokens.ids) + PAIR_SPECIALS


def _score_passage(
    query: EncodedText, asked: NDArray[np.float32], weights: NDArray[np.float32], passage: EncodedText
) -> float:
    """Cosine of the mean vectors (the best pair of windows) plus weighted MaxSim over the query's tokens."""
    cosines = passage.vectors.astype(np.float32) @ asked
    whole = cosines[: passage.windows, : query.windows].max()
    if not len(query.tokens.ids) or not len(passage.tokens.ids):
        return float(whole)
    best = cosines[passage.windows :, query.windows :].max(axis=0)
    return float(whole + (best * weights).sum() / weights.sum())


def _weigh_token(token: str) -> float:
    is_content = any(map(str.isalnum, token)) and token not in FUNCTION_WORDS
    return 1.0 if is_content else FUNCTION_WORD_WEIGHT
