"""Static word vectors as a LlamaIndex embedding."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding


class StaticEmbedding(BaseEmbedding):
    """Embed text with wordllama's static vectors: a table look-up and a mean, without a neural network.

    It embeds thousands of passages per second on a laptop. The weights (16 MB, 256 dimensions) come in wordllama's
    wheel.

    Example:
        >>> vector = StaticEmbedding().get_query_embedding("sort a list")
        >>> len(vector)
        256
    """

    model_name: str = "wordllama-l2-supercat-256"
    embed_batch_size: int = 512

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with a serialized embedding."""
        return "StaticEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        if not all(text.strip() for text in texts):
            raise ValueError(
                "An empty text has no vector: leave out empty passages, and ask a question that says something."
            )
        vectors: list[list[float]] = _load_word_vectors().embed(texts, norm=True).tolist()
        return vectors


@cache
def _load_word_vectors() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    import wordllama  # its import configures the root logger: restore what was there

    root.handlers[:] = handlers
    root.setLevel(level)
    # Its loader looks for the tokenizer in a folder that its wheel doesn't have, and would then download it.
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
