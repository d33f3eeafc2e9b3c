"""Any cross-encoder as the scorer, shown with a tiny one that has random weights and is made here."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "sentence_transformers",
    reason="needs sentence-transformers, which brings torch: install the extra `cross-encoder` in another environment",
)

import torch
from sentence_transformers import CrossEncoder
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from nvrerank_helpers.nim_standin.scoring.cross_encoder import PROMPTS, CrossEncoderError, CrossEncoderScorer
from nvrerank_helpers.nim_standin.scoring.engine import Engine
from nvrerank_helpers.nim_standin.scoring.jobs import EmbeddingsUnavailableError, InputTooLongError, Job
from nvrerank_helpers.nim_standin.scoring.registry import choose_scorer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = "how do i sort a list open the file return sorted error upon failure word question passage : ? ."
WORDS = TEXT.split()
LIMIT = 64
QUERY = "how do i sort a list ?"
PASSAGES = ["open the file .", "return a sorted list .", "error upon failure", "word word word word word word"]


def make(folder: Path, labels: int = 1) -> Path:
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIALS, *WORDS]))
    tokenizer = BertTokenizerFast(str(vocabulary), model_max_length=LIMIT)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(SPECIALS) + len(WORDS),
        max_position_embeddings=LIMIT,
        num_labels=labels,
        initializer_range=0.5,  # far enough apart to tell passages from each other
        **shape,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_llama(folder: Path) -> Path:
    """Like NVIDIA's weights: a decoder with one output, whose tokenizer has no token to pad with."""
    words = BertTokenizerFast(str(make(folder) / "vocab.txt")).backend_tokenizer
    words.post_processor = None
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[SEP]", unk_token="[UNK]")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, num_labels=1, pad_token_id=None, initializer_range=0.5, **shape
    )
    target = folder / "llama"
    LlamaForSequenceClassification(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> CrossEncoderScorer:
    return CrossEncoderScorer.load(str(folder), threads=1)


def test_scores_are_the_logits_of_sentence_transformers_without_an_activation(
    scorer: CrossEncoderScorer, folder: Path
) -> None:
    expected = CrossEncoder(str(folder)).predict(
        [(QUERY, text) for text in PASSAGES], activation_fn=torch.nn.Identity()
    )
    scores = scorer.score(Job(QUERY, PASSAGES))
    np.testing.assert_allclose(scores.raw, expected, atol=1e-5)
    assert len(set(scores.logits.tolist())) == len(PASSAGES)


def test_logits_are_float16_numbers(scorer: CrossEncoderScorer) -> None:
    scores = scorer.score(Job(QUERY, PASSAGES))
    np.testing.assert_array_equal(scores.logits, scores.raw.astype(np.float16))


def test_tokens_are_those_of_the_pair_with_its_special_tokens(scorer: CrossEncoderScorer) -> None:
    assert scorer.score(Job("sort a list", ["open the file"])).tokens.tolist() == [3 + 3 + 3]


def test_end_cuts_the_passage_from_the_right(scorer: CrossEncoderScorer) -> None:
    scores = scorer.score(Job("sort", ["word " * 5 + "error " * 50, "word " * 5 + "list " * 50], max_tokens=9))
    assert scores.tokens.tolist() == [9, 9]
    assert scores.raw[0] == pytest.approx(scores.raw[1], rel=1e-5)  # processors round differently in padded batches


def test_a_limit_is_that_of_one_job_alone(scorer: CrossEncoderScorer) -> None:
    job = Job("sort", ["word " * 20 + "error"])
    before = scorer.score(job)
    scorer.score(Job("sort", ["word " * 20], max_tokens=9))
    after = scorer.score(job)
    assert after.tokens.tolist() == before.tokens.tolist() == [3 + 1 + 21]
    np.testing.assert_allclose(after.raw, before.raw, atol=1e-5)


def test_end_cuts_a_query_that_leaves_no_room_for_the_passage(scorer: CrossEncoderScorer) -> None:
    scores = scorer.score(Job("word " * 100, PASSAGES, max_tokens=20))
    assert scores.tokens.tolist() == [20] * 4


def test_none_refuses_a_pair_over_the_limit_of_the_job(scorer: CrossEncoderScorer) -> None:
    with pytest.raises(InputTooLongError, match="Input length 24 exceeds maximum allowed token size 23"):
        scorer.score(Job("sort", ["file", "word " * 20], max_tokens=23, truncate="NONE"))


def test_none_refuses_a_pair_over_the_limit_of_the_model(scorer: CrossEncoderScorer) -> None:
    with pytest.raises(InputTooLongError, match=f"Input length 104 exceeds maximum allowed token size {LIMIT}"):
        scorer.score(Job("sort", ["word " * 100], truncate="NONE"))


def test_no_passages_give_no_scores(scorer: CrossEncoderScorer) -> None:
    assert len(scorer.score(Job(QUERY, [])).logits) == 0


def test_a_model_of_the_llama_family_reads_its_prompt_padded_on_the_left(tmp_path: Path) -> None:
    prompt = next(iter(PROMPTS.values()))
    scorer = CrossEncoderScorer(CrossEncoder(str(make_llama(tmp_path))), prompt)
    read = scorer._tokenizer(prompt.format(query="sort", passage="file"))["input_ids"]
    assert scorer._tokenizer.decode(read) == "question : sort passage : file"
    assert scorer._tokenizer.padding_side == "left"
    together = scorer.score(Job("sort", ["file", "word " * 20]))
    assert together.tokens.tolist() == [len(read), len(read) + 19]
    alone = scorer.score(Job("sort", ["file"]))
    np.testing.assert_allclose(together.raw[0], alone.raw[0], atol=1e-4)


def test_a_model_of_several_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrossEncoderError, match="This model has 3 outputs, and a reranker has one"):
        CrossEncoderScorer.load(str(make(tmp_path, labels=3)))


async def test_the_engine_serves_a_cross_encoder_by_its_folder(folder: Path, scorer: CrossEncoderScorer) -> None:
    engine = Engine(choose_scorer(f"cross-encoder:{folder}", threads=1))
    engine.start()
    result = await engine.score(Job(QUERY, PASSAGES))
    np.testing.assert_allclose(result.scores.raw, scorer.score(Job(QUERY, PASSAGES)).raw, atol=1e-5)
    with pytest.raises(EmbeddingsUnavailableError, match="late-interaction"):
        await engine.embed(["sort"], 64)
    engine.close()
