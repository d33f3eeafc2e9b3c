"""Tokens of long texts: slices give what the whole text gives, and no text is too long to handle."""

import inspect
import os
import pydoc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nvrerank_helpers.minilm import find_weights, load_tokenizer
from nvrerank_helpers.minilm import tokenizer as module
from nvrerank_helpers.minilm.tokenizer import MOST_CHARACTERS, SLICE, read_tokens

ALL = 10**9


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(find_weights())


class Counting:
    """A tokenizer that notes the sizes of the texts it gets."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.sizes: list[int] = []
        self._tokenizer = tokenizer

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.sizes += map(len, texts)
        return self._tokenizer.encode_batch_fast(texts, **options)


def all_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


WORDS = ("a", "word", "ization", "x" * 30, "é", "İ", "ẞ", "ς", "ﬁ", "한", "ㄱ", "😀", "👩\u200d👧", "²", "€", "\u0301")
ENDS = (" ", "\t", "\n", " " * 60, "字", "\uf900", "_", ".", "‽", "[", "]", "[SEP]", "[MASK]", "[UNK]", "[CLS", "MASK]")
REMOVED = ("\x00", "\x0b", "\x85", "\u200b", "\ufeff", "\ufffd", "\u0327", "\u00a0", "\u3000")


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(WORDS + ENDS + REMOVED), max_size=60).map("".join), st.integers(1, 20))
def test_slices_give_the_tokens_of_the_whole_text(tokenizer: Tokenizer, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE", size)
        patch.setattr(module, "LONGEST_SLICE", 10**6)
        tokens = read_tokens(tokenizer, text, ALL)
    assert (tokens.ids.tolist(), tokens.whole) == (all_ids(tokenizer, text), True)


def test_slices_give_the_tokens_of_real_passages(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 777)
    text = "\n\n".join(inspect.getdoc(member) or "" for _, member in inspect.getmembers(str)) + pydoc.render_doc(os)
    ids = all_ids(tokenizer, text)
    assert len(ids) > 10_000
    assert read_tokens(tokenizer, text, ALL).ids.tolist() == ids


@pytest.mark.parametrize(("most", "whole"), [(99, False), (100, True), (101, True)])
def test_a_text_is_whole_if_it_has_no_more_tokens_than_asked_for(
    tokenizer: Tokenizer, most: int, *, whole: bool
) -> None:
    tokens = read_tokens(tokenizer, "word " * 100, most)
    assert (len(tokens.ids), tokens.whole) == (min(most, 100), whole)


@pytest.mark.parametrize("ending", ["", " and more"])
def test_a_word_of_a_million_letters_is_one_unknown_token(tokenizer: Tokenizer, ending: str) -> None:
    counting = Counting(tokenizer)
    tokens = read_tokens(counting, "w" * 1_000_000 + ending, ALL)
    assert tokens.ids.tolist() == [tokenizer.token_to_id("[UNK]"), *all_ids(tokenizer, ending)]
    assert sum(counting.sizes) < 3 * SLICE


def test_a_huge_text_is_read_no_further_than_its_first_tokens_need(tokenizer: Tokenizer) -> None:
    counting = Counting(tokenizer)
    assert len(read_tokens(counting, "word " * 10 * SLICE, 100).ids) == 100
    assert len(counting.sizes) == 1


@pytest.mark.parametrize("text", ["\0", " ", "w"], ids=["nothing", "spaces", "one word"])
def test_a_text_without_tokens_is_not_read_to_its_end(tokenizer: Tokenizer, text: str) -> None:
    counting = Counting(tokenizer)
    tokens = read_tokens(counting, text * 14_000_000, 100)
    assert (len(tokens.ids) <= 1, tokens.whole) == (True, False)
    assert sum(counting.sizes) <= MOST_CHARACTERS
