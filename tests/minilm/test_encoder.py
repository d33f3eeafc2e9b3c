"""Vectors of texts: near to float32, remembered in memory and between runs, and always bit for bit the same."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nvrerank_helpers.minilm import EncodedText, TextEncoder, UnencodedText
from nvrerank_helpers.minilm.kept_vectors import KeptVectors


@pytest.fixture(scope="module")
def loaded() -> TextEncoder:
    return TextEncoder.load(threads=1)


@pytest.fixture
def encoder(loaded: TextEncoder) -> TextEncoder:
    """An encoder with an empty cache."""
    return TextEncoder(loaded._tokenizer, loaded._encoder, cache_mb=8)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of tokens of what goes through the network."""
    lengths: list[int] = []
    run = TextEncoder._run_network
    monkeypatch.setattr(TextEncoder, "_run_network", lambda self, ids: lengths.append(len(ids)) or run(self, ids))
    return lengths


def encode(encoder: TextEncoder, text: str, most: int = 512) -> EncodedText:
    return encoder.encode(encoder.find(text, most))


def test_vectors_are_near_to_those_of_the_network_in_float32(encoder: TextEncoder) -> None:
    # The first components of the sentence's vector, computed from the official weights without quantization.
    exact = [0.0676569, 0.0634959, 0.0487131, 0.0793050, 0.0374481, 0.0026528]
    found = encode(encoder, "This is an example sentence")
    assert (found.windows, found.vectors.shape) == (1, (6, 384))
    np.testing.assert_allclose(found.mean[:6], exact, atol=0.02)


def test_a_long_text_has_windows_of_about_equal_length(encoder: TextEncoder, computed: list[int]) -> None:
    found = encode(encoder, "word " * 600, 1000)
    assert (found.windows, found.vectors.shape, computed) == (3, (603, 384), [200, 200, 200])
    np.testing.assert_allclose(np.linalg.norm(found.vectors.astype(np.float32), axis=1), 1, atol=2e-3)


def test_a_known_text_is_not_encoded_again(encoder: TextEncoder, computed: list[int]) -> None:
    first, second = encode(encoder, "sort a list"), encode(encoder, "sort a list")
    assert first is second
    assert len(computed) == 1


def test_the_same_text_found_twice_is_encoded_once(encoder: TextEncoder, computed: list[int]) -> None:
    found = [encoder.find("sort a list", 512) for _ in range(2)]
    assert all(isinstance(text, UnencodedText) for text in found)
    assert encoder.encode(found[0]) is encoder.encode(found[1])
    assert len(computed) == 1


def test_a_text_cut_to_another_length_is_encoded_again(encoder: TextEncoder, computed: list[int]) -> None:
    for most, whole in ((10, False), (20, False), (30, True), (40, True), (25, True), (20, False)):
        tokens = encode(encoder, "word " * 25, most).tokens
        assert (len(tokens.ids), tokens.whole) == (min(most, 25), whole)
    assert computed == [10, 20, 25]


def test_the_memory_is_bounded(encoder: TextEncoder, loaded: TextEncoder) -> None:
    for number in range(30):
        encode(encoder, f"{number} " + "word " * 500)
    assert 7 * 2**20 < encoder._cache.currsize <= 8 * 2**20
    small = TextEncoder(loaded._tokenizer, loaded._encoder, cache_mb=0)
    assert len(encode(small, "sort a list").vectors) == 4


@pytest.mark.parametrize(("most", "count"), [(9, 10), (10, 10), (11, 10)])
def test_tokens_are_counted_up_to_a_limit(encoder: TextEncoder, most: int, count: int) -> None:
    assert encoder.count("word " * 10, most) == count


@pytest.fixture
def keeping(loaded: TextEncoder, tmp_path: Path) -> Iterator[TextEncoder]:
    """An encoder that was just started and finds the vectors of "sort a list" in a file."""
    before, now = (TextEncoder(loaded._tokenizer, loaded._encoder, 8, KeptVectors(tmp_path, "here")) for _ in range(2))
    encode(before, "sort a list")
    before.close()
    yield now
    now.close()


def test_vectors_kept_between_runs_are_those_that_were_computed(
    keeping: TextEncoder, encoder: TextEncoder, computed: list[int]
) -> None:
    warm = encode(keeping, "sort a list")
    assert computed == []
    cold = encode(encoder, "sort a list")
    np.testing.assert_array_equal(warm.vectors, cold.vectors)
    np.testing.assert_array_equal(warm.tokens.ids, cold.tokens.ids)


def test_a_longer_or_shorter_cut_is_another_text(keeping: TextEncoder, computed: list[int]) -> None:
    for most in (3, 2):
        assert len(encode(keeping, "sort a list of words", most).vectors) == most + 1
    assert computed == [2]  # the first cut leaves the tokens of a text that is known
