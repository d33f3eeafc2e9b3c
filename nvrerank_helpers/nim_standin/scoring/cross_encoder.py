"""Scores with any cross-encoder that has one output, through sentence-transformers (extra `cross-encoder`).

A cross-encoder reads query and passage together and gives one number for the pair. We take that number before any
activation, because a reranking NIM answers with raw logits too. Batches are padded, so the last digits of a score may
depend on what else is in its batch, as they do in a NIM.

NVIDIA's open weights `nvidia/llama-nemotron-rerank-1b-v2` need their own prompt instead of a pair, padding on the left
and code that comes with them. All of that is prepared here and tested with a tiny model of the same family, but not
with the weights, which were out of reach. Others report that they load with sentence-transformers 4.1 and
transformers 4.46, and not with transformers 5; this module works with both.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.connector import RerankError
from nvrerank_helpers.nim_standin.scoring.jobs import EmbeddingsUnavailableError, InputTooLongError, Job, Scores

PROMPTS: Mapping[str, str] = {
    # https://huggingface.co/nvidia/llama-nemotron-rerank-1b-v2, and NVIDIA's own wrapper in NVIDIA/NeMo-Retriever
    "nvidia/llama-nemotron-rerank-1b-v2": "question:{query} \n \n passage:{passage}",
    "nvidia/llama-3.2-nv-rerankqa-1b-v2": "question:{query} \n \n passage:{passage}",  # its earlier name
}
"""Models that read one text made of query and passage. Every other model reads them as a pair."""

BATCH = 8
"""Pairs in one batch. On a CPU larger batches are no faster, and a long passage pads all of its batch."""

MOST_CHARACTERS = 2**20
"""What is longer is cut before it is tokenized."""


class CrossEncoderError(RerankError):
    """The cross-encoder cannot be loaded."""

    hint = (
        "Install the extra `cross-encoder` of nvrerank-helpers in a separate environment: "
        "pip install 'nvrerank-helpers[course,cross-encoder]'  (it brings torch, some gigabytes)."
    )


class CrossEncoderScorer:
    """Scores pairs with a `sentence_transformers.CrossEncoder`, or single texts if there is a prompt."""

    threads = 1  # torch uses several cores for one batch
    chunk_characters = 16_000

    def __init__(self, encoder: Any, prompt: str | None = None) -> None:
        self._encoder, self._tokenizer, self._prompt = encoder, encoder.tokenizer, prompt
        config = encoder.model.eval().config
        if config.num_labels != 1:
            raise CrossEncoderError(
                f"This model has {config.num_labels} outputs, and a reranker has one.",
                hint="Choose a cross-encoder that was trained to rerank.",
            )
        if self._tokenizer.pad_token is None:  # the models of the Llama family have none
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if config.pad_token_id is None:
            config.pad_token_id = self._tokenizer.pad_token_id
        if prompt:
            self._tokenizer.padding_side = "left"
        positions = getattr(config, "max_position_embeddings", self._tokenizer.model_max_length)
        self._most_tokens = min(positions, self._tokenizer.model_max_length)

    @classmethod
    def load(cls, model: str, threads: int | None = None, *, trust_remote_code: bool = False) -> Self:
        """Load a cross-encoder from a folder or from the Hugging Face hub, or raise a `CrossEncoderError`."""
        try:
            import torch
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            message = f"A cross-encoder needs the extra `cross-encoder` (pip install '.[cross-encoder]'): {error}."
            raise CrossEncoderError(message) from error
        if threads:
            torch.set_num_threads(threads)
        return cls(CrossEncoder(model, trust_remote_code=trust_remote_code), PROMPTS.get(model))

    def score(self, job: Job) -> Scores:
        """Score the passages of a job, or raise an `InputTooLongError` for the limit of the job or of the model."""
        if not job.passages:
            return Scores(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64))
        limit = min(job.max_tokens, self._most_tokens)
        query, passages = job.query[:MOST_CHARACTERS], [text[:MOST_CHARACTERS] for text in job.passages]
        cut = job.truncate == "END"
        if self._prompt:
            texts: tuple[list[str], ...] = ([self._prompt.format(query=query, passage=text) for text in passages],)
        else:
            texts = ([query] * len(passages), passages)
        # Without `verbose`, transformers warns of texts that are too long, which is for us to say.
        ids = self._tokenizer(*texts, truncation=cut, max_length=limit if cut else None, verbose=False)["input_ids"]
        tokens = np.array([len(row) for row in ids], dtype=np.int64)
        if tokens.max() > limit:
            raise InputTooLongError(int(tokens[tokens > limit][0]), limit)
        return Scores(self._predict(texts, limit), tokens)

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Raise an `EmbeddingsUnavailableError`: a cross-encoder judges pairs."""
        raise EmbeddingsUnavailableError(
            f"A cross-encoder has no vectors for {len(texts)} texts of at most {max_tokens} tokens: "
            "start the stand-in with --scorer late-interaction for embeddings"
        )

    def close(self) -> None:
        """Release nothing."""

    def _predict(self, texts: tuple[list[str], ...], limit: int) -> NDArray[np.float32]:
        import torch

        if not self._prompt:
            self._tokenizer.model_max_length = limit  # `predict` cuts there
            raw = self._encoder.predict(
                list(zip(*texts, strict=True)),
                batch_size=BATCH,
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
            )
            return np.asarray(raw, dtype=np.float32)
        # `predict` takes a list of single texts for one pair, and would apply a chat template to it.
        options = {"padding": True, "truncation": True, "max_length": limit, "return_tensors": "pt"}
        model, rows = self._encoder.model, []
        for start in range(0, len(texts[0]), BATCH):
            features = self._tokenizer(texts[0][start : start + BATCH], return_token_type_ids=False, **options)
            with torch.inference_mode():
                rows.append(model(**features.to(model.device)).logits[:, 0].float().cpu().numpy())
        return np.concatenate(rows)
