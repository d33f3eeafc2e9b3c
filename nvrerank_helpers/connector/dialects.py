"""The `/rerank` dialects: vLLM, Text Embeddings Inference, Infinity, and Cohere's shape, which LiteLLM and others use.

Facts from the services' public source code, read in November 2026; see the README of this folder for the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from .protocol import Dialect, Passage, Truncate


def _documents(model: str, query: str, passages: Sequence[Passage]) -> dict[str, Any]:
    texts = _texts(passages)
    # Some services answer with the best few only, unless they are asked for every passage.
    return {"model": model, "query": query, "documents": texts, "top_n": len(texts)}


def _texts(passages: Sequence[Passage]) -> list[str]:
    return [passage["text"] for passage in passages]


def cohere_payload(model: str, query: str, passages: Sequence[Passage], _: Truncate | None = None) -> dict[str, Any]:
    """Build the body that Cohere, LiteLLM and NVIDIA's inference gateway take; `truncate` is unknown there."""
    return _documents(model, query, passages)


def vllm_payload(model: str, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> dict[str, Any]:
    """Build vLLM's body: -1 truncates to what the model takes, and without the field a longer text is refused."""
    return _documents(model, query, passages) | ({"truncate_prompt_tokens": -1} if truncate == "END" else {})


def infinity_payload(model: str, query: str, passages: Sequence[Passage], _: Truncate | None) -> dict[str, Any]:
    """Build Infinity's body, which asks for logits; Infinity always truncates."""
    return _documents(model, query, passages) | {"raw_scores": True, "return_documents": False}


def tei_payload(_: str, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> dict[str, Any]:
    """Build Text Embeddings Inference's body, which asks for logits; a server has one model."""
    payload = {"query": query, "texts": _texts(passages), "raw_scores": True}
    return payload | ({"truncate": truncate == "END"} if truncate else {})


COHERE = Dialect("Cohere-like", cohere_payload, "results", "relevance_score")
VLLM = Dialect("vLLM", vllm_payload, "results", "relevance_score")
INFINITY = Dialect("Infinity", infinity_payload, "results", "relevance_score", logits=True, max_passages=2048)
TEI = Dialect("Text Embeddings Inference", tei_payload, None, "score", logits=True, max_passages=32)
_BY_OWNER = {"vllm": VLLM, "infinity": INFINITY}


@dataclass(frozen=True)
class Listing:
    """What a service says about itself: its models, its `/rerank` dialect, and how many passages it takes at once."""

    model_ids: list[str]
    dialect: Dialect | None = None
    max_passages: int | None = None


def parse_listing(body: bytes) -> Listing | None:
    """Read the answer of `/v1/models`, `/models` or `/info`; None where it is something else."""
    try:
        answer = from_json(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    if isinstance(answer.get("model_id"), str) and "max_client_batch_size" in answer:
        most = answer["max_client_batch_size"]
        return Listing([answer["model_id"]], TEI, most if type(most) is int and most > 0 else None)
    entries, name = answer.get("data"), "id"
    if entries is None:  # Cohere lists what each model is for
        entries, name = answer.get("models"), "name"
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    ids = [entry.get(name) for entry in entries if "rerank" in entry.get("endpoints", ["rerank"])]
    if not all(isinstance(id_, str) and id_ for id_ in ids):
        return None
    owners = {str(entry.get("owned_by")).lower() for entry in entries}
    dialect = next((_BY_OWNER[owner] for owner in sorted(owners) if owner in _BY_OWNER), None)
    return Listing(ids, dialect)


def is_tei_refusal(status: int, message: str) -> bool:
    """Return whether a refusal is that of Text Embeddings Inference for a body in Cohere's shape."""
    return status in (400, 422) and "missing field `texts`" in message
