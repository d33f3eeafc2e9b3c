"""Reads the first tokens of a text, however long the text is.

A long text is tokenized slice by slice until there are enough tokens. BERT splits a text at spaces, punctuation and
Chinese characters before it does anything else, so a slice that ends just before one of them gets the same tokens as
in the whole text.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

SLICE = 50_000
"""Characters to tokenize at a time. The last word of a slice may make it longer."""

LONGEST_SLICE = 2 * SLICE
"""A slice that is longer ends in an endless word, which is [UNK] however it goes on."""

MOST_CHARACTERS = 2**20
"""Nothing is read beyond them. An English text of this length has about 200,000 tokens."""

# "]" is missing because it may end a special token such as "[MASK]"; "[" may only begin one.
BOUNDARY = re.compile(r"[ \t\n\r!-/:-@\[\\^-`{-~\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True)
class Tokens:
    """The first tokens of a text.

    Attributes:
        ids: Their ids, without special tokens.
        whole: Whether the text has no more tokens than these.
    """

    ids: NDArray[np.int32]
    whole: bool


def read_tokens(tokenizer: Tokenizer, text: str, most: int) -> Tokens:
    """Tokenize the beginning of a text.

    Args:
        tokenizer: A BERT tokenizer without padding and truncation.
        text: The text.
        most: How many tokens to return at most. Reading stops earlier after `MOST_CHARACTERS`.

    Returns:
        The tokens, and whether they are all.
    """
    ids: list[int] = []
    start = 0
    while start < min(len(text), MOST_CHARACTERS) and len(ids) <= most:
        boundary = BOUNDARY.search(text, start + SLICE, MOST_CHARACTERS)
        end = boundary.start() if boundary else min(len(text), MOST_CHARACTERS)
        part = text[start : min(end, start + LONGEST_SLICE)]
        # The methods for batches let other threads run meanwhile.
        ids += tokenizer.encode_batch_fast([part], add_special_tokens=False)[0].ids
        start = end
    return Tokens(np.array(ids[:most], dtype=np.int32), whole=start >= len(text) and len(ids) <= most)
