"""The relevance model: it ranks sensibly, judges each passage alone, and counts tokens."""

import numpy as np
import pytest

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
    logits = model.score(Job(QUERY, PASSAGES)).logits
    assert logits[1] > 0 > max(logits[0], logits[2])


def test_a_paraphrase_beats_a_passage_that_shares_only_function_words(model: RelevanceModel) -> None:
    passages = ["It is the end of what you are in.", "Paris is where the French government sits."]
    logits = model.score(Job("what is the capital of France?", passages)).logits
    assert logits[1] > logits[0]


def test_a_score_is_the_same_alone_and_among_fifty_others(model: RelevanceModel) -> None:
    others = [f"{PASSAGES[number % 3]} {filler(number)}" for number in range(50)]
    together = model.score(Job(QUERY, [*others, *PASSAGES])).raw[50:]
    for passage, score in zip(PASSAGES, together, strict=True):
        assert RelevanceModel.load(threads=1).score(Job(QUERY, [passage])).raw[0] == score


def test_a_passage_seen_before_scores_the_same(model: RelevanceModel) -> None:
    cold, warm = (model.score(Job("a query of this test alone", [*PASSAGES, PASSAGES[0]])).raw for _ in range(2))
    np.testing.assert_array_equal(cold, warm)
    assert cold[0] == cold[3] != cold[1]


def test_logits_are_float16_numbers(model: RelevanceModel) -> None:
    logits = model.score(Job(QUERY, PASSAGES)).logits
    np.testing.assert_array_equal(logits, logits.astype(np.float16))


def test_logits_beyond_float16_become_its_ends() -> None:
    raw = np.array([1e6, np.inf, -np.inf], dtype=np.float32)
    assert Scores(raw, np.ones(3, dtype=np.int64), slope=5.9).logits.tolist() == [65504, 65504, -65504]


def test_tokens_are_those_of_the_pair_with_its_special_tokens(model: RelevanceModel) -> None:
    assert model.score(Job("sort a list", ["open the file", "x"])).tokens.tolist() == [3 + 3 + 3, 3 + 1 + 3]


def test_text_after_the_first_window_counts(model: RelevanceModel) -> None:
    plain, answering = model.score(Job(QUERY, [filler(600), filler(600) + PASSAGES[1]])).raw
    assert answering > plain + 0.4


def test_end_cuts_the_passage_from_the_right(model: RelevanceModel) -> None:
    long = filler(600) + PASSAGES[1]
    cut = model.score(Job(QUERY, [long, filler(600)], max_tokens=300))
    assert cut.tokens.tolist() == [300, 300]
    assert cut.raw[0] == cut.raw[1] != model.score(Job(QUERY, [long])).raw[0]


def test_end_cuts_a_query_that_leaves_no_room_for_the_passage(model: RelevanceModel) -> None:
    scores = model.score(Job(filler(400), PASSAGES, max_tokens=300))
    assert scores.tokens.tolist() == [300, 300, 300]
    assert np.isfinite(scores.logits).all()


def test_none_takes_a_pair_at_the_limit(model: RelevanceModel) -> None:
    assert model.score(Job("sort", [filler(296)], max_tokens=300, truncate="NONE")).tokens.tolist() == [300]


@pytest.mark.parametrize("cached", [False, True])
def test_none_refuses_a_pair_over_the_limit(model: RelevanceModel, *, cached: bool) -> None:
    text = filler(297) + ("again" if cached else "")
    if cached:
        model.score(Job("sort", [text], max_tokens=300))
    with pytest.raises(InputTooLongError, match=r"Input length 30\d exceeds maximum allowed token size 300"):
        model.score(Job("sort", ["short", text], max_tokens=300, truncate="NONE"))


@pytest.mark.parametrize(
    ("query", "passage", "length"),
    [(1, 2996, "3000"), (1, 2997, "more than 3000"), (1498, 1499, "3000"), (2000, 2000, "more than 3000")],
)
def test_a_length_is_exact_up_to_ten_times_the_limit(
    model: RelevanceModel, query: int, passage: int, length: str
) -> None:
    with pytest.raises(InputTooLongError, match=f"Input length {length} exceeds maximum allowed token size 300"):
        model.score(Job(filler(query), [filler(passage)], max_tokens=300, truncate="NONE"))


@pytest.mark.parametrize("text", ["word " * 2_800_000, "w" * 1_000_000], ids=["many words", "one word"])
def test_a_huge_text_is_scored_by_its_beginning(model: RelevanceModel, text: str) -> None:
    scores = model.score(Job(QUERY, [text], max_tokens=30))
    assert scores.tokens[0] <= 30
    assert np.isfinite(scores.raw[0])


@pytest.mark.parametrize("text", [" ", "\U0001f680", "of the", "?!"])
def test_text_without_content_words_gets_a_finite_score(model: RelevanceModel, text: str) -> None:
    assert np.isfinite(model.score(Job(text, [text, "x"])).logits).all()


def test_no_passages_give_no_scores(model: RelevanceModel) -> None:
    assert len(model.score(Job(QUERY, [])).logits) == 0


def test_function_words_weigh_less_than_words_with_content(model: RelevanceModel) -> None:
    content, function = model.score(Job("where is the tokenizer", ["tokenizer tokenizer", "where is the"])).raw
    assert content > function


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
