"""The relevance model of the stand-in: late interaction over all-MiniLM-L6-v2.

The raw score of a passage is the cosine of the mean vectors of query and passage, plus the weighted mean over
the query's tokens of each one's best cosine with a token of the passage (MaxSim: Khattab and Zaharia, ColBERT,
SIGIR 2020). A line maps it to a logit. Every text is encoded alone, never in a padded batch, so the score of a
passage is bit for bit the same whatever else the request holds.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nvrerank_helpers.nim_standin.behaviour import MAX_TOKENS, Truncate
from nvrerank_helpers.nim_standin.cache import ByteCache
from nvrerank_helpers.nim_standin.weights import load_encoder, load_tokenizer, weights_folder

LOGIT_SLOPE, LOGIT_INTERCEPT = 5.9, -8.4
"""logit = slope * raw + intercept: logistic regression on the development questions (`tools/questions.py fit`)."""

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

WINDOW = 254
"""Content tokens per window: the model was trained on 256 tokens, two of them the special tokens."""

PAIR_SPECIALS = 3
"""Special tokens of a pair: [CLS] query [SEP] passage [SEP]."""


class InputTooLongError(ValueError):
    """A query with its passage has more tokens than the model takes, and the request forbids cutting it."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"Input length {length} exceeds maximum allowed token size {limit}")
        self.length, self.limit = length, limit


@dataclass(frozen=True)
class Scores:
    """One entry per passage, in the order of the request."""

    raw: NDArray[np.float32]
    """Sum of the two cosines, from about 0 to 2, before the line."""
    tokens: NDArray[np.int64]
    """Tokens of the query with the passage, specials included, after cutting."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """Raw scores through the line, rounded to float16 as a NIM's are."""
        line = LOGIT_SLOPE * self.raw + LOGIT_INTERCEPT
        return line.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Encoded:
    """The unit vectors of one text."""

    vectors: NDArray[np.float16]
    """Shape (windows + tokens, 384): the mean vector of each window, then a vector for each token."""
    windows: int
    length: int
    """Tokens of the whole text, before cutting."""

    @property
    def tokens(self) -> int:
        """Tokens that were encoded."""
        return len(self.vectors) - self.windows

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.vectors.nbytes


@dataclass(frozen=True)
class Pending:
    """A text that still has to go through the encoder."""

    key: tuple[bytes, int | None]
    ids: list[int]
    length: int


