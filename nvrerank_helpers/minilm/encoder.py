"""Turns texts into unit vectors with all-MiniLM-L6-v2 and remembers the vectors.

Every text is encoded alone, never in a padded batch. On a CPU that is faster, and the vectors of a text are bit for bit
the same whatever else is encoded at the time.
"""

from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Self

import ctranslate2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nvrerank_helpers.minilm.kept_vectors import KeptVectors, open_kept_vectors
from nvrerank_helpers.minilm.tokenizer import Tokens, read_tokens
from nvrerank_helpers.minilm.weights import (
    build_encoder,
    count_cores,
    describe_computation,
    find_weights,
    list_vocabulary,
    load_tokenizer,
)

WINDOW = 254
"""Tokens per window. The model was trained on 256 tokens, two of which are the special tokens."""

DIMENSIONS = 384

Key = tuple[bytes, int | None]
"""Hash of a text, and the number of tokens it is cut to; None if it is whole."""


@dataclass(frozen=True)
class UnencodedText:
    """The tokens of a text that has no vectors yet."""

    key: Key
    tokens: Tokens


@dataclass(frozen=True)
class EncodedText:
    """The unit vectors of a text.

    Attributes:
        tokens: The tokens that were encoded.
        vectors: Shape (windows + tokens, 384). First the mean vector of each window, then a vector per token.
    """

    tokens: Tokens
    vectors: NDArray[np.float16]

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.vectors) - len(self.tokens.ids)

    @property
    def mean(self) -> NDArray[np.float32]:
        """The unit vector of the whole text, shape (384,)."""
        mean: NDArray[np.float32] = self.vectors[: self.windows].astype(np.float32).mean(axis=0)
        return mean / np.linalg.norm(mean)


class TextEncoder:
    """Tokenizes, encodes and remembers texts. Several threads may use it at once.

    Args:
        tokenizer: A BERT tokenizer without padding and truncation.
        encoder: Gives one vector per token.
        cache_mb: Memory for the vectors of known texts, in MiB.
        kept: Vectors kept between runs, if any.

    Example:
        >>> encoder = TextEncoder.load(threads=1)
        >>> encoder.encode(encoder.find("Return a sorted list.", most=512)).vectors.shape  # 1 window and 5 tokens
        (6, 384)
    """

    def __init__(
        self, tokenizer: Tokenizer, encoder: ctranslate2.Encoder, cache_mb: int, kept: KeptVectors | None = None
    ) -> None:
        self.vocabulary = list_vocabulary(tokenizer)
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._cls, self._sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        self._cache: LRUCache[Key, EncodedText] = LRUCache(cache_mb * 2**20, getsizeof=_count_bytes)
        self._lock = Lock()
        self._kept = kept

    @classmethod
    def load(cls, threads: int | None = None, cache_mb: int = 256, *, keep: bool = False) -> Self:
        """Load the installed weights.

        Args:
            threads: How many threads may encode at the same time, each on one core; None for one per core.
            cache_mb: Memory for the vectors of known texts, in MiB.
            keep: Whether to keep vectors between runs in the user's cache folder.

        Returns:
            An encoder that is ready.

        Raises:
            WeightsError: The weights are not installed, or are not the official ones.
        """
        folder = find_weights()
        tokenizer = load_tokenizer(folder)
        encoder = build_encoder(folder, list_vocabulary(tokenizer), threads or count_cores())
        return cls(tokenizer, encoder, cache_mb, open_kept_vectors(describe_computation()) if keep else None)

    def find(self, text: str, most: int) -> UnencodedText | EncodedText:
        """Look a text up in the cache, or tokenize it.

        Args:
            text: The text.
            most: Most tokens, without special tokens. A longer text is cut from the right.

        Returns:
            What `encode` takes. Its `tokens` say whether the text is whole.
        """
        digest = blake2b(text.encode(), digest_size=16).digest()
        known = self._recall((digest, None))
        if known is None or len(known.tokens.ids) > most:
            known = self._recall((digest, most))
        if known is not None:
            return known
        tokens = read_tokens(self._tokenizer, text, most)
        return UnencodedText((digest, None if tokens.whole else most), tokens)

    def count(self, text: str, most: int) -> int:
        """Return the number of a text's tokens, or `most` + 1 if it has more."""
        tokens = read_tokens(self._tokenizer, text, most)
        return len(tokens.ids) if tokens.whole else most + 1

    def encode(self, text: UnencodedText | EncodedText) -> EncodedText:
        """Return the vectors of a text that was found."""
        if isinstance(text, EncodedText):
            return text
        known = self._recall(text.key)  # another thread, or the same passage a second time
        if known is None:
            known = EncodedText(text.tokens, self._load_or_compute(text.tokens.ids))
            with self._lock, suppress(ValueError):  # larger than the whole cache
                self._cache[text.key] = known
        return known

    def close(self) -> None:
        """Finish writing the vectors that are kept between runs."""
        if self._kept:
            self._kept.close()

    def _recall(self, key: Key) -> EncodedText | None:
        with self._lock:
            return self._cache.get(key)

    def _load_or_compute(self, ids: NDArray[np.int32]) -> NDArray[np.float16]:
        if self._kept is None:
            return self._compute(ids)
        key = ids.tobytes()  # the same tokens have the same vectors
        if value := self._kept.get(key):
            return np.frombuffer(value, dtype=np.float16).reshape(-1, DIMENSIONS)
        vectors = self._compute(ids)
        self._kept.put(key, vectors.tobytes())
        return vectors

    def _compute(self, ids: NDArray[np.int32]) -> NDArray[np.float16]:
        """Run the network over windows of about equal length."""
        windows = max(1, -(-len(ids) // WINDOW))
        states = [self._run_network(part.tolist()) for part in np.array_split(ids, windows)]
        means = [state.mean(axis=0, keepdims=True) for state in states]
        rows = np.concatenate([*means, *(state[1:-1] for state in states)])
        vectors: NDArray[np.float16] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        return vectors

    def _run_network(self, ids: list[int]) -> NDArray[np.float32]:
        output = self._encoder.forward_batch([[self._cls, *ids, self._sep]])
        state: NDArray[np.float32] = np.array(output.last_hidden_state)[0]
        return state


def _count_bytes(text: EncodedText) -> int:
    return text.vectors.nbytes + text.tokens.ids.nbytes
