"""Texts to unit vectors: all-MiniLM-L6-v2 over windows of a text, with a cache of texts seen before.

Every text is encoded alone, never in a padded batch: that is faster on a CPU, and its vectors are bit for bit the
same whatever else is encoded at the time. Threads share the cores out by text.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nvrerank_helpers.minilm.cores import available_cores
from nvrerank_helpers.minilm.lru import ByteCache
from nvrerank_helpers.minilm.tokenizer import WordPieces
from nvrerank_helpers.minilm.weights import load_encoder, load_tokenizer, weights_folder

WINDOW = 254
"""Content tokens per window: the model was trained on 256 tokens, two of them the special tokens."""

Key = tuple[bytes, int | None]
"""Hash of a text, and the number of tokens it was cut to; None if it is whole."""


@dataclass(frozen=True)
class Encoded:
    """The unit vectors of one text.

    Attributes:
        vectors: Shape (windows + tokens, 384): the mean vector of each window, then a vector for each token.
        ids: The tokens that were encoded, specials apart.
        windows: How many there are.
        whole: Whether the text has no more tokens than these.
    """

    vectors: NDArray[np.float16]
    ids: NDArray[np.int32]
    windows: int
    whole: bool

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.vectors.nbytes + self.ids.nbytes


@dataclass(frozen=True)
class Pending:
    """A text that still has to go through the encoder; `ids` and `whole` as in `Encoded`."""

    key: Key
    ids: NDArray[np.int32]
    whole: bool


class TextEncoder:
    """Tokenises, encodes and remembers texts.

    Args:
        tokenizer: Word pieces, without padding and truncation.
        encoder: Gives one vector per token.
        threads: Texts encoded at the same time, each on one core.
        cache_mb: Memory for texts seen before, in MiB.
    """

    def __init__(self, tokenizer: Tokenizer, encoder: ctranslate2.Encoder, threads: int, cache_mb: int) -> None:
        self.vocabulary = _vocabulary(tokenizer)
        self.cache: ByteCache[Encoded] = ByteCache(cache_mb * 2**20)
        self._pieces = WordPieces(tokenizer)
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._cls, self._sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")

    @classmethod
    def load(cls, threads: int | None, cache_mb: int) -> Self:
        """Load the installed weights.

        Args:
            threads: As for the class; None takes the cores that this process may use.
            cache_mb: As for the class.

        Returns:
            An encoder that is ready.

        Raises:
            WeightsError: The weights are not installed, or are not the official ones.
        """
        threads = threads or available_cores()
        folder = weights_folder()
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, load_encoder(folder, _vocabulary(tokenizer), threads), threads, cache_mb)

    def find(self, texts: Iterable[str], room: int) -> dict[str, Encoded | Pending]:
        """Look texts up in the cache, each once; word-piece the rest and cut them.

        Args:
            texts: What to look up.
            room: Most tokens of a text, specials apart; what is longer is cut from the right.

        Returns:
            By text: its vectors, or what has to be encoded.

        Raises:
            UnfinishedError: One is so long that word-piecing it takes several calls; the next one goes on.
        """
        return {text: self._find(text, room) for text in dict.fromkeys(texts)}

    def _find(self, text: str, room: int) -> Encoded | Pending:
        digest = _digest(text)
        known = self.cache.get((digest, None))
        if known is None or len(known.ids) > room:
            known = self.cache.get((digest, room))
        if known is not None:
            return known
        ids = self._pieces.first(text, digest, room + 1)
        whole = len(ids) <= room
        return Pending((digest, None if whole else room), ids[:room], whole)

    def count(self, text: str) -> int:
        """Return the number of all tokens of a text, specials apart.

        Raises:
            UnfinishedError: It is so long that this takes several calls; the next one goes on.
        """
        return self._pieces.count(text, _digest(text))

    def encode_all(
        self, texts: Iterable[Pending], unwanted: Callable[[Key], bool] = lambda _: False
    ) -> Iterator[tuple[Key, Encoded]]:
        """Encode texts on all threads, the longest first: the short ones then fill the end evenly.

        Args:
            texts: What to encode.
            unwanted: Whether nobody waits for the text with this key any more; asked from the threads.

        Yields:
            Key and vectors of each text as soon as they are there; texts that became unwanted are left out.
        """

        def encode(text: Pending) -> tuple[Key, Encoded] | None:
            return None if unwanted(text.key) else (text.key, self._encode_and_keep(text))

        longest_first = sorted(texts, key=lambda text: len(text.ids), reverse=True)
        futures = [self._pool.submit(encode, text) for text in longest_first]
        try:
            for future in as_completed(futures):
                if result := future.result():
                    yield result
        finally:
            for future in futures:
                future.cancel()

    def _encode_and_keep(self, text: Pending) -> Encoded:
        vectors, windows = self.encode(text.ids)
        encoded = Encoded(vectors, text.ids, windows, text.whole)
        self.cache.put(text.key, encoded)
        return encoded

    def encode(self, ids: NDArray[np.int32]) -> tuple[NDArray[np.float16], int]:
        """Encode one text in windows of about equal length that the model was trained for.

        Args:
            ids: Its tokens, specials apart.

        Returns:
            The vectors as in `Encoded`, and the number of windows.
        """
        windows = max(1, -(-len(ids) // WINDOW))
        states = [self._forward(part.tolist()) for part in np.array_split(ids, windows)]
        means = [state.mean(axis=0, keepdims=True) for state in states]
        rows = np.concatenate([*means, *(state[1:-1] for state in states)])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16), windows

    def _forward(self, ids: list[int]) -> NDArray[np.float32]:
        output = self._encoder.forward_batch([[self._cls, *ids, self._sep]])
        state: NDArray[np.float32] = np.array(output.last_hidden_state)[0]
        return state

    def close(self) -> None:
        """Give up the texts that wait to be encoded."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _vocabulary(tokenizer: Tokenizer) -> list[str]:
    return [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
