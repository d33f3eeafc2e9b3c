"""A scorer that runs any cross-encoder with one output, through sentence-transformers (extra `cross-encoder`).

A cross-encoder reads query and passage together and gives one number for the pair. We take that number as it is,
before any activation, because a reranking NIM answers with raw logits too. Batches are padded, so a score may differ in
the last digits with what else is in its batch, as a NIM's does.

NVIDIA's open weights `nvidia/llama-nemotron-rerank-1b-v2` want their own prompt instead of a pair, padding on the left
and code that comes with them. All of that is prepared here and tested with a tiny model of the same family, but not
with the weights themselves, which were out of reach. Others report that they load with sentence-transformers 4.1 and
transformers 4.46, and not with transformers 5; this module works with both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.connector import RerankError
from nvrerank_helpers.nim_standin.scoring.jobs import EmbeddingsUnavailableError, InputTooLongError, Job, Result, Scores

PROMPTS: Mapping[str, str] = {
    # https://huggingface.co/nvidia/llama-nemotron-rerank-1b-v2, and NVIDIA's own wrapper in NVIDIA/NeMo-Retriever
    "nvidia/llama-nemotron-rerank-1b-v2": "question:{query} \n \n passage:{passage}",
    "nvidia/llama-3.2-nv-rerankqa-1b-v2": "question:{query} \n \n passage:{passage}",  # its name before
}
"""Models that read one text made of query and passage; every other gets the two as a pair."""

MAX_PAIRS = 32
"""Pairs of a batch."""

MAX_BATCH_TOKENS = 16_384
"""Tokens of a batch with its padding; bounds the memory that long passages take."""


class CrossEncoderError(RerankError):
    """The cross-encoder cannot be loaded."""

    hint = (
        "Install the extra `cross-encoder` of nvrerank-helpers in an environment of its own: "
        "pip install 'nvrerank-helpers[course,cross-encoder]'  (it brings torch, some gigabytes)."
    )


@dataclass(frozen=True)
class Pair:
    """The tokens of a query with one passage: where it belongs, and what the model reads."""

    job: int
    passage: int
    features: Mapping[str, list[int]]

    @property
    def length(self) -> int:
        """Tokens, specials included."""
        return len(self.features["input_ids"])


class CrossEncoderScorer:
    """Scores pairs with a cross-encoder; a `Scorer` for the engine.

    Args:
        encoder: A `sentence_transformers.CrossEncoder` with one label and a fast tokenizer.
        prompt: Template with `{query}` and `{passage}`; None hands the two over as a pair.

    Example:
        >>> scorer = CrossEncoderScorer.load("cross-encoder/ms-marco-MiniLM-L6-v2")  # doctest: +SKIP
    """

    def __init__(self, encoder: Any, prompt: str | None = None) -> None:
        self._model, self._tokenizer = encoder.model.eval(), encoder.tokenizer
        self._prompt = prompt
        if self._model.config.num_labels != 1:
            raise CrossEncoderError(
                f"This model has {self._model.config.num_labels} outputs, and a reranker has one.",
                hint="Choose a cross-encoder that was trained to rerank.",
            )
        if self._tokenizer.pad_token is None:  # the models of the Llama family come without
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self._model.config.pad_token_id is None:
            self._model.config.pad_token_id = self._tokenizer.pad_token_id
        if prompt:
            self._tokenizer.padding_side = "left"
        # Some tokenizers tell query and passage apart for models that do not want to know.
        known = signature(self._model.forward).parameters
        self._inputs = [name for name in self._tokenizer.model_input_names if name in known]
        positions = getattr(self._model.config, "max_position_embeddings", self._tokenizer.model_max_length)
        self._most_tokens = min(positions, self._tokenizer.model_max_length)

    @classmethod
    def load(cls, model: str, threads: int | None = None, *, trust_remote_code: bool = False) -> Self:
        """Load a cross-encoder from a folder or from the Hugging Face hub.

        Args:
            model: Hub id or folder.
            threads: Cores for torch; None leaves that to torch.
            trust_remote_code: Whether code that comes with the weights may run here. NVIDIA's weights need it.

        Returns:
            A scorer that is ready.

        Raises:
            CrossEncoderError: sentence-transformers is not installed, or the model is not a reranker.
        """
        try:
            import torch
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            message = f"A cross-encoder needs the extra `cross-encoder` (pip install '.[cross-encoder]'): {error}."
            raise CrossEncoderError(message) from error
        if threads:
            torch.set_num_threads(threads)
        return cls(CrossEncoder(model, trust_remote_code=trust_remote_code), PROMPTS.get(model))

    def score_jobs(
        self, jobs: Sequence[Job], gone: Callable[[int], bool] = lambda _: False
    ) -> Iterator[tuple[int, Result]]:
        """Score several jobs together: pairs of like length go through the model in one batch.

        Args:
            jobs: What to judge.
            gone: Whether nobody waits for the job at this position any more.

        Yields:
            The position of a job and its result, as soon as that job is complete. Jobs that are gone are left out.
        """
        pairs: list[Pair] = []
        results: dict[int, Scores] = {}
        missing: dict[int, int] = {}
        for position, job in enumerate(jobs):
            if gone(position):
                continue
            try:
                own = self._pairs(position, job)
            except InputTooLongError as error:
                yield position, error
                continue
            tokens = np.array([pair.length for pair in own], dtype=np.int64)
            results[position] = Scores(np.zeros(len(own), dtype=np.float32), tokens)
            missing[position] = len(own)
            pairs += own
        yield from ((position, result) for position, result in results.items() if not missing[position])
        for batch, raw in self._score(pairs, gone):
            for pair, score in zip(batch, raw, strict=True):
                results[pair.job].raw[pair.passage] = score
                missing[pair.job] -= 1
                if not missing[pair.job]:
                    yield pair.job, results[pair.job]

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Refuse: a cross-encoder judges pairs.

        Raises:
            EmbeddingsUnavailableError: Always.
        """
        raise EmbeddingsUnavailableError(
            f"A cross-encoder has no vectors for {len(texts)} texts of at most {max_tokens} tokens: "
            "start the stand-in with --scorer late-interaction for embeddings"
        )

    def close(self) -> None:
        """Hold nothing that needs closing."""

    def _score(
        self, pairs: list[Pair], gone: Callable[[int], bool]
    ) -> Iterator[tuple[list[Pair], NDArray[np.float32]]]:
        """Yield batches, the longest pairs first, with their raw logits."""
        import torch

        left = sorted(pairs, key=lambda pair: pair.length, reverse=True)
        while left := [pair for pair in left if not gone(pair.job)]:
            size = max(1, min(MAX_PAIRS, MAX_BATCH_TOKENS // left[0].length))
            batch, left = left[:size], left[size:]
            features = self._tokenizer.pad([dict(pair.features) for pair in batch], return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**features.to(self._model.device)).logits
            yield batch, logits[:, 0].float().cpu().numpy()

    def _pairs(self, position: int, job: Job) -> list[Pair]:
        if not job.passages:
            return []
        limit = min(job.max_tokens, self._most_tokens)
        features = self._tokenise(job, limit if job.truncate == "END" else None)
        rows = zip(*(features[name] for name in self._inputs), strict=True)
        pairs = [Pair(position, number, dict(zip(self._inputs, row, strict=True))) for number, row in enumerate(rows)]
        for pair in pairs:
            if pair.length > limit:
                raise InputTooLongError(pair.length, limit)
        return pairs

    def _tokenise(self, job: Job, limit: int | None) -> Mapping[str, list[list[int]]]:
        """Tokenise every pair; with a limit, cut it from the right: the passage, or a query that leaves it no room."""
        # Without `verbose`, transformers warns of texts that are too long, which is for us to say.
        options: dict[str, Any] = {"verbose": False, "truncation": limit is not None, "max_length": limit}
        if self._prompt:
            texts = [self._prompt.format(query=job.query, passage=passage) for passage in job.passages]
            return dict(self._tokenizer(texts, **options))
        if limit is None:
            return dict(self._tokenizer([job.query] * len(job.passages), list(job.passages), **options))
        room = limit - self._tokenizer.num_special_tokens_to_add(pair=True) - 1
        query = self._cut(job.query, room)
        options["truncation"] = "only_second"
        return dict(self._tokenizer([query] * len(job.passages), list(job.passages), **options))

    def _cut(self, text: str, room: int) -> str:
        cut = self._tokenizer(
            text, add_special_tokens=False, truncation=True, max_length=room, return_offsets_mapping=True
        )
        return text[: max((end for _, end in cut["offset_mapping"]), default=0)]
