"""Texts to word pieces: a huge text is taken in slices, a few at a time, so that it takes neither memory nor patience.

BERT splits a text into words before anything else, so that all words of a slice are as they are in the whole text,
but the last one: it may go on, and is carried over into the next slice. The tokens are those of the whole text; only
tone marks and musical signs that stand on no letter may come in another order where a slice ends among them.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nvrerank_helpers.minilm.lru import ByteCache

SLICE = 50_000
"""Characters of a slice."""

SLICES_AT_ONCE = 4
"""Slices that one call takes: about a quarter of a second, as a round of the engine does."""

LONGEST_WORD = 100
"""Letters of a word, after normalisation, beyond which WordPiece gives [UNK]."""

PROGRESS_BYTES = 16 * 2**20
"""Memory for texts that are not finished; those that nobody asked for longest begin again beyond it."""


class UnfinishedError(Exception):
    """A text is so long that word-piecing it takes several rounds: ask again, and it goes on where it stopped."""


@dataclass(frozen=True)
class Progress:
    """How far a text is word-pieced.

    Attributes:
        start: Characters that were taken.
        carried: The last word among them, which may go on; its tokens are not counted yet.
        ids: The first tokens, as many as were asked for.
        length: Tokens so far.
    """

    start: int = 0
    carried: str = ""
    ids: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    length: int = 0

    @property
    def nbytes(self) -> int:
        """Size in bytes, about."""
        return self.ids.nbytes + 1024


class WordPieces:
    """Word-pieces texts, without special tokens.

    Args:
        tokenizer: A BERT tokenizer, without padding and truncation.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._progress: ByteCache[Progress] = ByteCache(PROGRESS_BYTES)

    def first(self, text: str, digest: bytes, most: int) -> NDArray[np.int32]:
        """Return the first tokens of a text.

        Args:
            text: What to word-piece.
            digest: Its hash, under which unfinished work is kept.
            most: Tokens that are wanted.

        Returns:
            At most that many ids.

        Raises:
            UnfinishedError: There is more to do than one call should take; the next one goes on.
        """
        return self._walk(text, digest, most).ids

    def count(self, text: str, digest: bytes) -> int:
        """Return the number of all tokens of a text; arguments and errors as of `first`."""
        return self._walk(text, digest, None).length

    def _walk(self, text: str, digest: bytes, most: int | None) -> Progress:
        if len(text) <= SLICE:
            return self._next(text, Progress(), most)
        progress = self._progress.get((digest, most)) or Progress()
        for _ in range(SLICES_AT_ONCE):
            if progress.start == len(text) or (most is not None and progress.length >= most):
                break
            progress = self._next(text, progress, most)
            self._progress.put((digest, most), progress)
        else:
            raise UnfinishedError
        return progress

    def _next(self, text: str, done: Progress, most: int | None) -> Progress:
        """Take one more slice."""
        end = _end_of_slice(text, done.start + SLICE)
        part = done.carried + text[done.start : end]
        # Of the tokenizer's methods, those for batches let other threads run meanwhile: health stays responsive.
        encoding = self._tokenizer.encode_batch([part], add_special_tokens=False)[0]
        ids, carried = encoding.ids, ""
        if ids and end < len(text):
            words = encoding.word_ids
            last = words.index(words[-1])
            begin = encoding.offsets[last][0]
            if part[begin] != "[":  # neither a bracket nor a special token goes on
                ids, carried = ids[:last], self._shortened(part[begin:])
        first = np.concatenate([done.ids, np.array(ids, dtype=np.int32)])[: most or 0]
        return Progress(end, carried, first, done.length + len(ids))

    def _shortened(self, word: str) -> str:
        """Cut an over-long word: with one letter more than the longest, it is [UNK] whatever goes on."""
        if len(word) <= LONGEST_WORD:
            return word
        letters: str = self._tokenizer.normalizer.normalize_str(word)
        return letters[: LONGEST_WORD + 1] + letters[LONGEST_WORD + 1 :][-1:]  # the last may be a space, and end it


def _end_of_slice(text: str, end: int) -> int:
    """Move the end of a slice to the left if it might part a special token such as [MASK]."""
    if end >= len(text):
        return len(text)
    bracket = text.find("[", end - len("[MASK]") + 1, end)
    return end if bracket < 0 else bracket