class RelevanceModel:
    """Scores passages against a query, each one on its own.

    Example:
        >>> model = RelevanceModel.load()
        >>> scores = model.score("how to sort a list", ["Return a new sorted list.", "Open a file."])
        >>> bool(scores.logits[0] > scores.logits[1])
        True
    """

    def __init__(self, tokenizer: Tokenizer, encoder: ctranslate2.Encoder, threads: int, cache_mb: int) -> None:
        vocabulary = _vocabulary(tokenizer)
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._token_weights = np.array([_token_weight(token) for token in vocabulary], dtype=np.float32)
        self._cls, self._sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        self.cache: ByteCache[Encoded] = ByteCache(cache_mb * 2**20)

    @classmethod
    def load(cls, threads: int | None = None, cache_mb: int = 256) -> Self:
        """Load the model from the installed weights; about a third of a second.

        Args:
            threads: Texts encoded at the same time, each on one core; all cores if None.
            cache_mb: Memory for the vectors of texts seen before, in MiB.

        Returns:
            A model ready to score.

        Raises:
            WeightsError: The weights are not installed, or are not the official ones.
        """
        threads = threads or os.cpu_count() or 1
        folder = weights_folder()
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, load_encoder(folder, _vocabulary(tokenizer), threads), threads, cache_mb)

    def score(
        self, query: str, passages: Sequence[str], *, max_tokens: int = MAX_TOKENS, truncate: Truncate = "END"
    ) -> Scores:
        """Score every passage against the query.

        Args:
            query: The question.
            passages: The texts to judge.
            max_tokens: Limit for a query with one passage, special tokens included.
            truncate: With "END" an over-long pair is cut from the right; with "NONE" it is an error.

        Returns:
            Raw scores, logits and token counts, in the order of `passages`.

        Raises:
            InputTooLongError: A pair is longer than `max_tokens` and `truncate` is "NONE"; nothing was scored.
        """
        query_ids = self._tokenize(query)
        asked = query_ids[: max_tokens - PAIR_SPECIALS]
        room = max_tokens - PAIR_SPECIALS - len(asked)
        found = self._find(passages, room)
        if truncate == "NONE":
            for passage in found.values():
                length = len(query_ids) + passage.length + PAIR_SPECIALS
                if length > max_tokens:
                    raise InputTooLongError(length, max_tokens)
        question = self._encoded(self._find([query], len(asked))[query])
        weights = self._token_weights[asked]
        raw: dict[str, float] = {}
        tokens: dict[str, int] = {}
        for text, encoded in zip(found, self._pool.map(self._encoded, found.values()), strict=True):
            raw[text] = _raw_score(question, weights, encoded)
            tokens[text] = len(asked) + encoded.tokens + PAIR_SPECIALS
        return Scores(
            np.array([raw[text] for text in passages], dtype=np.float32),
            np.array([tokens[text] for text in passages], dtype=np.int64),
        )

    def close(self) -> None:
        """Give up the texts that wait to be encoded; a `score` that runs then raises `CancelledError`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _tokenize(self, text: str) -> list[int]:
        # Of the tokenizer's methods, this one lets other threads run meanwhile: health stays responsive.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def _find(self, texts: Sequence[str], room: int) -> dict[str, Encoded | Pending]:
        """Look every text up in the cache, each once; word-piece the rest and cut them to `room` tokens."""
        found: dict[str, Encoded | Pending] = {}
        for text in dict.fromkeys(texts):
            digest = blake2b(text.encode(), digest_size=16).digest()
            known = self.cache.get((digest, None))
            if known is None or known.length > room:
                known = self.cache.get((digest, room))
            if known is None:
                ids = self._tokenize(text)
                key = (digest, None if len(ids) <= room else room)
                found[text] = Pending(key, ids[:room], len(ids))
            else:
                found[text] = known
        return found

    def _encoded(self, text: Encoded | Pending) -> Encoded:
        if isinstance(text, Encoded):
            return text
        encoded = Encoded(*self._encode(text.ids), text.length)
        self.cache.put(text.key, encoded)
        return encoded

    def _encode(self, ids: list[int]) -> tuple[NDArray[np.float16], int]:
        """Encode a text alone, in windows of about equal length that the model was trained for."""
        windows = max(1, -(-len(ids) // WINDOW))
        states = [self._forward(part.tolist()) for part in np.array_split(np.array(ids, dtype=np.int32), windows)]
        means = [state.mean(axis=0, keepdims=True) for state in states]
        rows = np.concatenate([*means, *(state[1:-1] for state in states)])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16), windows

    def _forward(self, ids: list[int]) -> NDArray[np.float32]:
        output = self._encoder.forward_batch([[self._cls, *ids, self._sep]])
        state: NDArray[np.float32] = np.array(output.last_hidden_state)[0]
        return state


def _raw_score(question: Encoded, weights: NDArray[np.float32], passage: Encoded) -> float:
    """Cosine of the mean vectors (the best pair of windows) plus weighted MaxSim over the query's tokens."""
    cosines = passage.vectors.astype(np.float32) @ question.vectors.astype(np.float32).T
    whole = cosines[: passage.windows, : question.windows].max()
    if not question.tokens or not passage.tokens:
        return float(whole)
    best = cosines[passage.windows :, question.windows :].max(axis=0)
    return float(whole + np.average(best, weights=weights))


def _token_weight(token: str) -> float:
    is_content = any(map(str.isalnum, token)) and token not in FUNCTION_WORDS
    return 1.0 if is_content else FUNCTION_WORD_WEIGHT


def _vocabulary(tokenizer: Tokenizer) -> list[str]:
    return [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
